"""`lx ckpt` where little is installed: its help, and what it says of formats that nobody here reads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lx.checkpoints.differences import compare
from lx.checkpoints.formats import Formats
from lx.cli import ckpt
from lx.cli.table import columns
from lx.kernel.errors import CheckpointDirectoryError
from lx.kernel.manager import PluginManager
from lx.kernel.registry import Registry
from lx.testing.fakes import FakeCheckpointIO


class Chalk(FakeCheckpointIO):
    """Its files begin with a word."""

    def recognises(self, path: str | Path) -> bool:
        return Path(path).is_file() and Path(path).read_text().startswith("chalk")


class Fussy(FakeCheckpointIO):
    """Cannot be made without an argument."""

    def __init__(self, needed: int) -> None:
        super().__init__()


def formats() -> Formats:
    registry = Registry()
    registry.add_kind("checkpoint_io", interface="lx.interfaces:CheckpointIO")
    registry.checkpoint_io.add("fake", FakeCheckpointIO, roles={"default": 1})
    registry.checkpoint_io.add("fussy", Fussy)
    registry.checkpoint_io.add("chalk", Chalk, roles={".chalk": 1})
    return Formats(registry)


def test_its_help_imports_no_torch() -> None:
    code = (
        "import sys; from lx.cli import main\n"
        "for words in ([], ['inspect'], ['verify'], ['diff'], ['convert']):\n"
        "    try: main(['ckpt', *words, '--help'])\n"
        "    except SystemExit as end: assert not end.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: lx ckpt") == 5


def test_a_format_whose_plugin_is_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lx.kernel.manager.ROLES", {"checkpoint_io": {".chalk": ("chalk-io",), "default": ("any-io",)}})
    (tmp_path / "a.chalk").write_text("chalk")
    for name, made in (("a.chalk", "made.chalk"), ("a.ckpt", "made.ckpt")):
        (tmp_path / name).write_text("chalk")
        for arguments in (["inspect", name], ["diff", name, name], ["convert", name, made]):
            paths = [str(tmp_path / one) for one in arguments[1:]]
            code = ckpt.run(PluginManager(entry_points=[]), [arguments[0], *paths])
            said = capsys.readouterr().err
            assert code == (2 if arguments[0] == "diff" else 1)
            assert said.startswith(f"lx ckpt {arguments[0]}: ")
            assert "pip install lx-" in said


def test_the_one_that_recognises_a_file_reads_it(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name, content in (("a.txt", "chalk"), ("below/b.ckpt", "slate"), ("below/c.txt", "slate"), ("d.chalk", "slate"), (".e.ckpt", "")):
        (tmp_path / name).write_text(content)
    (tmp_path / "f.ckpt").symlink_to("nowhere")
    found = formats().find(tmp_path / "a.txt")
    assert (found.format, found.size()) == ("chalk", 5)
    listed = [str(path.relative_to(tmp_path)) for path in formats().in_folder(tmp_path)]
    assert listed == ["a.txt", "below/b.ckpt", "d.chalk", "f.ckpt"], "what is recognised, and what is named so"
    with pytest.raises(CheckpointDirectoryError):
        formats().find(tmp_path / "below")


def test_the_writer_follows_from_the_suffix() -> None:
    found = {suffix: formats().for_suffix(suffix) for suffix in (".ckpt", ".pt", ".chalk", ".txt", "")}
    assert {suffix: one and one[0] for suffix, one in found.items()} == {
        ".ckpt": "fake",
        ".pt": "fake",
        ".chalk": "chalk",
        ".txt": None,
        "": None,
    }
    assert [formats().is_of_weights(name) for name in ("fake", "chalk")] == [False, True]


def test_numbers_in_columns_end_at_the_same_place() -> None:
    assert columns([("N", "WHAT"), ("1,234", "a"), ("5", "b")], right=(0,)) == "    N  WHAT\n1,234  a\n    5  b"


def test_what_is_compared() -> None:
    nan = float("nan")
    same = {"a": (1, [2.0]), "n": nan, "t": torch.tensor([nan, 1e-3]), "huge": 10**400, "e": {}, "f": True}
    assert not compare(same, {**same, "a": [1, (2.0,)]}).differs
    for key, other in (("n", 1.0), ("huge", 10**400 + 1), ("e", []), ("f", 1), ("t", torch.tensor([0.0, 1e-3])), ("t", 5), ("a", (1,))):
        assert compare(same, {**same, key: other}).differs, f"{key} is {other!r}"
    halves = compare({"t": torch.ones(2)}, {"t": torch.ones(2).half()})
    assert [(one.second_kind, one.absolute, one.different) for one in halves.tensors] == [("float16", 0.0, 0)]
    infinite = compare({"t": torch.tensor([1.0, float("inf")])}, {"t": torch.tensor([1.0, 2.0])})
    assert infinite.tensors[0].absolute == float("inf")
