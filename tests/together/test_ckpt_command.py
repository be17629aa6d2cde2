"""`lx ckpt`: what it says of files that runs here and in Lightning wrote, which damage it finds, and what it writes."""

import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

from lx import Callback, Trainer
from lx.cli import ckpt as command
from lx.cli import main
from lx.kernel import default_manager
from lx.kernel.manager import PluginManager
from lx.testing import TinyDataModule, TinyModule

OLD = Path(__file__).parent / "data" / "checkpoints"
EPOCH, STEPS = OLD / "pl-2.6.6-epoch.ckpt", OLD / "pl-2.6.6-steps.ckpt"

Told = tuple[int, str, str]


class Kept(TinyModule):
    """Has hyperparameters, and an optimizer that keeps something for each parameter."""

    def __init__(self, size: int = 8, learning_rate: float = 0.05) -> None:
        super().__init__(size, learning_rate)
        self.save_hyperparameters()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class SavesAfterThree(Callback):
    """Writes a checkpoint after the third batch of an epoch, and has a state."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"best": torch.tensor(0.25)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that a run wrote within its first epoch, after three batches, the third one in a window of two."""
    path = tmp_path_factory.mktemp("written") / "within.ckpt"
    off: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, accumulate_grad_batches=2, callbacks=[SavesAfterThree(path)], **off)
    trainer.fit(Kept(), TinyDataModule())
    return path


