import copy
import os
import pickle
from pathlib import Path

import pytest

from lx.kernel.errors import MisconfigurationException
from lx.run_folder import RunFolder, next_version, replace_text


def test_the_next_version_is_one_above_the_highest(tmp_path):
    assert next_version(tmp_path / "none") == 0
    assert next_version(tmp_path) == 0
    for name in ("version_0", "version_2", "version_10", "version_x", "version_99.txt", "my_version_50"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 11


def test_nothing_is_made_before_make(tmp_path):
    folder = RunFolder(tmp_path / "logs", "digits")
    assert (folder.version, folder.log_dir) == (0, str(tmp_path / "logs" / "digits" / "version_0"))
    assert list(tmp_path.iterdir()) == []
    folder.make()
    folder.make()
    assert os.path.isdir(folder.log_dir)


def test_the_version_is_chosen_once(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.version == 0
    folder.make()
    assert folder.version == 0
    assert RunFolder(tmp_path).version == 1


def test_the_folders_of_names_and_versions(tmp_path):
    assert RunFolder(tmp_path, "a", 3).log_dir == str(tmp_path / "a" / "version_3")
    assert RunFolder(tmp_path, "a", "three").log_dir == str(tmp_path / "a" / "three")
    assert RunFolder(tmp_path, "a/b", 3, sub_dir="c").log_dir == str(tmp_path / "a/b" / "version_3" / "c")
    for name in (None, ""):
        assert (RunFolder(tmp_path, name, 3).name, RunFolder(tmp_path, name, 3).log_dir) == ("", str(tmp_path / "version_3"))
    assert Path(RunFolder().root_dir) == Path("lightning_logs")


def test_home_and_environment_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("RUNS", "runs")
    assert RunFolder("~/$RUNS", sub_dir="$RUNS", version=0).log_dir == str(tmp_path / "runs" / "lightning_logs" / "version_0" / "runs")


@pytest.mark.parametrize("version", [-1, True, 1.5, "", [1]])
def test_an_impossible_version(version):
    with pytest.raises(MisconfigurationException, match="version="):
        RunFolder(version=version)


def test_a_remote_folder_is_refused():
    with pytest.raises(MisconfigurationException, match="s3://bucket"):
        RunFolder("s3://bucket/logs")


def test_a_folder_is_occupied_if_the_user_chose_one_that_holds_something(tmp_path):
    assert not RunFolder(tmp_path, version=0).occupied
    folder = RunFolder(tmp_path, version=0)
    folder.make()
    assert not RunFolder(tmp_path, version=0).occupied
    folder.write("file", "text")
    assert not folder.occupied
    assert RunFolder(tmp_path, version=0).occupied
    assert not RunFolder(tmp_path).occupied


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda folder: pickle.loads(pickle.dumps(folder))])
def test_a_copy_has_the_same_version(tmp_path, duplicate):
    folder = RunFolder(tmp_path)
    other = duplicate(folder)
    folder.make()
    assert other.log_dir == folder.log_dir


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def broken():
        yield "new"
        raise ZeroDivisionError

    path = tmp_path / "file"
    replace_text(path, ["old"], durable=True)
    with pytest.raises(ZeroDivisionError):
        replace_text(path, broken())
    assert path.read_text("utf-8") == "old"
    replace_text(path, ["ü", "\n\r\n"])
    assert path.read_bytes() == "ü\n\r\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_another_text_is_kept_beside_the_new_one(tmp_path):
    folder = RunFolder(tmp_path, None, "run")
    for text in ("one", "one", "two", "three"):
        folder.write("file.yaml", text, keep=True)
    folder.write("file.yaml", "four")
    assert {path.name: path.read_text("utf-8") for path in Path(folder.log_dir).iterdir()} == {
        "file.yaml": "four",
        "file_1.yaml": "one",
        "file_2.yaml": "two",
    }
