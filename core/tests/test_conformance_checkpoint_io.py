"""The suite of the checkpoint I/Os: a small whole one passes, and each fault is found by the test that is there for it."""

import contextlib
import copy
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.files.replacing import replaced
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.kernel import Entry
from lx.kernel.errors import CheckpointCorruptError, CheckpointNotFoundError
from lx.testing.conformance.checkpoint_io import CannotBeSavedError, CheckpointIOConformance


class Whole(CheckpointIO):
    """Pickles to memory, and writes that, its length and its checksum."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a file beside the old one, which it replaces."""
        content = pickle.dumps(checkpoint)
        with replaced(Path(path)) as file:
            file.write(zlib.crc32(content).to_bytes(4, "big") + content)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads it, if the checksum is right."""
        if not Path(path).exists():
            raise CheckpointNotFoundError(str(path))
        raw = Path(path).read_bytes()
        if len(raw) <= 4 or zlib.crc32(raw[4:]) != int.from_bytes(raw[:4], "big"):
            raise CheckpointCorruptError(str(path))
        loaded: dict[str, Any] = pickle.loads(raw[4:])
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a file, or a directory from the inside out."""
        path = Path(path)
        if path.is_dir():
            for entry in path.iterdir():
                self.remove_checkpoint(entry)
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


class TestWhole(CheckpointIOConformance):
    component = "whole"
    test_is_found_without_torch = test_is_a_class_of_its_kind = None  # it is no plugin that is installed

    @pytest.fixture
    def entry(self) -> Entry:
        return Entry("checkpoint_io", "whole", "this program", Whole, summary="a small one")

    def build(self, **extra: Any) -> Any:
        return Whole()


class TestInTheBackground(TestWhole):
    """One that has written only when it is torn down."""

    def build(self, **extra: Any) -> Any:
        return Later()


class Later(Whole):
    def __init__(self) -> None:
        self.waiting: list[tuple[dict[str, Any], Path]] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        self.waiting.append((copy.copy(checkpoint), Path(path)))

    def teardown(self) -> None:
        waiting, self.waiting = self.waiting, []
        for checkpoint, path in waiting:
            super().save_checkpoint(checkpoint, path)


class ListsForTuples(Whole):
    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        loaded = super().load_checkpoint(path)
        return {**loaded, "plain": list(loaded["plain"])}


class RoundsTensors(Whole):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        rounded = {name: tensor.half().to(tensor.dtype) for name, tensor in checkpoint["state_dict"].items()}
        super().save_checkpoint({**checkpoint, "state_dict": type(checkpoint["state_dict"])(rounded)}, path)


class NeedsAFolder(Whole):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if not Path(path).parent.exists():
            raise FileNotFoundError(path)
        super().save_checkpoint(checkpoint, path)


class KeepsTheOld(Whole):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if not Path(path).exists():
            super().save_checkpoint(checkpoint, path)


class LeavesABackup(Whole):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path)
        Path(f"{path}.bak").touch()


class WritesInPlace(Whole):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        try:
            loaded: dict[str, Any] = torch.load(path)
        except (RuntimeError, EOFError, OSError) as error:
            raise CheckpointCorruptError(str(path)) from error
        return loaded


class LeavesTheNew(Whole):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        Path(f"{path}.new").touch()
        super().save_checkpoint(checkpoint, path)


class HidesErrors(Whole):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with contextlib.suppress(CannotBeSavedError):
            super().save_checkpoint(checkpoint, path)


