"""A file of safetensors that carries a checkpoint, and checksums of all its bytes.

    8 bytes      the length of the header
    header       JSON: {"__metadata__": {"lx.checksums": ..., "format": "pt", "lx.structure": ...}, "layer.weight": {...}, ...}
    tensors      their bytes, without gaps

The checksums come first, so that they can be compared before the header is parsed: one of the header, in which it is counted as zeros,
and one of the bytes of the tensors.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from lx.kernel.errors import CheckpointCorruptError, CheckpointError
from lx_plugin_safetensors_io.tensors import Entry, TensorTable, content, memory

BEGINNING = b'{"__metadata__":{"lx.checksums":"'
OF_HEADER, OF_TENSORS = 32, 8
"""Digits of the two checksums: BLAKE2 of the small one, CRC-32, which is four times as fast, of the big one."""

ALIGNED = 64
CHUNK, WORTH_A_THREAD = 1 << 22, 1 << 18
OF_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
"""How files of `torch.save` begin, since 1.6 and before."""


UNLIKE = "the bytes of its tensors and their checksum differ"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself; the bytes of the tensors begin at `start`. Files of others have no checksum, and tensors alone."""

    entries: dict[str, Entry]
    structure: str
    checksum: str | None
    start: int
    size: int


class Checksum:
    """A CRC-32. That of big pieces is computed in a thread, beside the one that reads or writes, which takes as long."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool, self._crc = pool, 0
        self._last: Future[None] | None = None

    def add(self, data: memoryview) -> None:
        """Goes on with these bytes, which must stay as they are until `settle`."""
        if len(data) >= WORTH_A_THREAD:
            try:
                self._last = self._pool.submit(self._go_on, data)
            except RuntimeError:  # the interpreter is about to end, and starts no threads any more
                pass
            else:
                return
        self.settle()
        self._go_on(data)

    def settle(self) -> None:
        """Waits for the thread."""
        if self._last is not None:
            self._last.result()
            self._last = None

    def _go_on(self, data: memoryview) -> None:
        self._crc = zlib.crc32(data, self._crc)

    @property
    def digits(self) -> str:
        """The checksum so far, in hexadecimal digits."""
        self.settle()
        return f"{self._crc:0{OF_TENSORS}x}"


@contextmanager
def checksum() -> Iterator[Checksum]:
    """A checksum of what is added to it in the block."""
    with ThreadPoolExecutor(1, "lx-checksum") as pool:
        yield Checksum(pool)


def write(file: IO[bytes], structure: str, table: TensorTable) -> None:
    """Writes a whole file to one that is empty, and can be sought in."""
    entries = table.entries()
    listed = {name: {"dtype": one.code, "shape": one.shape, "data_offsets": [one.begin, one.end]} for name, one in entries.items()}
    metadata = {"lx.checksums": "0" * (OF_HEADER + OF_TENSORS), "format": "pt", "lx.structure": structure}
    header = json.dumps({"__metadata__": metadata, **listed}, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNED)
    file.write(len(header).to_bytes(8, "little") + header)
    with checksum() as of_tensors:
        for name in entries:
            elements = content(table.tensors[name])
            for chunk in _chunks(memory(elements, elements.numel())):
                of_tensors.add(chunk)
                file.write(chunk)
            of_tensors.settle()  # what was copied is freed
    place = len(BEGINNING) + OF_HEADER
    header = header[:place] + of_tensors.digits.encode() + header[place + OF_TENSORS :]
    file.seek(8 + len(BEGINNING))
    file.write((digest(header) + of_tensors.digits).encode())


def _chunks(data: memoryview) -> Iterator[memoryview]:
    for begin in range(0, len(data), CHUNK):
        yield data[begin : begin + CHUNK]


def digest(header: bytes) -> str:
    """The checksum of a header and its length, its own digits taken as zeros."""
    place = len(BEGINNING)
    blank = header[:place] + b"0" * OF_HEADER + header[place + OF_HEADER :]
    return hashlib.blake2b(len(header).to_bytes(8, "little") + blank, digest_size=OF_HEADER // 2).hexdigest()


def begins_well(path: str | Path) -> bool:
    """Whether a file begins as those of safetensors: with the length of a header that fits into it, and JSON."""
    with open(path, "rb") as file:
        head = file.read(10)
        return head[8:] == b'{"' and 8 + _length(head) <= os.fstat(file.fileno()).st_size


def _length(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")


def read_header(file: IO[bytes], path: Path) -> Header:
    """The header of an open file, compared with its checksum, and the size of the file with what it says; the tensors are next then.

    Raises `CheckpointCorruptError`, and `CheckpointError` for a file of `torch.save`.
    """
    size = os.fstat(file.fileno()).st_size
    head = file.read(8 + len(BEGINNING))
    if not head:
        raise corrupt(path, "it is empty")
    if head.startswith(OF_TORCH):
        raise CheckpointError(
            f"{str(path)!r} was written by torch.save, and the checkpoint I/O 'safetensors_io' reads no pickle. `lx ckpt convert` makes a"
            " file of safetensors of it; Trainer(plugins='torch_io') reads it as it is."
        )
    if head[8:9] not in (b"", b"{"):
        raise corrupt(path, "it does not begin as a file of safetensors does")
    end = 8 + _length(head)
    if len(head) <= 8 or end > size:
        raise corrupt(path, f"it ends after {size} bytes, within its header")
    header = (head + file.read(max(0, end - len(head))))[8:end]
    file.seek(end)
    digits = _checked(header, path)
    try:
        found = _parsed(header, digits)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # written by no one, or by someone who wants to see what happens
        raise corrupt(path, f"its header makes no sense ({error!r})") from error
    if found.size != size:
        raise corrupt(path, f"it has {size} bytes, and its header says {found.size}")
    return found


def _checked(header: bytes, path: Path) -> str | None:
    """The digits of the checksum of the tensors, once that of the header was compared; None for a header of somebody else."""
    place = len(BEGINNING)
    if not header.startswith(BEGINNING):
        if b'"lx.structure"' in header:
            raise corrupt(path, "the beginning of its header is damaged")
        return None
    if digest(header).encode() != header[place : place + OF_HEADER]:
        raise corrupt(path, "its header and its checksum differ")
    return header[place + OF_HEADER :][:OF_TENSORS].decode()


def _parsed(header: bytes, digits: str | None) -> Header:
    listed = json.loads(header)
    metadata = listed.pop("__metadata__", {})
    entries = {name: Entry(one["dtype"], tuple(one["shape"]), *one["data_offsets"]) for name, one in listed.items()}
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end or entry.end < end:
            raise ValueError(f"tensors overlap, or there is a gap, at byte {entry.begin}")
        end = entry.end
    structure = metadata["lx.structure"] if digits is not None else json.dumps({"$dict": [[name, {"$tensor": name}] for name in entries]})
    return Header(entries, structure, digits, 8 + len(header), 8 + len(header) + end)


def read_tensors(file: IO[bytes], path: Path, header: Header, verify: bool) -> dict[str, torch.UntypedStorage]:
    """The bytes of all tensors, from where `read_header` left the file, each in memory of its own."""
    verify = verify and header.checksum is not None
    storages = {}
    with checksum() as of_tensors:
        for name, entry in sorted(header.entries.items(), key=lambda item: item[1].begin):
            storages[name] = storage = torch.UntypedStorage(entry.end - entry.begin)
            for chunk in _chunks(memory(storage, entry.end - entry.begin)):
                if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
                    raise corrupt(path, "it ended while it was read")
                if verify:
                    of_tensors.add(chunk)
    if verify and of_tensors.digits != header.checksum:
        raise corrupt(path, UNLIKE)
    return storages


def map_tensors(path: Path, header: Header, verify: bool) -> dict[str, torch.UntypedStorage]:
    """The bytes of all tensors, as pages of the file that the system reads when they are looked at; what is written to them is not kept."""
    whole: Any = torch.UntypedStorage.from_file(str(path), False, header.size)
    if verify and header.checksum is not None:
        with checksum() as of_tensors:
            of_tensors.add(memory(whole, header.size)[header.start :])
        if of_tensors.digits != header.checksum:
            raise corrupt(path, UNLIKE)
    return {name: whole[header.start + one.begin : header.start + one.end] for name, one in header.entries.items()}


def corrupt(path: Path, reason: Any) -> CheckpointCorruptError:
    """The error for a file that is truncated, damaged, or none of these."""
    return CheckpointCorruptError(f"{str(path)!r} cannot be read as a checkpoint of 'safetensors_io': {reason}.")
