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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from lx.files.digest import BLOCK, Digest
from lx.kernel.errors import CheckpointCorruptError, CheckpointError
from lx_plugin_safetensors_io.tensors import Entry, TensorTable, content, memory

BEGINNING = b'{"__metadata__":{"lx.checksums":"'
DIGITS = 32
"""How long each of the two checksums is."""

ALIGNED = 64
CHUNK = 4 * BLOCK
"""How many bytes are read, and added to the checksum while they are in the cache."""

OF_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
"""How files of `torch.save` begin, since 1.6 and before."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself; the bytes of the tensors begin at `start`. Files of others have no checksum, and tensors alone."""

    entries: dict[str, Entry]
    structure: str
    checksum: str | None
    start: int
    size: int


def write(file: IO[bytes], structure: str, table: TensorTable) -> None:
    """Writes a whole file to one that is empty, and can be sought in."""
    entries = table.entries()
    listed = {name: {"dtype": one.code, "shape": one.shape, "data_offsets": [one.begin, one.end]} for name, one in entries.items()}
    metadata = {"lx.checksums": "0" * 2 * DIGITS, "format": "pt", "lx.structure": structure}
    header = json.dumps({"__metadata__": metadata, **listed}, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNED)
    file.write(len(header).to_bytes(8, "little") + header)
    of_tensors = Digest()
    for name in entries:
        elements = content(table.tensors[name])
        for chunk in _chunks(memory(elements, elements.numel())):
            of_tensors.update(chunk)
            file.write(chunk)
    digits = of_tensors.value().hex()
    place = len(BEGINNING) + DIGITS
    header = header[:place] + digits.encode() + header[place + DIGITS :]
    file.seek(8 + len(BEGINNING))
    file.write((checksum(header) + digits).encode())


def _chunks(data: memoryview) -> Iterator[memoryview]:
    for begin in range(0, len(data), CHUNK):
        yield data[begin : begin + CHUNK]


def checksum(header: bytes) -> str:
    """The checksum of a header and its length, its own digits taken as zeros."""
    place = len(BEGINNING)
    blank = header[:place] + b"0" * DIGITS + header[place + DIGITS :]
    return hashlib.blake2b(len(header).to_bytes(8, "little") + blank, digest_size=DIGITS // 2).hexdigest()


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
    if checksum(header).encode() != header[place : place + DIGITS]:
        raise corrupt(path, "its header and its checksum differ")
    return header[place + DIGITS :][:DIGITS].decode()


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
    of_tensors = Digest()
    storages = {}
    for name, entry in sorted(header.entries.items(), key=lambda item: item[1].begin):
        storages[name] = storage = torch.UntypedStorage(entry.end - entry.begin)
        for chunk in _chunks(memory(storage, entry.end - entry.begin)):
            if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
                raise corrupt(path, "it ended while it was read")
            if verify:
                of_tensors.update(chunk)
    if verify:
        _compare(of_tensors, path, header)
    return storages


def map_tensors(path: Path, header: Header, verify: bool) -> dict[str, torch.UntypedStorage]:
    """The bytes of all tensors, as pages of the file that the system reads when they are looked at; what is written to them is not kept."""
    whole: Any = torch.UntypedStorage.from_file(str(path), False, header.size)
    if verify:
        of_tensors = Digest()
        of_tensors.update(memory(whole, header.size)[header.start :])
        _compare(of_tensors, path, header)
    return {name: whole[header.start + one.begin : header.start + one.end] for name, one in header.entries.items()}


def _compare(of_tensors: Digest, path: Path, header: Header) -> None:
    if header.checksum not in (None, of_tensors.value().hex()):
        raise corrupt(path, "the bytes of its tensors and their checksum differ")


def corrupt(path: Path, reason: Any) -> CheckpointCorruptError:
    """The error for a file that is truncated, damaged, or none of these."""
    return CheckpointCorruptError(f"{str(path)!r} cannot be read as a checkpoint of 'safetensors_io': {reason}.")
