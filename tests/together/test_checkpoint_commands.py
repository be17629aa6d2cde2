"""`lx upgrade-checkpoint` and `lx consolidate`: what they write, what they leave alone, and what they say to what is no checkpoint."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import save
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from lx import Trainer
from lx.cli import main
from lx.testing import TinyDataModule, TinyModule

OLD = Path(__file__).parent / "data" / "checkpoints"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with an old file, one of today, one in a folder below, and one that is no checkpoint."""
    for name in ("pl-1.6.5-epoch.ckpt", "pl-2.6.6-epoch.ckpt"):
        shutil.copy(OLD / name, tmp_path)
    (tmp_path / "below").mkdir()
    shutil.copy(OLD / "pl-1.4.9-epoch.ckpt", tmp_path / "below" / "deep.ckpt")
    shutil.copy(OLD / "pl-1.9.5-epoch.ckpt", tmp_path / "other.pt")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- upgrade-checkpoint ------------------------------------------------------------------------------------------------------------


def test_all_in_a_folder_are_upgraded_and_the_originals_kept(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(old)
    assert main(["upgrade-checkpoint", str(old)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{old / 'below/deep.ckpt'}: upgraded from 1.4.9; the original is deep.bak",
        f"{old / 'pl-1.6.5-epoch.ckpt'}: upgraded from 1.6.5; the original is pl-1.6.5-epoch.bak",
        f"{old / 'pl-2.6.6-epoch.ckpt'}: is up to date (2.6.6)",
    ]
    after = files(old)
    assert set(after) == {*before, "below/deep.bak", "pl-1.6.5-epoch.bak"}
    assert after["below/deep.bak"] == before["below/deep.ckpt"]
    assert after["pl-1.6.5-epoch.bak"] == before["pl-1.6.5-epoch.ckpt"]
    assert {name for name in before if after[name] == before[name]} == {"pl-2.6.6-epoch.ckpt", "other.pt"}
    content = torch.load(old / "below" / "deep.ckpt", weights_only=True)
    assert content["legacy_pytorch-lightning_version"] == "1.4.9"
    assert set(content["callbacks"]) == {"EarlyStopping", "ModelCheckpoint", "Timer"}

    assert main(["upgrade-checkpoint", str(old)]) == 0
    assert files(old) == after, "once is enough"


def test_one_file_and_another_extension(old: Path) -> None:
    before = files(old)
    assert main(["upgrade-checkpoint", str(old), "--extension", ".pt", "--map-to-cpu"]) == 0
    assert main(["upgrade-checkpoint", str(old / "pl-1.6.5-epoch.ckpt")]) == 0
    assert set(files(old)) - set(before) == {"other.bak", "pl-1.6.5-epoch.bak"}


def test_a_backup_that_is_there_is_not_overwritten(old: Path) -> None:
    (old / "other.bak").write_text("precious")
    assert main(["upgrade-checkpoint", str(old / "other.pt")]) == 0
    assert (old / "other.bak").read_text() == "precious"
    assert (old / "other.bak1").read_bytes() == (OLD / "pl-1.9.5-epoch.ckpt").read_bytes()


def test_what_cannot_be_upgraded_stays_and_the_others_get_their_turn(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old / "a.ckpt").write_text("damaged" * 9)
    torch.save({"layer.weight": torch.ones(1)}, old / "b.ckpt")
    torch.save({**torch.load(OLD / "pl-1.9.5-epoch.ckpt"), "any": Exception("any")}, old / "c.ckpt")
    before = files(old)
    assert main(["upgrade-checkpoint", str(old)]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    damaged, bare, unsafe = printed.err.splitlines()
    assert damaged.endswith("use another one.")
    assert bare == f"lx upgrade-checkpoint: {old / 'b.ckpt'}: it does not say which release wrote it, so it is no checkpoint of a Trainer."
    assert "Exception), and reading it with weights_only=True, the default, refuses that" in unsafe
    after = files(old)
    assert {name for name in before if after[name] != before[name]} == {"pl-1.6.5-epoch.ckpt", "below/deep.ckpt"}
    assert set(after) - set(before) == {"pl-1.6.5-epoch.bak", "below/deep.bak"}
    assert main(["upgrade-checkpoint", str(old / "c.ckpt"), "--trust"]) == 0


@pytest.mark.parametrize(
    ("path", "said"),
    [("nope", "lx upgrade-checkpoint: there is no file or folder "), ("empty", "there is no file *.ckpt in ")],
)
def test_what_is_not_there(path: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["upgrade-checkpoint", str(tmp_path / path)]) == 1
    assert said in capsys.readouterr().err


# -- consolidate -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path, bare_trainer: Callable[..., Trainer]) -> Path:
    """The folder that a sharded strategy would save after one epoch."""
    trainer = bare_trainer(max_epochs=1)
    module = TinyModule()
    trainer.fit(module, TinyDataModule())
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    meta = torch.load(tmp_path / "whole.ckpt")
    del meta["state_dict"], meta["optimizer_states"]
    tensors = {"model": module.state_dict(), "optimizer_0": get_optimizer_state_dict(module, trainer.optimizers[0])}
    save(tensors, checkpoint_id=tmp_path / "shards")
    torch.save(meta, tmp_path / "shards" / "meta.pt")
    return tmp_path / "shards"


pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.distributed|TypedStorage|ShardedTensor|process)")


def test_a_folder_of_shards_becomes_one_file(
    shards: Path, capsys: pytest.CaptureFixture[str], bare_trainer: Callable[..., Trainer]
) -> None:
    assert main(["consolidate", str(shards)]) == 0
    made = shards.with_name("shards.consolidated")
    assert capsys.readouterr().out.startswith(f"{made}: epoch, global_step, ")
    whole, content = torch.load(shards.with_name("whole.ckpt")), torch.load(made)
    assert set(content) == set(whole)
    assert torch.equal(content["state_dict"]["layer.weight"], whole["state_dict"]["layer.weight"])
    ends = []
    for path in (shards.with_name("whole.ckpt"), made):
        module = TinyModule()
        trainer = bare_trainer(max_epochs=2)
        trainer.fit(module, TinyDataModule(), ckpt_path=path)
        ends.append((trainer.global_step, module.layer.weight.tolist()))
    assert ends[0] == ends[1]
    assert sorted(os.listdir(shards.parent)) == ["shards", "shards.consolidated", "whole.ckpt"]


def test_what_fabric_saved_keeps_the_keys_of_the_user(tmp_path: Path) -> None:
    save({"model": {"weight": torch.ones(2)}, "optimizer_0": {"a": torch.zeros(1)}}, checkpoint_id=tmp_path / "shards")
    torch.save({"step": 3}, tmp_path / "shards" / "meta.pt")
    assert main(["consolidate", str(tmp_path / "shards"), "--output-file", str(tmp_path / "made" / "one.pt")]) == 0
    content: dict[str, Any] = torch.load(tmp_path / "made" / "one.pt")
    assert (content["step"], content["model"]["weight"].tolist(), set(content)) == (3, [1, 1], {"step", "model", "optimizer_0"})


def test_what_is_no_folder_of_shards(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shards.parent
    (folder / "there").write_text("precious")
    (folder / "other").mkdir()
    (folder / "zero").mkdir()
    (folder / "zero" / "zero_to_fp32.py").touch()
    for arguments, said in (
        (["nope"], "there is no folder "),
        (["whole.ckpt"], "is a file; give the folder with the shards of a checkpoint."),
        (["other"], "holds no shards: a folder that torch.distributed.checkpoint wrote has a file .metadata"),
        (["zero"], "has a script of its own that does it: python "),
        (["shards", "--output-file", str(folder / "there")], "exists; remove it, or choose another name with --output-file."),
    ):
        name, *rest = arguments
        assert main(["consolidate", str(folder / name), *rest]) == 1
        assert said in capsys.readouterr().err
    assert (folder / "there").read_text() == "precious"
    (shards / ".metadata").write_bytes(b"damaged")
    assert main(["consolidate", str(shards)]) == 1
    assert capsys.readouterr().err.startswith(f"lx consolidate: the shards in {str(shards)!r} cannot be read: ")
    assert not (folder / "shards.consolidated").exists()
