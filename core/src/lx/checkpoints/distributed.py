"""Folders of torch.distributed.checkpoint: looked into, read and written by one process, and nothing in them is ever run.

torch itself unpickles the index of such a folder, and the values in it that are no tensors, with anything that these name. Here the index
is read with stand-ins for torch's classes, and everything else with `weights_only=True`.
"""

import io
import math
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lx.checkpoints.migration import VERSION
from lx.kernel.errors import CheckpointCorruptError

INDEX = ".metadata"
"""The file that says what lies where in the others."""
META = "meta.pt"
"""The file beside the shards with all that is no tensor of the model or of an optimizer."""
ZIP = b"PK\x03\x04"

Read = Callable[[Path], dict[str, Any]]
"""Reads the file beside the shards."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes in a file of the folder: a part of a tensor, from `offsets` on, or something else that was saved."""

    file: str
    start: int
    length: int
    offsets: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """What was saved under one name: its place in nested dictionaries and lists, and, of a tensor, dtype and shape."""

    name: str
    place: tuple[str | int, ...]
    pieces: tuple[Piece, ...]
    dtype: torch.dtype | None = None
    shape: tuple[int, ...] = ()


def is_sharded(folder: Path) -> bool:
    """Whether a folder was written by torch.distributed.checkpoint."""
    return (folder / INDEX).is_file()


def outline(folder: Path, read: Read) -> dict[str, Any]:
    """What is in a folder, under the keys of one file, with tensors on the meta device, of which no byte is read.

    `read` reads the file beside the shards, if there is one. Raises `CheckpointCorruptError`.
    """
    return _joined(folder, read, lambda entry: torch.empty(entry.shape, dtype=entry.dtype, device="meta"))


def load(folder: Path, read: Read) -> dict[str, Any]:
    """The content of a folder, under the keys of one file; each part is compared with its checksums.

    `read` reads the file beside the shards, if there is one. Raises `CheckpointCorruptError`.
    """
    return _joined(folder, read, lambda entry: _tensor(folder, entry))


def save(content: dict[str, Any], folder: Path, write: Callable[[dict[str, Any], Path], None]) -> None:
    """Writes a checkpoint as the folder that a sharded strategy would save; `write` writes the file beside the shards.

    Optimizers keep their numbering: their states are those of the file, and not by names of parameters.
    """
    from torch.distributed.checkpoint.state_dict_saver import save as save_shards  # noqa: PLC0415 -- half a second, for writing alone

    if VERSION in content and "state_dict" in content:
        optimizers = {f"optimizer_{number}": state for number, state in enumerate(content.get("optimizer_states", []))}
        shards = {"model": content["state_dict"], **optimizers}
        meta = {key: value for key, value in content.items() if key != "state_dict" and not (key == "optimizer_states" and optimizers)}
    else:  # of Fabric, or of no program of lx: the keys stay
        shards = {key: value for key, value in content.items() if _holds_tensors(value)}
        meta = {key: value for key, value in content.items() if key not in shards}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # which is meant
        save_shards(shards, checkpoint_id=folder, no_dist=True)
    if meta:
        write(meta, folder / META)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_tensors(one) for one in value.values())
    return isinstance(value, torch.Tensor)


