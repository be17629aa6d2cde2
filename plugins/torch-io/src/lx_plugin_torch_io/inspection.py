"""Finds out what is wrong with a checkpoint file, without unpickling anything."""

import errno
import pickle
import pickletools
import re
import zipfile
from pathlib import Path

from torch.serialization import get_unsafe_globals_in_checkpoint

from lx.kernel.errors import CheckpointCorruptError, CheckpointError
from lx_plugin_torch_io.seal import broken_seal

ZIP_MAGIC = b"PK\x03\x04"
"""How a file of torch 1.6 or later begins: it is a zip archive of uncompressed records."""

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of an older torch begins: five pickles, of which this is the first, then the bytes of the tensors."""

SAFETENSORS = b'{"'
"""How the header of a file of safetensors begins, behind its length in 8 bytes."""

RECORD_NAME_LENGTH, RECORD_NAME = slice(26, 28), 30
"""Where a zip archive says how long the name of its first record is, and where that begins."""

CHUNK = 1 << 20
MARKED_AS_FOLDER = 0x10


def begins_well(path: Path) -> bool:
    """Whether a file begins as one of `torch.save`: with the first pickle of an old one, or a record `data.pkl` in an archive."""
    with path.open("rb") as file:
        head = file.read(RECORD_NAME)
        name = file.read(int.from_bytes(head[RECORD_NAME_LENGTH], "little")) if head.startswith(ZIP_MAGIC) else b""
    return name.endswith(b"/data.pkl") or head.startswith(LEGACY_MAGIC)


def check_end(path: Path) -> None:
    """Raises `CheckpointCorruptError` if an archive is truncated; a fraction of a millisecond, whatever its size."""
    if is_archive(path) and (wrong := broken_seal(path, with_content=False)):
        raise _corrupt(path, wrong)


def is_archive(path: Path) -> bool:
    """Whether a file is in the format of torch 1.6 or later."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def check_whole(path: Path) -> None:
    """Raises `CheckpointCorruptError`, with the file and the reason, if a file is truncated, damaged, or no checkpoint of torch, and
    `CheckpointError` for a file of safetensors.

    What `torch_io` wrote has a digest of the whole file, and no change of any byte passes. What others wrote has checksums of its content.
    """
    with path.open("rb") as file:
        head = file.read(len(LEGACY_MAGIC))
    if not head:
        raise _corrupt(path, "it is empty")
    if head == LEGACY_MAGIC:
        _check_pickles(path)
    elif head.startswith(ZIP_MAGIC):
        wrong = broken_seal(path)
        if wrong is None:
            _check_archive(path)
        elif wrong:
            raise _corrupt(path, wrong)
    elif ZIP_MAGIC.startswith(head) or LEGACY_MAGIC.startswith(head):
        raise _corrupt(path, f"it ends after {len(head)} bytes")
    elif head[8:].startswith(SAFETENSORS) and int.from_bytes(head[:8], "little") < path.stat().st_size:
        raise CheckpointError(
            f"{str(path)!r} is a file of safetensors, which the checkpoint I/O 'torch_io' does not read. Trainer(plugins='safetensors_io')"
            " reads it as it is; `lx ckpt convert` makes a file of torch.save of it."
        )
    else:
        raise _corrupt(path, "it does not begin as a file of torch.save does")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            for record in records:
                _check_record(archive, record)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # an offset that makes no sense is one thing, a failing disk another
            raise
        raise _corrupt(path, "its table of contents is damaged") from error
    except Exception as error:  # what damage does to the archive's own fields shows in many ways
        reason = "its content and its checksums differ" if "CRC" in str(error) else "its table of contents is damaged"
        raise _corrupt(path, f"{reason} ({error})") from error
    if not any(record.filename.endswith("/data.pkl") for record in records):
        raise _corrupt(path, "it is a zip archive without the record data.pkl")


def _check_record(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    if record.external_attr & MARKED_AS_FOLDER:
        raise zipfile.BadZipFile(f"{record.filename} is marked as a folder")  # which torch reads as whatever is in memory
    if record.CRC:  # 0 where checksums were switched off (torch.serialization.set_crc32_options)
        with archive.open(record) as file:
            while file.read(CHUNK):
                pass


def _check_pickles(path: Path) -> None:
    with path.open("rb") as file:
        try:
            for _ in range(5):
                for _ in pickletools.genops(file):
                    pass
        except Exception as error:  # not only ValueError: damage reaches every decoder
            raise _corrupt(path, f"it ends early or is damaged ({error})") from error


def explained(error: Exception, path: Path) -> Exception:
    """The exception to raise for one that `torch.load` raised on a file that `check_whole` passed."""
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error):
        return CheckpointError(_refusal(error, path))
    if isinstance(error, EOFError | IndexError | KeyError | ValueError) or re.search(
        "PytorchStreamReader|inline_container|unexpected EOF", str(error)
    ):
        return _corrupt(path, str(error).partition("\n")[0])
    error.add_note(f"This happened while the checkpoint {str(path)!r} was read.")
    return error


def _refusal(error: Exception, path: Path) -> str:
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, pickle.UnpicklingError):  # a file of an old torch, or one that it cannot follow
        names = re.findall(r"GLOBAL (\S+)", str(error))
    listed = ", ".join(names) or str(error).partition("\n")[0]
    return (
        f"{str(path)!r} holds more than tensors and plain values ({listed}), and reading it with weights_only=True, the default, refuses "
        "that, since such a file can run any code. If you trust where it comes from, pass weights_only=False, or allow its classes with "
        "torch.serialization.add_safe_globals([...])."
    )


def _corrupt(path: Path, reason: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"the checkpoint {str(path)!r} cannot be read: {reason}. It is truncated, damaged, or no checkpoint; use another one."
    )
