"""SLURM's way to write down many hosts."""

import re

from lx.kernel.errors import MisconfigurationException

_HOSTS = re.compile(r"(?:[^\s,\[\]]|\[[^\[\]]*\])+(?=[\s,]|$)")
"""Hosts with one name but for numbers; commas and blanks are between two of them, outside of brackets."""

_NUMBERS = re.compile(r"\[(\d+)[^\[\]]*\]")


def first_host(nodes: str) -> str:
    """The first host of a list; numbers keep their zeros. Raises `MisconfigurationException` if there is none.

    >>> first_host("host[07-09,11],other")
    'host07'
    """
    found = _HOSTS.match(nodes.strip())
    host = _NUMBERS.sub(r"\1", found[0]) if found else ""
    if not host or "[" in host:
        raise MisconfigurationException(
            f"the node list {nodes!r} names no host that can be read, such as host[07-09],other; set MASTER_ADDR to the host of rank 0."
        )
    return host