@pytest.fixture
def ckpt(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Runs `lx ckpt` with plugins that are found once; gives the exit code, and what went to standard output and to standard error."""

    def run(*arguments: Any) -> Told:
        code = command.run(default_manager(), [*map(str, arguments)])
        return (code, *capsys.readouterr())

    return run


def rows(printed: str) -> dict[str, str]:
    """The lines of two columns."""
    return {label: value for line in printed.splitlines() for label, _, value in [line.strip().partition("  ")] if value}


def flip(path: Path, needle: bytes) -> None:
    """Damages one byte, at the end of the first occurrence of others."""
    content = bytearray(path.read_bytes())
    content[content.index(needle) + len(needle) - 1] ^= 1
    path.write_bytes(bytes(content))


# -- inspect -----------------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_within_an_epoch(written: Path, ckpt: Callable[..., Told]) -> None:
    code, out, _ = ckpt("inspect", written)
    said = {label: value.strip() for label, value in rows(out).items()}
    assert (code, said["kind"], said["written by"], said["optimizer steps"]) == (0, "checkpoint", "lx", "1")
    assert said["position"].startswith("epoch 0, after 3 batches, in an accumulation window (1 ")
    assert said["weights"] == "9 numbers in 2 tensors"
    assert said["format"] == f"torch_io, {written.stat().st_size / 1000:.1f} kB ({written.stat().st_size:,} bytes)"
    assert "0  1       0.05  2           2       80 B   exp_avg, exp_avg_sq, step" in out
    assert ["state_dict", "2", "9", "36", "B"] in [line.split() for line in out.splitlines()]
    assert f"  {SavesAfterThree.__qualname__}\n    best 0.25\n" in out
    assert said["learning_rate"] == "0.05"
    assert "float32  1 x 8" not in out


def test_the_table_of_tensors(written: Path, ckpt: Callable[..., Told]) -> None:
    lines = [line.split() for line in ckpt("inspect", written, "--tensors")[1].splitlines()]
    assert ["float32", "1", "x", "8", "32", "B", "state_dict.layer.weight"] in lines
    assert ["float32", "one", "number", "4", "B", "optimizer_states.0.state.0.step"] in lines


def test_what_machines_get(ckpt: Callable[..., Told]) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"JSON has no {word}")

    facts = json.loads(ckpt("inspect", OLD / "pl-1.6.5-steps.ckpt", "--tensors", "--json")[1], parse_constant=refuse)
    assert (facts["layout"], facts["legacy_version"], facts["written_by"]) == ("2.6.0", "1.6.5", "Lightning 1.6.5")
    assert facts["position"] == {"words": "epoch 1, after 2 batches", "epochs": 1, "epoch": 1, "batches": 2, "batch_begun": False}
    assert facts["optimizers"][0]["groups"][0]["lr"] == pytest.approx(0.032805)
    assert facts["hyperparameters"] == {"width": 2, "name": "net", "rates": [0.05, 0.5]}
    assert facts["tensors"][0] == {"name": "state_dict.layer.weight", "dtype": "float32", "shape": [1, 2], "bytes": 8}
    assert [part["name"] for part in facts["parts"]] == ["state_dict", "callbacks", "optimizer_states"]


@pytest.mark.parametrize("path", sorted(OLD.glob("*-epoch.ckpt")), ids=lambda path: path.stem)
def test_files_of_all_releases(path: Path, ckpt: Callable[..., Told]) -> None:
    code, out, _ = ckpt("inspect", path)
    version = path.stem.split("-")[1]
    assert code == 0
    assert rows(out)["written by"].strip().startswith(f"Lightning {version}")
    assert rows(out)["position"].strip() == "between epochs, after epoch 1"


def test_weights_alone_and_a_dictionary(tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    torch.save({"a": torch.zeros(3, dtype=torch.bfloat16), "b": torch.zeros(2)}, tmp_path / "weights.pt")
    safetensors.torch.save_file({"a": torch.zeros(4)}, tmp_path / "hub.safetensors", metadata={"format": "pt"})
    torch.save({"anything": [1, 2]}, tmp_path / "other.pt")
    said = [rows(ckpt("inspect", tmp_path / name)[1]) for name in ("weights.pt", "hub.safetensors", "other.pt")]
    assert [one["kind"].strip() for one in said] == ["weights", "weights", "dictionary"]
    assert [one.get("weights", "").split()[:2] for one in said] == [["2", "5"], ["1", "4"], []]
    assert said[2]["anything"] == "[1, 2]"


@pytest.mark.parametrize("command", ["inspect", "convert", "diff"])
def test_what_is_no_checkpoint(command: str, tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "notes.txt").write_text("some words\n" * 9)
    for name, wanted in (
        ("nope.ckpt", "there is no file or folder "),
        ("folder", "is a folder, and no checkpoint: one that torch.distributed.checkpoint wrote holds a file .metadata"),
        ("empty.ckpt", "is no checkpoint: it is empty."),
        ("notes.txt", "is no checkpoint, or damaged: it does not begin as a file of torch_io or "),
        ("s3://bucket/a.ckpt", "is a URL, and what is looked at here are local files; copy it to this machine first."),
    ):
        place = name if "://" in name else tmp_path / name
        further = {"diff": [EPOCH], "convert": [tmp_path / "made.ckpt"]}.get(command, [])
        code, out, err = ckpt(command, place, *further)
        assert (code, out) == (2 if command == "diff" else 1, "")
        assert err.startswith(f"lx ckpt {command}: ")
        assert wanted in err
        assert len(err.splitlines()) == 1


# -- verify ------------------------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_damaged_file(tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "events.log").write_text("no checkpoint")
    for number, name in enumerate(("a.ckpt", "below/b.ckpt", "c.ckpt", "d.ckpt")):
        shutil.copy(EPOCH, tmp_path / name)
        os.utime(tmp_path / name, (number, number))
    assert ckpt("verify", tmp_path)[1].endswith(f"4 good checkpoints of 4 in {tmp_path}; the newest good one: {tmp_path / 'd.ckpt'}\n")
    weight = torch.load(EPOCH)["state_dict"]["layer.weight"].numpy().tobytes()
    flip(tmp_path / "d.ckpt", weight)
    (tmp_path / "c.ckpt").write_bytes(EPOCH.read_bytes()[:-100])
    code, out, _ = ckpt("verify", tmp_path)
    assert code == 1
    verdicts = [line.split()[0] for line in out.splitlines()]
    assert verdicts == ["OK", "OK", "bad", "bad", "2"]
    assert "checksums differ" in out.splitlines()[3]
    assert out.splitlines()[-1] == f"2 good checkpoints of 4 in {tmp_path}; the newest good one: {tmp_path / 'below/b.ckpt'}"


def test_files_one_by_one(written: Path, tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    code, out, _ = ckpt("verify", written, EPOCH)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [["OK", str(written)], ["OK", str(EPOCH)]]
    assert "; step 1\n" in out
    code, out, _ = ckpt("verify", EPOCH, tmp_path / "nope.ckpt")
    assert code == 1
    assert "bad  " in out
    code, _, err = ckpt("verify", tmp_path)
    assert (code, err) == (1, f"lx ckpt verify: there is no checkpoint in {str(tmp_path)!r}.\n")


def test_numbers_that_are_not_finite(tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    weights = {"a": torch.tensor([1.0, math.nan, math.inf]), "b": torch.tensor([1, 2]), "c": torch.ones(2).to(torch.float8_e4m3fn)}
    torch.save({"state_dict": weights, "callbacks": {"c": {"bound": torch.tensor(math.inf)}}}, tmp_path / "a.ckpt")
    assert ckpt("verify", tmp_path / "a.ckpt")[0] == 0
    code, out, _ = ckpt("verify", "--finite", tmp_path / "a.ckpt")
    assert (code, out) == (1, f"bad  {tmp_path / 'a.ckpt'}  state_dict.a holds 1 NaN and 1 infinite\n")
    assert ckpt("verify", "--finite", EPOCH)[0] == 0


# -- diff --------------------------------------------------------------------------------------------------------------------------


def test_equal_ones(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ckpt", "diff", str(written), str(written)]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert out.startswith("equal: ")


def test_differences_come_with_the_largest_first(tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    nan = torch.tensor([math.nan, 2.0])
    first = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([8, 2**60]), "c": torch.zeros(2), "d": torch.ones(3), "n": nan, "x": {"y": 1}}
    second = {
        "a": torch.tensor([1.0, 2.5]),
        "b": torch.tensor([5, 2**60]),
        "c": torch.zeros(2),
        "d": torch.ones(2),
        "n": nan,
        "x": {"y": 2},
    }
    torch.save({**first, "only": {"p": 1, "q": torch.ones(1)}}, tmp_path / "1.pt")
    torch.save({**second, "here": [1]}, tmp_path / "2.pt")
    code, out, _ = ckpt("diff", tmp_path / "1.pt", tmp_path / "2.pt")
    assert code == 1
    sections = [section.splitlines() for section in out.split("\n\n")]
    assert [section[0] for section in sections] == [
        f"only in {tmp_path / '1.pt'}",
        f"only in {tmp_path / '2.pt'}",
        "tensors that differ",
        "values that differ",
        "equal: 2 tensors, 0 other values",
    ]
    assert sections[0][1].split() == ["only", "2", "values,", "of", "which", "1", "are", "tensors"]
    assert [line.split()[-1] for line in sections[2][2:]] == ["d", "b", "a"]
    assert [line.split()[:3] for line in sections[2][2:]] == [["-", "-", "-"], ["3", "0.375", "1"], ["0.5", "0.2", "1"]]
    assert sections[3][1].split() == ["x.y", "1", "->", "2"]


def test_integers_beyond_floating_point_and_the_tolerance(tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    torch.save({"w": torch.tensor([2**60]), "x": torch.tensor([1.0]), "lr": 0.1}, tmp_path / "1.pt")
    torch.save({"w": torch.tensor([2**60 + 1]), "x": torch.tensor([1.001]), "lr": 0.1001}, tmp_path / "2.pt")
    code, out, _ = ckpt("diff", tmp_path / "1.pt", tmp_path / "2.pt")
    assert code == 1
    assert [line.split()[-1] for line in out.splitlines()[2:4]] == ["w", "x"]
    code, out, _ = ckpt("diff", tmp_path / "1.pt", tmp_path / "2.pt", "--tolerance", "0.01")
    assert (code, out) == (0, "equal within 0.01: 2 tensors, 1 other value\n")
    with pytest.raises(SystemExit, match="2"):
        main(["ckpt", "diff", "a", "b", "--tolerance=-1"])


# -- convert -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["written", EPOCH], ids=["of lx", "of Lightning"])
def test_there_and_back(source: Any, written: Path, tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    source = written if source == "written" else source
    for name, *asked in (["shards", "--to", "distributed"], ["one.safetensors"], ["two.ckpt"], ["three", "--to", "torch"]):
        target = tmp_path / name
        code, out, _ = ckpt("convert", source, target, *asked)
        assert code == 0
        assert out.startswith(f"{target}: checkpoint; ")
        assert ckpt("diff", source, target)[0] == 0, f"{name} differs from {source}"
        assert ckpt("verify", target)[0] == 0
        source = target
    assert sorted(os.listdir(tmp_path)) == ["one.safetensors", "shards", "three", "two.ckpt"]


def test_a_run_goes_on_from_a_converted_file(written: Path, tmp_path: Path, ckpt: Callable[..., Told], bare_trainer: Any) -> None:
    ckpt("convert", written, tmp_path / "shards", "--to", "distributed")
    ckpt("convert", tmp_path / "shards", tmp_path / "made.ckpt")
    ends = []
    for path in (written, tmp_path / "made.ckpt"):
        module = Kept()
        callbacks = [SavesAfterThree(tmp_path / "again.ckpt")]
        trainer = bare_trainer(max_epochs=2, accumulate_grad_batches=2, callbacks=callbacks)
        trainer.fit(module, TinyDataModule(), ckpt_path=path)
        ends.append((trainer.global_step, module.layer.weight.tolist()))
    assert ends[0] == ends[1]


def test_a_folder_of_shards_is_outlined_without_its_tensors(written: Path, tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    ckpt("convert", written, tmp_path / "shards", "--to", "distributed")
    said = rows(ckpt("inspect", tmp_path / "shards")[1])
    assert said["kind"].strip() == "checkpoint"
    assert said["format"].strip().startswith("distributed, ")
    assert said["weights"].strip() == "9 numbers in 2 tensors"
    weight = torch.load(written)["state_dict"]["layer.weight"].numpy().tobytes()
    (shard,) = (tmp_path / "shards").glob("*.distcp")
    flip(shard, weight)
    assert ckpt("inspect", tmp_path / "shards")[0] == 0
    code, out, _ = ckpt("verify", tmp_path / "shards")
    assert code == 1
    assert "checksums" in out
    shard.write_bytes(shard.read_bytes()[:100])
    assert "is truncated" in ckpt("verify", tmp_path / "shards")[1]
    shard.unlink()
    assert f"the file {shard.name} is missing" in ckpt("verify", tmp_path / "shards")[1]
    assert "bad  " in ckpt("verify", tmp_path)[1], "the folder of shards is one of the checkpoints in a folder"


def test_what_fabric_saved_keeps_its_keys(tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    content = {
        "model": {"w": torch.ones(2)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"params": [0]}]},
        "n": 1,
    }
    torch.save(content, tmp_path / "fabric.ckpt")
    assert ckpt("convert", tmp_path / "fabric.ckpt", tmp_path / "shards", "--to", "distributed")[0] == 0
    assert ckpt("diff", tmp_path / "fabric.ckpt", tmp_path / "shards")[0] == 0


def test_weights_only(written: Path, tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    wanted = torch.load(written)["state_dict"]
    assert ckpt("convert", written, tmp_path / "w.safetensors", "--weights-only")[0] == 0
    plain = safetensors.torch.load_file(tmp_path / "w.safetensors")
    assert {name: value.tolist() for name, value in plain.items()} == {name: value.tolist() for name, value in wanted.items()}
    assert ckpt("convert", written, tmp_path / "w.ckpt", "--weights-only")[1].startswith(
        f"{tmp_path / 'w.ckpt'}: checkpoint, weights only; "
    )
    loaded = Kept.load_from_checkpoint(tmp_path / "w.ckpt")
    assert (loaded.hparams.learning_rate, loaded.layer.weight.tolist()) == (0.05, wanted["layer.weight"].tolist())
    assert not {"optimizer_states", "lr_schedulers", "callbacks"} & set(torch.load(tmp_path / "w.ckpt"))
    assert ckpt("convert", tmp_path / "w.safetensors", tmp_path / "back.ckpt")[0] == 0
    assert torch.equal(torch.load(tmp_path / "back.ckpt")["state_dict"]["layer.bias"], wanted["layer.bias"])


def test_nothing_is_overwritten_unless_it_was_asked_for(written: Path, tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    target = tmp_path / "made.ckpt"
    target.write_text("precious")
    code, _, err = ckpt("convert", written, target)
    assert (code, target.read_text()) == (1, "precious")
    assert err == f"lx ckpt convert: {str(target)!r} exists; choose another name, or replace it with --force.\n"
    assert ckpt("convert", tmp_path / "made.ckpt", target, "--force")[0] == 1, "a source that cannot be read"
    assert target.read_text() == "precious"
    for asked in ([], ["--to", "distributed"], ["--to", "distributed"], []):  # a file, and a folder, in the place of either
        assert ckpt("convert", written, target, "--force", *asked)[0] == 0
        assert ckpt("diff", written, target)[0] == 0
        assert os.listdir(tmp_path) == ["made.ckpt"]


def test_a_failure_leaves_nothing_half_written(tmp_path: Path, ckpt: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.distributed.checkpoint.state_dict_saver.save", fail)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "old").write_text("precious")
    code, _, err = ckpt("convert", EPOCH, tmp_path / "shards", "--to", "distributed", "--force")
    assert code == 1
    assert "No space left on device" in err
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["shards", "shards/old"]


def test_formats_that_are_not_there(
    tmp_path: Path, ckpt: Callable[..., Told], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = ckpt("convert", EPOCH, tmp_path / "made.xyz")
    assert code == 1
    assert "'made.xyz' stands for no format; say which with --to, one of " in err
    assert "distributed" in err
    assert "nope" in ckpt("convert", EPOCH, tmp_path / "made.ckpt", "--to", "nope")[2]
    monkeypatch.setenv("LX_DISABLE", "safetensors-io")
    for arguments in (["convert", EPOCH, tmp_path / "made.safetensors"], ["inspect", tmp_path / "hub.safetensors"]):
        (tmp_path / "hub.safetensors").write_bytes(bytes(20))
        assert command.run(PluginManager.from_environment(), [str(one) for one in arguments]) == 1
        assert "safetensors-io" in capsys.readouterr().err
    assert not (tmp_path / "made.safetensors").exists()


# -- nothing is run ----------------------------------------------------------------------------------------------------------------


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_no_file_runs_anything(tmp_path: Path, ckpt: Callable[..., Told]) -> None:
    evil = Evil(tmp_path / "ran")
    torch.save({"state_dict": {}, "evil": evil}, tmp_path / "a.ckpt")
    for name, value in (("values", evil), ("index", 0), ("meta", 0)):
        save_shards({"model": {"w": torch.ones(2), "value": value}}, checkpoint_id=tmp_path / name, no_dist=True)
    torch.save(evil, tmp_path / "meta" / "meta.pt")
    (tmp_path / "index" / ".metadata").write_bytes(pickle.dumps(evil))
    for name in ("a.ckpt", "values", "index", "meta"):
        assert ckpt("inspect", tmp_path / name)[0] == 1
        assert ckpt("verify", tmp_path / name)[0] == 1
        assert ckpt("diff", tmp_path / name, EPOCH)[0] == 2
        assert ckpt("convert", tmp_path / name, tmp_path / "made.ckpt")[0] == 1
    assert main(["consolidate", str(tmp_path / "index")]) == 1
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "index", "meta", "values"]
