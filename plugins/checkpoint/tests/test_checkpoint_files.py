"""Links, removal, and the list of the best."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lx.testing.fakes import FakeCheckpointIO, FakeLogger
from lx_plugin_checkpoint import files


class Storage:
    """A trainer as `remove` sees it, that removes files."""

    is_global_zero = True

    def __init__(self):
        self.strategy = self
        self.removed = []
        self.require_checkpoint_io = FakeCheckpointIO

    def remove_checkpoint(self, path):
        self.removed.append(os.path.basename(path))
        if Path(path).exists():
            Path(path).unlink()


def test_a_link_is_relative_and_replaces_what_was_there(tmp_path):
    for name in ("a.ckpt", "b.ckpt", "last.ckpt"):
        (tmp_path / name).write_text(name)
    last = tmp_path / "last.ckpt"
    for name in ("a.ckpt", "b.ckpt"):
        files.link(str(last), str(tmp_path / name))
        assert os.readlink(last) == name
        assert last.read_text() == name
    assert (tmp_path / "a.ckpt").read_text() == "a.ckpt"
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "b.ckpt", "last.ckpt"]


def test_directories_are_linked_too(tmp_path):
    for name in ("sharded.ckpt", "last.ckpt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text(name)
    files.link(str(tmp_path / "last.ckpt"), str(tmp_path / "sharded.ckpt"))
    assert (tmp_path / "last.ckpt").is_symlink()
    assert (tmp_path / "last.ckpt" / "part").read_text() == "sharded.ckpt"


@pytest.mark.parametrize("directory", [False, True])
def test_where_links_cannot_be_made_there_is_a_copy(tmp_path, monkeypatch, directory):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    target = tmp_path / "a.ckpt"
    if directory:
        target.mkdir()
        (target / "part").write_text("x")
    else:
        target.write_text("x")
    for _ in range(2):
        files.link(str(tmp_path / "last.ckpt"), str(target))
        copied = tmp_path / "last.ckpt"
        assert not copied.is_symlink()
        assert (copied / "part" if directory else copied).read_text() == "x"


def test_a_link_left_behind_by_a_killed_process_is_no_obstacle(tmp_path):
    (tmp_path / "a.ckpt").write_text("x")
    os.symlink("gone", tmp_path / "last.ckpt.link")
    files.link(str(tmp_path / "last.ckpt"), str(tmp_path / "a.ckpt"))
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "last.ckpt"]


def test_only_files_of_the_folder_are_removed_and_not_what_the_run_came_from(tmp_path):
    inside, outside = tmp_path / "in" / "a.ckpt", tmp_path / "b.ckpt"
    inside.parent.mkdir()
    inside.touch()
    outside.touch()
    storage = Storage()
    files.remove(storage, str(outside), str(inside.parent), "")
    files.remove(storage, str(inside), str(inside.parent), os.path.realpath(inside))
    files.remove(storage, "", str(inside.parent), "")
    assert storage.removed == []
    files.remove(storage, str(inside), str(inside.parent), os.path.realpath(outside))
    assert storage.removed == ["a.ckpt"]
    assert outside.exists()


def test_a_dangling_link_is_removed(tmp_path):
    link = tmp_path / "last.ckpt"
    os.symlink("gone.ckpt", link)
    files.remove(Storage(), str(link), str(tmp_path), "")
    assert not os.path.lexists(link)


@pytest.mark.parametrize(
    ("logger", "folder"),
    [
        (None, "root/checkpoints"),
        (FakeLogger("runs", 3, "logs"), "logs/runs/version_3/checkpoints"),
        (FakeLogger("runs", "mine", "logs"), "logs/runs/mine/checkpoints"),
        (FakeLogger("", 0, "logs"), "logs/version_0/checkpoints"),
        (FakeLogger("runs", 3), "root/runs/version_3/checkpoints"),
    ],
)
def test_the_folder_is_that_of_the_first_loggers_run(tmp_path, monkeypatch, logger, folder):
    monkeypatch.chdir(tmp_path)
    trainer = SimpleNamespace(loggers=[logger] if logger else [], default_root_dir="root")
    assert files.run_folder(trainer) == str(tmp_path / folder)


def test_scores_are_written_as_yaml(tmp_path):
    files.write_scores(tmp_path / "best.yaml", {"a/epoch=1.ckpt": torch.tensor(0.5), "b: c.ckpt": torch.tensor(2.0)})
    assert (tmp_path / "best.yaml").read_text() == 'a/epoch=1.ckpt: 0.5\n"b: c.ckpt": 2.0\n'


def test_a_link_is_on_the_disk_before_its_old_target_can_go(tmp_path, monkeypatch):
    done = []
    replace, sync = os.replace, files.sync_folder
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replaced"), replace(*paths)))
    monkeypatch.setattr(files, "sync_folder", lambda folder: (done.append(f"synced {folder}"), sync(folder)))
    files.link(str(tmp_path / "last.ckpt"), str(tmp_path / "a.ckpt"))
    assert done == ["replaced", f"synced {tmp_path}"]


def test_a_copy_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("not here")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    for name in ("a.ckpt", "last.ckpt"):
        (tmp_path / name).write_text(name)
    with pytest.raises(OSError, match="not here"):
        files.link(str(tmp_path / "last.ckpt"), str(tmp_path / "a.ckpt"))
    assert (tmp_path / "last.ckpt").read_text() == "last.ckpt"
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "last.ckpt"]
