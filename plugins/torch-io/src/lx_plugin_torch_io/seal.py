"""The digest of a whole file in that same file: what a zip archive may end with, a comment, which every reader of zip archives skips."""

import contextlib
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lx.files.digest import BLOCK, Digest

MARK = b"lx-digest-1:"
SEAL = len(MARK) + 32
"""How long the comment is, in bytes: the mark, then the digest in hexadecimal digits, so that tools which show comments can show it."""

END_RECORD = b"PK\x05\x06"
END = 22
"""How long the last record of a zip archive is, in bytes. It begins with `END_RECORD`, and ends with the length of the comment."""

POPULATE_READ = 22
"""MADV_POPULATE_READ of Linux 5.14: reads what a mapping maps, and returns an error where an access would end the process."""


class Sealing:
    """A file to which an archive is written, in order; at its end comes the digest of all that was written before.

    The last record is held back, since it says how long the comment after it is. The error of a write that failed is kept, since
    `torch.save` hides it behind one of its own.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None
        self._held = b""
        self._digest = Digest()

    def write(self, data: Any) -> int:
        """Writes bytes."""
        view = memoryview(data).cast("B")
        if len(view) >= END:
            self._pass_on(self._held)
            self._pass_on(view[:-END])
            self._held = bytes(view[-END:])
        else:
            joined = self._held + bytes(view)
            self._pass_on(joined[:-END])
            self._held = joined[-END:]
        return len(view)

    def flush(self) -> None:
        """Hands what is buffered to the system, except for what is held back."""
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise

    def finish(self) -> None:
        """Writes what was held back, and the digest where it is the end of an archive that has no comment."""
        if not self._held.startswith(END_RECORD) or self._held[-2:] != b"\0\0":
            self._pass_on(self._held)
            return
        self._pass_on(self._held[:-2] + SEAL.to_bytes(2, "little") + MARK)
        self._file.write(self._digest.value().hex().encode())

    def _pass_on(self, data: Any) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise


@contextlib.contextmanager
def sealed(file: IO[bytes]) -> Iterator[Any]:
    """A file to write an archive to; when the block ends well, its digest is added. Where a write failed, that error leaves the block."""
    sealing = Sealing(file)
    try:
        yield sealing
    except Exception:
        if sealing.error is not None:
            raise sealing.error from None
        raise
    sealing.finish()


def broken_seal(path: Path, with_content: bool = True) -> str | None:
    """What is wrong with an archive or its digest; empty if nothing is, None if it has no digest, and ends as it should.

    `with_content=False` looks at the end alone, which says whether the file is truncated.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - END))
        tail = file.read()
        mark, digest = tail[-SEAL : len(MARK) - SEAL], tail[len(MARK) - SEAL :]
        if mark == MARK:
            if not with_content:
                return ""
            found = _digest_of(file, size - len(digest)).value().hex().encode()
            return "" if digest == found else "its content and its digest differ"
    start = tail.rfind(END_RECORD)
    length = int.from_bytes(tail[start + END - 2 : start + END], "little")
    if start < 0 or start + END + length != len(tail):
        return "its end is missing or damaged"
    return "its digest is damaged" if length == SEAL else None


def _digest_of(file: IO[bytes], end: int) -> Digest:
    """The digest of a file up to `end`.

    It is mapped where that is safe: to copy it out of the cache of the system would take as long as to add it up.
    """
    digest = Digest()
    position = _add_mapped(digest, file.fileno(), end) if sys.platform == "linux" and end >= BLOCK else 0
    file.seek(position)
    buffer = memoryview(bytearray(min(end, BLOCK)))
    while position < end and (count := file.readinto(buffer[: end - position])):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
        position += count
    return digest


def _add_mapped(digest: Digest, descriptor: int, end: int) -> int:
    """Adds what can be read by mapping, and returns how far that was; what cannot, such as a failing disk, is for plain reading to name."""
    try:
        mapped = mmap.mmap(descriptor, end, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # a file system without mapping; a file that is shorter by now
        return 0
    with mapped, memoryview(mapped) as view:
        for start in range(0, end, BLOCK):
            stop = min(start + BLOCK, end)
            page = start - start % mmap.PAGESIZE
            try:
                mapped.madvise(POPULATE_READ, page, stop - page)
            except OSError:
                return start
            with view[start:stop] as block:
                digest.update(block)
    return end
