"""The conformance suite of the checkpoint I/Os."""

import errno
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.interfaces.checkpoint_io import CheckpointIO
from lx.kernel.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError
from lx.testing.conformance.component import Conformance


class CannotBeSavedError(Exception):
    """Raised by an object that refuses to be pickled."""


class Unsaveable:
    """Raises when it is pickled, by which time what comes before it may have been written; an I/O may refuse it before that."""

    def __reduce__(self) -> Any:
        raise CannotBeSavedError("this object cannot be pickled")


class CheckpointIOConformance(Conformance):
    """The suite of the checkpoint I/Os, on a local folder; a subclass sets `component`.

    An I/O that writes in the background is waited for by `teardown`, after which it must work again. Damage is to be found before
    anything is read; one that was told to leave that out sets `test_a_changed_byte_is_found_wherever_it_is = None`.

    >>> class TestTorchIO(CheckpointIOConformance):
    ...     component = "torch_io"
    """

    kind = "checkpoint_io"

    def content(self, epoch: int = 1) -> dict[str, Any]:
        """Such things as a checkpoint holds."""
        weight = torch.arange(20_000.0) + epoch
        return {
            "epoch": epoch,
            "state_dict": OrderedDict(weight=weight, bias=weight.bfloat16()[:5], tied=weight, empty=torch.empty(0, 3)),
            "optimizer_states": [
                {"state": {0: {"step": torch.tensor(3.0), "exp_avg": weight.double()[:7]}}, "param_groups": [{"lr": 0.1}]}
            ],
            "tensors": [torch.tensor([True]), torch.tensor(2**60), torch.tensor([1 + 2j]), torch.arange(6).view(2, 3).T],
            "plain": ("text \u00e9", None, -(2**70), 1e-300, float("inf"), [], {}, True, b"bytes"),
        }

    def save(self, built: CheckpointIO, content: dict[str, Any], path: str | Path) -> None:
        """Saves, and waits until it is done."""
        built.save_checkpoint(content, path)
        built.teardown()

    def test_content_comes_back(self, built: CheckpointIO, tmp_path: Path) -> None:
        built.check_content(self.content())
        for path in (tmp_path / "a.ckpt", str(tmp_path / "with space \u00e9.ckpt"), tmp_path / "epoch=1-step=2.ckpt"):
            self.save(built, self.content(), path)
            _assert_same(built.load_checkpoint(path), self.content())
            _assert_same(built.load_checkpoint(path, map_location="cpu", weights_only=True), self.content())

    def test_parent_directories_are_made(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "runs" / "version_0" / "last.ckpt"
        self.save(built, self.content(), path)
        _assert_same(built.load_checkpoint(path), self.content())

    def test_a_new_checkpoint_replaces_the_old_one(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "last.ckpt"
        for epoch in (1, 2):
            self.save(built, self.content(epoch), path)
        _assert_same(built.load_checkpoint(path), self.content(2))
        assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"], "something else was left beside it"

    def test_what_was_loaded_does_not_change_with_the_file(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "last.ckpt"
        self.save(built, self.content(1), path)
        loaded = built.load_checkpoint(path)
        self.save(built, self.content(2), path)
        _assert_same(loaded, self.content(1))
        built.remove_checkpoint(path)
        _assert_same(loaded, self.content(1))

    def test_a_save_that_fails_leaves_the_old_checkpoint(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "last.ckpt"
        self.save(built, self.content(1), path)
        with pytest.raises((CannotBeSavedError, CheckpointError)):
            self.save(built, {**self.content(2), "late": Unsaveable()}, path)
        _assert_same(built.load_checkpoint(path), self.content(1))
        assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"], "something was left of the new one"

    def test_a_first_save_that_fails_leaves_nothing(self, built: CheckpointIO, tmp_path: Path) -> None:
        with pytest.raises((CannotBeSavedError, CheckpointError)):
            self.save(built, {**self.content(), "late": Unsaveable()}, tmp_path / "last.ckpt")
        assert not list(tmp_path.iterdir())

    def test_a_missing_checkpoint_is_named(self, built: CheckpointIO, tmp_path: Path) -> None:
        for path in (tmp_path / "none.ckpt", tmp_path / "no" / "folder" / "none.ckpt"):
            with pytest.raises(CheckpointNotFoundError, match=r"none\.ckpt"):
                built.load_checkpoint(path)

    def test_truncation_is_found_wherever_it_is(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "last.ckpt"
        self.save(built, self.content(), path)
        biggest = max((file for file in (path, *path.rglob("*")) if file.is_file()), key=lambda file: file.stat().st_size)
        size = biggest.stat().st_size
        near_the_ends = [0, 1, 2, 3, 4, 5, 30, 64, size - 1, size - 2, size - 21, size - 22, size - 23, size - 60, size - 200]
        inside = [size * part // 16 for part in range(1, 16)]
        for offset in sorted({*near_the_ends, *inside}, reverse=True):
            os.truncate(biggest, offset)
            with pytest.raises(CheckpointCorruptError) as caught:
                built.load_checkpoint(path)
            assert "last.ckpt" in str(caught.value), f"cut to {offset} of {size} bytes, the message does not name the checkpoint"

    def test_a_changed_byte_is_found_wherever_it_is(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "last.ckpt"
        self.save(built, self.content(), path)
        for file in [one for one in (path, *path.rglob("*")) if one.is_file()]:
            good = file.read_bytes()
            ends = [*range(min(64, len(good))), *range(max(0, len(good) - 64), len(good))]
            for offset in sorted({*ends, *(len(good) * part // 61 for part in range(61))}):
                file.write_bytes(good[:offset] + bytes([good[offset] ^ 1 << offset % 8]) + good[offset + 1 :])
                with pytest.raises(CheckpointCorruptError) as caught:
                    built.load_checkpoint(path)
                assert "last.ckpt" in str(caught.value), f"with byte {offset} changed, the message does not name the checkpoint"
            file.write_bytes(good)
        _assert_same(built.load_checkpoint(path), self.content())

    def test_a_full_disk_leaves_the_old_checkpoint(self, built: CheckpointIO, tmp_path: Path) -> None:
        # A limit on the size of files fails as a full disk does, when a part has been written; Python ignores the signal with it.
        resource = pytest.importorskip("resource", reason="needs limits on the size of files")
        path = tmp_path / "last.ckpt"
        self.save(built, self.content(1), path)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(OSError, check=lambda error: error.errno == errno.EFBIG) as caught:
                self.save(built, self.content(2), path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert "last.ckpt" in said, "the error does not name the checkpoint"
        _assert_same(built.load_checkpoint(path), self.content(1))
        assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"], "something was left of the new one"

    def test_what_is_no_checkpoint_is_refused(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "notes.ckpt"
        for content in (b"", b"P", b"just some text\n" * 1000, bytes(5000)):
            path.write_bytes(content)
            with pytest.raises(CheckpointCorruptError, match=r"notes\.ckpt"):
                built.load_checkpoint(path)

    def test_removal(self, built: CheckpointIO, tmp_path: Path) -> None:
        for name in ("a.ckpt", "b.ckpt"):
            self.save(built, self.content(), tmp_path / name)
        built.remove_checkpoint(tmp_path / "a.ckpt")
        built.remove_checkpoint(str(tmp_path / "a.ckpt"))
        built.remove_checkpoint(tmp_path / "never" / "there.ckpt")
        with pytest.raises(CheckpointNotFoundError):
            built.load_checkpoint(tmp_path / "a.ckpt")
        _assert_same(built.load_checkpoint(tmp_path / "b.ckpt"), self.content())

    def test_removal_of_a_directory(self, built: CheckpointIO, tmp_path: Path) -> None:
        (tmp_path / "sharded" / "inner").mkdir(parents=True)
        (tmp_path / "sharded" / "inner" / "shard").write_text("content")
        built.remove_checkpoint(tmp_path / "sharded")
        assert not list(tmp_path.iterdir())

    def test_what_lies_there_can_be_asked(self, built: CheckpointIO, tmp_path: Path) -> None:
        folder = tmp_path / "runs"
        assert not built.exists(folder)
        assert built.list_folder(folder) == []
        for name in ("b.ckpt", "a.ckpt"):
            self.save(built, self.content(), folder / name)
        assert built.exists(folder / "a.ckpt")
        assert built.exists(str(folder))
        assert built.list_folder(str(folder)) == ["a.ckpt", "b.ckpt"]
        assert built.modified(str(folder / "a.ckpt")) >= built.modified(folder / "b.ckpt") > 0
        built.remove_checkpoint(folder / "a.ckpt")
        assert not built.exists(folder / "a.ckpt")
        assert built.list_folder(folder) == ["b.ckpt"]
        with pytest.raises(FileNotFoundError):
            built.modified(folder / "a.ckpt")

    def test_what_it_did_not_write_is_not_recognised(self, built: CheckpointIO, tmp_path: Path) -> None:
        path = tmp_path / "notes.ckpt"
        assert not built.recognises(path)
        for content in (b"", b"P", b"just some text\n" * 1000, bytes(5000)):
            path.write_bytes(content)
            assert not built.recognises(path)
        path.unlink()
        path.mkdir()
        assert not built.recognises(str(path))

    def test_the_outline_holds_all_but_the_values(self, built: CheckpointIO, tmp_path: Path) -> None:
        self.save(built, self.content(), tmp_path / "last.ckpt")
        _assert_same(built.outline(tmp_path / "last.ckpt"), self.content(), values=False)
        with pytest.raises(CheckpointNotFoundError, match=r"none\.ckpt"):
            built.outline(tmp_path / "none.ckpt")

    def test_teardown_may_come_at_any_time(self, built: CheckpointIO, tmp_path: Path) -> None:
        built.teardown()
        built.teardown()
        self.save(built, self.content(), tmp_path / "last.ckpt")
        _assert_same(built.load_checkpoint(tmp_path / "last.ckpt"), self.content())


def _assert_same(got: Any, wanted: Any, where: str = "checkpoint", values: bool = True) -> None:
    assert type(got) is type(wanted), f"{where} is a {type(got).__name__}, and was a {type(wanted).__name__}"
    if isinstance(wanted, torch.Tensor):
        assert got.dtype == wanted.dtype, f"{where} has another dtype"
        assert got.shape == wanted.shape, f"{where} has another shape"
        assert not values or torch.equal(got, wanted), f"{where} has other values"
    elif isinstance(wanted, dict):
        assert list(got) == list(wanted), f"{where} has other keys"
        for key, value in wanted.items():
            _assert_same(got[key], value, f"{where}[{key!r}]", values)
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted), f"{where} has another length"
        for index, value in enumerate(wanted):
            _assert_same(got[index], value, f"{where}[{index}]", values)
    else:
        assert got == wanted, f"{where} is {got!r}, and was {wanted!r}"