def _joined(folder: Path, read: Read, tensor: Callable[[Entry], torch.Tensor]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for entry in _index(folder):
        _put(content, entry.place, _value(folder, entry) if entry.dtype is None else tensor(entry))
    meta = folder / META
    return named_as_in_a_file(content, read(meta) if meta.exists() else {})


def named_as_in_a_file(tensors: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """What lies in the shards and beside them, under the keys that a checkpoint of a Trainer has where it is one file."""
    if VERSION not in meta:  # of Fabric, whose keys are the user's
        return {**meta, **{key: _numbered(value) for key, value in tensors.items()}}
    content, optimizers = dict(meta), []
    for key, value in tensors.items():
        if key == "model":
            content["state_dict"] = value
        elif key.startswith("optimizer_") and key.removeprefix("optimizer_").isdecimal():
            optimizers.append((int(key.removeprefix("optimizer_")), _numbered({"state": {}, **value})))  # shards hold no empty dictionary
        else:
            content[key] = value
    if optimizers:
        content["optimizer_states"] = [state for _, state in sorted(optimizers, key=lambda pair: pair[0])]
    return content


def _numbered(optimizer: Any) -> Any:
    """Keys of states are strings in a folder; where the groups of an optimizer have numbers, they were numbers."""
    if not isinstance(optimizer, dict) or not {"state", "param_groups"} <= optimizer.keys():
        return optimizer
    numbers = {str(one): one for group in optimizer["param_groups"] for one in group.get("params", [])}
    return {**optimizer, "state": {numbers.get(key, key): state for key, state in optimizer["state"].items()}}


def _put(content: Any, place: tuple[str | int, ...], value: Any) -> None:
    """Sets a value at its place, and makes the dictionaries and lists around it."""
    for step, following in zip(place, (*place[1:], None), strict=True):
        if isinstance(step, int):
            content.extend([None] * (step + 1 - len(content)))
        inner: Any = [] if isinstance(following, int) else {}
        if following is None:
            content[step] = value
        elif isinstance(step, int) and content[step] is None:
            content[step] = inner
        elif not isinstance(step, int):
            content.setdefault(step, inner)
        content = content[step]


# -- the bytes of the parts --------------------------------------------------------------------------------------------------------


def _value(folder: Path, entry: Entry) -> Any:
    return _unpickled(folder, entry, entry.pieces[0])


def _tensor(folder: Path, entry: Entry) -> torch.Tensor:
    whole = torch.empty(entry.shape, dtype=entry.dtype)
    for piece in entry.pieces:
        part = _unpickled(folder, entry, piece)
        if not isinstance(part, torch.Tensor) or tuple(part.shape) != piece.sizes:
            raise _corrupt(folder, f"the part of {entry.name!r} in {piece.file} is not what the index says")
        target = whole
        for axis, (offset, size) in enumerate(zip(piece.offsets, piece.sizes, strict=True)):
            target = target.narrow(axis, offset, size)
        target.copy_(part)
    return whole


def _unpickled(folder: Path, entry: Entry, piece: Piece) -> Any:
    file = folder / piece.file
    if folder.resolve() not in file.resolve().parents:
        raise _corrupt(folder, f"its index names a file elsewhere, {piece.file!r}")
    if not file.is_file():
        raise _corrupt(folder, f"the file {piece.file} is missing, in which {entry.name!r} is")
    with file.open("rb") as opened:
        opened.seek(piece.start)
        content = opened.read(piece.length)
    if len(content) < piece.length:
        raise _corrupt(folder, f"the file {piece.file} is truncated, in which {entry.name!r} is")
    try:
        if content.startswith(ZIP):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"the content and the checksums of {damaged} differ")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).partition("\n")[0]
        raise _corrupt(folder, f"{entry.name!r} in {piece.file} cannot be read ({reason})") from error


def _corrupt(folder: Path, reason: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"the shards in {str(folder)!r} cannot be read: {reason}.")


# -- the index ---------------------------------------------------------------------------------------------------------------------


def _index(folder: Path) -> list[Entry]:
    try:
        with (folder / INDEX).open("rb") as file:
            index = _IndexReader(file).load()
        return list(_entries(index))
    except CheckpointCorruptError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise _corrupt(folder, f"its index is damaged ({error})") from error


def _entries(index: Any) -> Iterator[Entry]:
    stored = {(at.fqn, tuple(getattr(at, "offset", None) or ())): where for at, where in index.storage_data.items()}
    places = getattr(index, "planner_data", None) or {}
    for name, saved in index.state_dict_metadata.items():
        place = tuple(places.get(name, (name,)))
        if not hasattr(saved, "chunks"):
            yield Entry(name, place, (_piece(stored[name, ()]),))
            continue
        pieces = tuple(_piece(stored[name, tuple(chunk.offsets)], chunk.offsets, chunk.sizes) for chunk in saved.chunks)
        if sum(math.prod(piece.sizes) for piece in pieces) != math.prod(saved.size):
            raise ValueError(f"the parts of {name!r} do not make the whole")
        yield Entry(name, place, pieces, saved.properties.dtype, tuple(saved.size))


def _piece(where: Any, offsets: Any = (), sizes: Any = ()) -> Piece:
    if getattr(where, "transform_descriptors", None):
        raise ValueError("its parts were compressed by an extension, which only torch.distributed.checkpoint.load reads")
    return Piece(str(where.relative_path), where.offset, where.length, tuple(offsets), tuple(sizes))


class _IndexReader(pickle.Unpickler):
    """Reads an index. Of what it names, dtypes, sizes and ordered dictionaries are real; torch's own classes become inert records."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._record = type("Record", (), {"__new__": lambda cls, *_: object.__new__(cls), "__setstate__": _take_state})

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the index stands for."""
        if module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module.partition(".")[0] in ("torch", "pathlib"):
            return self._record
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not torch's, and is not run")


def _take_state(record: Any, state: Any) -> None:
    """The state of a record: its fields, or, for the properties of a tensor, a tuple that begins with the dtype."""
    record.__dict__.update(state if isinstance(state, dict) else {"dtype": state[0]})
