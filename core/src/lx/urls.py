"""Which paths are URLs, such as `s3://bucket/runs`, and how names are put behind either."""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from lx.kernel.errors import ArgumentTypeError

URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*?)/*", re.IGNORECASE | re.DOTALL)
"""A scheme of one letter is a drive. Of a URL that went through `Path`, one slash is left."""


def local_or_url(path: str | os.PathLike[str]) -> Path | str:
    """A local path, which `file:` names too, or a URL with both of its slashes, and none at its end.

    >>> local_or_url(Path("s3://bucket/runs")), local_or_url("file:///runs").as_posix()
    ('s3://bucket/runs', '/runs')
    """
    found = URL.fullmatch(os.fspath(path))
    if found is None:
        return Path(path)
    scheme, rest = found.groups()
    return Path(f"/{rest}") if scheme.lower() == "file" else f"{scheme.lower()}://{rest}"


def require_path(name: str, value: Any, *, or_none: bool = True) -> None:
    """Raises `ArgumentTypeError` for an argument that is neither a path nor, where that is allowed, None.

    >>> require_path("dirpath", 3)
    Traceback (most recent call last):
    lx.kernel.errors.ArgumentTypeError: dirpath=3: it must be a path, as a string or a Path, or None.
    """
    if not (isinstance(value, str | os.PathLike) or (or_none and value is None)):
        raise ArgumentTypeError(f"{name}={value!r}: it must be a path, as a string or a Path{', or None' if or_none else ''}.")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is on no file system of this machine.

    >>> is_url("s3://bucket/runs"), is_url("file:///runs"), is_url("runs")
    (True, False, False)
    """
    return isinstance(local_or_url(path), str)


def join(folder: str | os.PathLike[str], *names: str) -> str:
    """The path of something in a folder, which may be a URL.

    >>> join("s3://bucket", "runs", "last.ckpt")
    's3://bucket/runs/last.ckpt'
    """
    place = local_or_url(folder)
    return posixpath.join(place, *names) if isinstance(place, str) else os.path.join(folder, *names)
