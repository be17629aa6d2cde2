"""The arguments of a Comet experiment, also under the names that they had once."""

from typing import Any

from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_deprecation

_RENAMED = {"project_name": "project", "experiment_name": "name", "save_dir": "offline_directory", "offline": "online"}
_GONE = "rest_api_key"


def renamed(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments under their present names, with a warning for each former one; those that are None count as not given.

    `offline` is `online`, inverted; `rest_api_key`, which nothing needs any more, is dropped. Raises `MisconfigurationException` where
    both the former and the present name are given.

    >>> renamed({"project": None, "log_code": False})
    {'log_code': False}
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if given.pop(_GONE, None) is not None:
        rank_zero_deprecation(f"CometLogger({_GONE}=...) is of no account any more: `api_key` serves for everything.")
    for former, present in _RENAMED.items():
        if former not in given:
            continue
        value = given.pop(former)
        shown, now = (bool(value), f"{present}={not value}") if former == "offline" else (repr(value), f"{present}={value!r}")
        if present in given:
            raise MisconfigurationException(
                f"CometLogger got both {former}={shown} and {present}={given[present]!r}: leave {former} away, its former name."
            )
        rank_zero_deprecation(f"CometLogger({former}={shown}) is now written {now}.")
        given[present] = not value if former == "offline" else value
    return given
