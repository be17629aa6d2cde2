"""Checkpoints at URLs, through fsspec: whole files are carried there and back."""

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from types import ModuleType
from typing import Any

from lx.kernel.errors import CheckpointNotFoundError, MisconfigurationException


@contextlib.contextmanager
def downloaded(url: str) -> Iterator[Path]:
    """A local copy, as long as the block runs.

    Raises `CheckpointNotFoundError`, `MisconfigurationException` for a protocol that is not installed, and what the storage raises.
    """
    with _storage(url) as (files, name), tempfile.TemporaryDirectory(prefix="lx-checkpoint-") as folder:
        copy = Path(folder) / Path(name).name
        try:
            files.get_file(name, str(copy))
        except FileNotFoundError as error:
            raise CheckpointNotFoundError(f"there is no checkpoint {url!r}.") from error
        try:
            yield copy
        except Exception as error:
            error.add_note(f"{str(copy)!r} was a copy of {url!r}.")
            raise


@contextlib.contextmanager
def uploading(url: str) -> Iterator[Path]:
    """A local path, whose file is carried to the URL when the block ends well."""
    with _storage(url) as (files, name), tempfile.TemporaryDirectory(prefix="lx-checkpoint-") as folder:
        copy = Path(folder) / Path(name).name
        yield copy
        if parent := name.rpartition("/")[0]:
            files.makedirs(parent, exist_ok=True)
        files.put_file(str(copy), name)


def remove(url: str) -> None:
    """Removes what is at a URL; nothing happens if nothing is."""
    with _storage(url) as (files, name):
        if files.exists(name):
            files.rm(name, recursive=True)


def exists(url: str) -> bool:
    """Whether there is something at a URL."""
    with _storage(url) as (files, name):
        files.invalidate_cache(name)  # another process may have written there
        return bool(files.exists(name))


def names_in(url: str) -> list[str]:
    """The names of what is in a folder, none if there is no such folder."""
    with _storage(url) as (files, name):
        files.invalidate_cache(name)
        try:
            found = [str(path).strip("/") for path in files.ls(name, detail=False)]
        except FileNotFoundError:
            return []
    return sorted(path.rpartition("/")[2] for path in found if path != name.strip("/"))  # a store of objects may list the folder itself


def modified(url: str) -> float:
    """When a file was written, in seconds since 1970.

    Raises `FileNotFoundError`, and `MisconfigurationException` for a storage that does not keep that.
    """
    with _storage(url) as (files, name):
        try:
            when = files.modified(name)
        except NotImplementedError:
            raise MisconfigurationException(
                f"the storage of {url!r} does not say when files were written, so the newest cannot be found; give the path of the one."
            ) from None
    return float((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


@contextlib.contextmanager
def _storage(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the name in it."""
    try:
        files, name = _fsspec(url).core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # no such protocol, or its package is missing
        raise MisconfigurationException(
            f"{url!r} is a URL that cannot be used here: {error}. Install what that says, or copy the checkpoint to or from there yourself."
        ) from error
    yield files, name


def _fsspec(url: str) -> ModuleType:
    try:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 -- for URLs alone
    except ImportError:
        raise MisconfigurationException(
            f"{url!r} is a URL, which the checkpoint I/O 'torch_io' uses through fsspec; `pip install fsspec` and the package of its"
            " protocol, or copy the checkpoint to or from there yourself."
        ) from None
    return fsspec  # type: ignore[no-any-return]