class SharesMemory(Whole):
    shelf: dict[str, Any]

    def __init__(self) -> None:
        self.shelf = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path)
        self.shelf.setdefault(str(path), {}).update(checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        loaded: dict[str, Any] = self.shelf[str(path)]
        return loaded


class NamesNothing(Whole):
    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        if not Path(path).exists():
            raise CheckpointNotFoundError("no such checkpoint")
        return super().load_checkpoint(path)


class ReadsWhatThereIs(Whole):
    """Damage in the last bytes goes unnoticed, as it does where only a header is checked."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path)
        with Path(path).open("ab") as file:
            file.write(bytes(50))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        if not Path(path).exists():
            raise CheckpointNotFoundError(str(path))
        try:
            loaded: dict[str, Any] = pickle.load(io.BytesIO(Path(path).read_bytes()[4:]))
        except Exception as error:
            raise CheckpointCorruptError(str(path)) from error
        return loaded


class RaisesAnything(Whole):
    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        loaded: dict[str, Any] = pickle.loads(Path(path).read_bytes()[4:])
        return loaded


class RemovesOnce(Whole):
    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink()


class RemovesTooMuch(Whole):
    def remove_checkpoint(self, path: str | Path) -> None:
        for entry in Path(path).parent.glob("*"):
            super().remove_checkpoint(entry)


class EndsWithTeardown(Whole):
    over = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if not self.over:
            super().save_checkpoint(checkpoint, path)

    def teardown(self) -> None:
        self.over = True


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (ListsForTuples, "test_content_comes_back"),
        (RoundsTensors, "test_content_comes_back"),
        (NeedsAFolder, "test_parent_directories_are_made"),
        (KeepsTheOld, "test_a_new_checkpoint_replaces_the_old_one"),
        (LeavesABackup, "test_a_new_checkpoint_replaces_the_old_one"),
        (SharesMemory, "test_what_was_loaded_does_not_change_with_the_file"),
        (WritesInPlace, "test_a_save_that_fails_leaves_the_old_checkpoint"),
        (LeavesTheNew, "test_a_save_that_fails_leaves_the_old_checkpoint"),
        (HidesErrors, "test_a_save_that_fails_leaves_the_old_checkpoint"),
        (WritesInPlace, "test_a_first_save_that_fails_leaves_nothing"),
        (HidesErrors, "test_a_first_save_that_fails_leaves_nothing"),
        (RaisesAnything, "test_a_missing_checkpoint_is_named"),
        (NamesNothing, "test_a_missing_checkpoint_is_named"),
        (ReadsWhatThereIs, "test_truncation_is_found_wherever_it_is"),
        (RaisesAnything, "test_truncation_is_found_wherever_it_is"),
        (ReadsWhatThereIs, "test_a_changed_byte_is_found_wherever_it_is"),
        (WritesInPlace, "test_a_full_disk_leaves_the_old_checkpoint"),
        (KeepsTheOld, "test_a_full_disk_leaves_the_old_checkpoint"),
        (RaisesAnything, "test_what_is_no_checkpoint_is_refused"),
        (RemovesOnce, "test_removal"),
        (RemovesTooMuch, "test_removal"),
        (RemovesOnce, "test_removal_of_a_directory"),
        (EndsWithTeardown, "test_teardown_may_come_at_any_time"),
    ],
)
def test_a_fault_is_found(faulty: type[CheckpointIO], test: str, tmp_path: Path) -> None:
    method = getattr(CheckpointIOConformance(), test)
    with pytest.raises(RAISED.get((faulty, test), (AssertionError, pytest.fail.Exception))):
        method(faulty(), tmp_path)


RAISED: dict[tuple[type[CheckpointIO], str], type[Exception]] = {
    (NeedsAFolder, "test_parent_directories_are_made"): FileNotFoundError,
    (WritesInPlace, "test_a_save_that_fails_leaves_the_old_checkpoint"): CheckpointCorruptError,
    (WritesInPlace, "test_a_full_disk_leaves_the_old_checkpoint"): RuntimeError,
    (RaisesAnything, "test_a_missing_checkpoint_is_named"): FileNotFoundError,
    (RaisesAnything, "test_truncation_is_found_wherever_it_is"): pickle.UnpicklingError,
    (RaisesAnything, "test_what_is_no_checkpoint_is_refused"): EOFError,
    (RemovesOnce, "test_removal"): FileNotFoundError,
    (RemovesTooMuch, "test_removal"): CheckpointNotFoundError,
    (RemovesOnce, "test_removal_of_a_directory"): IsADirectoryError,
    (EndsWithTeardown, "test_teardown_may_come_at_any_time"): CheckpointNotFoundError,
}
"""What leaves a test where it is not an assertion: the wrong exception that the faulty one raises."""
