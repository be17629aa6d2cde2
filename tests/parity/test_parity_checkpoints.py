"""Checkpoints hold what those of Lightning hold, and either library goes on from the other's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_differences import CALLBACKS, CONTENT, PEER, READ
from checkpoint_runs import data, fit, flat, left_by, made, model, plain, saving
from sides import SIDES, World, quiet

Scenario = tuple[str, int, dict[str, Any], dict[str, Any]]
"""The hook in which a checkpoint is written, at which step, of which model, in which run."""

BATCH, EPOCH, VALIDATION, END = "on_train_batch_end", "on_train_epoch_end", "on_validation_end", "on_train_end"

SCENARIOS: dict[str, Scenario] = {
    "end of an epoch": (EPOCH, 8, {}, {}),
    "end of validation": (VALIDATION, 8, {}, {}),
    "within an epoch": (BATCH, 6, {}, {}),
    "the last batch": (BATCH, 8, {}, {}),
    "end of the run": (END, 16, {}, {}),
    "end of an epoch, no validation": (EPOCH, 8, {"validates": False}, {}),
    "within an epoch, no validation": (BATCH, 6, {"validates": False}, {}),
    "validation twice an epoch, the first": (VALIDATION, 6, {}, {"val_check_interval": 0.5}),
    "validation twice an epoch, the second": (VALIDATION, 8, {}, {"val_check_interval": 0.5}),
    "validation every second epoch": (BATCH, 6, {}, {"check_val_every_n_epoch": 2}),
    "validation across epochs": (VALIDATION, 6, {}, {"check_val_every_n_epoch": None, "val_check_interval": 3}),
    "by step, end of an epoch": (EPOCH, 8, {"schedule": "step"}, {}),
    "by step, within an epoch": (BATCH, 6, {"schedule": "step"}, {}),
    "plateau, end of an epoch": (EPOCH, 8, {"schedule": "plateau"}, {}),
    "plateau, end of validation": (VALIDATION, 8, {"schedule": "plateau"}, {}),
    "plateau, within an epoch": (BATCH, 6, {"schedule": "plateau"}, {}),
    "accumulating, end of an epoch": (EPOCH, 4, {}, {"accumulate_grad_batches": 2}),
    "accumulating, within an epoch": (BATCH, 5, {}, {"accumulate_grad_batches": 2}),
    "accumulating, by step": (BATCH, 5, {"schedule": "step"}, {"accumulate_grad_batches": 2}),
    "accumulating, within a window": ("on_train_batch_start", 5, {}, {"accumulate_grad_batches": 2}),
    "manual, end of an epoch": (EPOCH, 8, {"manual": True, "schedule": "none"}, {}),
    "manual, within an epoch": (BATCH, 6, {"manual": True, "schedule": "none"}, {}),
    "max_steps, end of an epoch": (EPOCH, 8, {}, {"max_steps": 100}),
    "max_steps, end of an epoch, no validation": (EPOCH, 8, {"validates": False}, {"max_steps": 100}),
    "max_steps, end of validation": (VALIDATION, 8, {}, {"max_steps": 100}),
    "max_steps, within an epoch": (BATCH, 6, {}, {"max_steps": 100}),
    "max_steps that ends it, end of an epoch": (EPOCH, 8, {}, {"max_steps": 14}),
}


def callbacks(world: World) -> list[Any]:
    """Callbacks with states."""
    checkpoint = world.callback("ModelCheckpoint", dirpath=str(world.root / "kept"), save_last=True)
    return [world.callback("EarlyStopping", monitor="val", patience=50, strict=False), world.callback("Timer"), checkpoint]


def content(path: Path, world: World) -> dict[str, str]:
    """What a file holds, without the folder of its run and without times."""
    found = flat(torch.load(path, weights_only=False))
    timed = {key for key in found if "time_elapsed" in key}
    return {
        key.replace(str(world.root), "ROOT"): text.replace(str(world.root), "ROOT") for key, text in found.items() if key not in timed
    } | dict.fromkeys(timed, "a number")


def written(folder: Path, scenario: Scenario) -> dict[str, dict[str, str]]:
    """What either library's file holds that is written at the same place of the same run."""
    hook, step, of, options = scenario
    found = {}
    for side in SIDES:
        world = World(side, folder)
        path = folder / f"{side}.ckpt"
        rows = data(world, validates=of.get("validates", True))
        fit(world, model(world, **of), rows, [*callbacks(world), saving(world, hook, path, step)], **options)
        found[side] = content(path, world)
    return found


def differing(found: dict[str, dict[str, str]]) -> set[str]:
    """The paths at which two files differ, those of the table by their names there; numbers of means have a tolerance."""
    mine, theirs = found["lx"], found["lightning"]
    paths = {path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path) and not is_close(path, mine, theirs)}
    if theirs.get("loops/fit_loop/state_dict") == "empty dict":
        paths.discard("loops/fit_loop/state_dict")
    return {next((known for known in CONTENT if path.startswith(known)), path) for path in paths}


def is_close(path: str, mine: dict[str, str], theirs: dict[str, str]) -> bool:
    """Whether a value that comes from a mean is the same up to rounding."""
    if (
        path not in mine
        or path not in theirs
        or not path.endswith(("best", "best_score", "best_model_score", "current_score", "kth_value"))
    ):
        return False
    (*kind, one), (*other_kind, other) = mine[path].split(" "), theirs[path].split(" ")
    return kind == other_kind and float(one) == pytest.approx(float(other), rel=1e-6)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, dict[str, str]]]:
    """What the files of a scenario hold; each is run once."""
    known: dict[str, dict[str, dict[str, str]]] = {}

    def find(name: str) -> dict[str, dict[str, str]]:
        if name not in known:
            known[name] = written(tmp_path_factory.mktemp("files"), SCENARIOS[name])
        return known[name]

    return find


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_file_holds_what_that_of_lightning_holds(scenario: str, files: Any) -> None:
    found = files(scenario)
    assert len([path for path in found["lx"] if path.startswith("loops/")]) > 50
    assert differing(found) <= set(CONTENT)


def test_every_difference_between_files_is_there(files: Any) -> None:
    assert {
        path for scenario in ("within an epoch", "manual, within an epoch", "end of an epoch") for path in differing(files(scenario))
    } == set(CONTENT)


def test_a_file_has_the_keys_that_are_known(files: Any) -> None:
    found = files("end of an epoch")["lx"]
    assert {path.partition("/")[0].partition("[")[0] for path in found} == {
        *("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers"),
        *("hparams_name", "hyper_parameters", "datamodule_hparams_name", "datamodule_hyper_parameters", "Rows", "seen"),
        "datamodule_class",
    }
    loops = {path.split("/")[2] for path in found if path.startswith("loops/fit_loop/")}
    assert len(loops) == 11


pytestmark = pytest.mark.filterwarnings("ignore:ModelCheckpoint saves to", "ignore:the checkpoint holds the states of callbacks")


class Resumed:
    """One scenario: run through by both libraries, and gone on with by both from the files of both."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.folder = folder
        self.hook, self.step, self.of, self.options = scenario
        self.whole = {side: self.run(side, write=True) for side in SIDES}

    def run(self, side: str, write: bool = False, source: str | None = None) -> dict[str, Any]:
        """What a fit leaves behind; from the beginning, or from the file of `source`."""
        world = World(side, self.folder)
        added = [saving(world, self.hook, self.folder / f"{side}.ckpt", self.step)] if write else []
        path = self.folder / f"{source}.ckpt" if source else None
        rows = data(world, validates=self.of.get("validates", True))
        return left_by(fit(world, model(world, **self.of), rows, [*callbacks(world), *added], path, **self.options))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs have left the same behind: bit for bit, but for means of an epoch and what schedulers keep of them."""
    if set(one["means"]) != set(other["means"]):
        return False
    if any(value != pytest.approx(other["means"][name], rel=1e-6) for name, value in one["means"].items()):
        return False
    for mine, theirs in zip(one["schedules"], other["schedules"], strict=True):
        if "best" in mine and mine["best"] != pytest.approx(theirs["best"], rel=1e-6):
            return False
    stripped = ({**left, "means": 0, "schedules": [{**state, "best": 0} for state in left["schedules"]]} for left in (one, other))
    return next(stripped) == next(stripped)


@pytest.mark.filterwarnings("ignore:.* misses one value")
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "end of the run"])
def test_either_library_goes_on_from_the_file_of_the_other(scenario: str, tmp_path: Path) -> None:
    resumed = Resumed(tmp_path, SCENARIOS[scenario])
    assert same(resumed.whole["lx"], resumed.whole["lightning"])
    own = resumed.run("lx", source="lx")
    assert own == resumed.whole["lx"], "from its own file, lx ends like a run that was never cut off, bit for bit"
    peer = resumed.run("lightning", source="lightning")
    assert same(resumed.run("lightning", source="lx"), peer), "Lightning takes lx's file for one of its own"
    assert same(peer, resumed.whole["lightning"]) == (scenario not in PEER)
    assert same(resumed.run("lx", source="lightning"), own) == (scenario not in READ)


def test_a_file_of_the_end_leaves_nothing_to_do(tmp_path: Path) -> None:
    resumed = Resumed(tmp_path, SCENARIOS["end of the run"])
    for side, source in (("lx", "lx"), ("lx", "lightning"), ("lightning", "lx")):
        again = resumed.run(side, source=source)
        assert {**again, "means": 0} == {**resumed.whole[side], "means": 0}


def test_every_scenario_of_the_tables_is_there() -> None:
    assert PEER.keys() | READ.keys() <= SCENARIOS.keys()


@pytest.fixture
def finished(tmp_path: Path) -> dict[str, Path]:
    """A file of each library at the end of its run."""
    paths = {side: tmp_path / f"{side}.ckpt" for side in SIDES}
    for side, path in paths.items():
        world = World(side, tmp_path)
        fit(world, model(world), data(world), [saving(world, END, path, 0)])
    return paths


@pytest.mark.parametrize(("reader", "writer"), [("lx", "lightning"), ("lightning", "lx"), ("lx", "lx")])
def test_modules_and_data_modules_are_made_from_the_file_of_the_other(reader: str, writer: str, finished: Any, tmp_path: Path) -> None:
    world = World(reader, tmp_path)
    with quiet(reader):
        module = type(model(world)).load_from_checkpoint(finished[writer], name="other")
        rows = type(data(world)).load_from_checkpoint(finished[writer])
    assert dict(module.hparams) == {"width": 2, "name": "other"}
    assert module.seen == 16
    assert torch.equal(module.layer.weight, torch.load(finished["lx"], weights_only=True)["state_dict"]["layer.weight"])
    assert (rows.hparams.batches, rows.hparams.source, rows.served) == (4, "numbers", 1)


def stateful(world: World, folder: Path, patience: int) -> list[Any]:
    """Callbacks with states, which work in one folder."""
    checkpoint = world.callback("ModelCheckpoint", dirpath=str(folder), monitor="v", save_top_k=2, save_last=True)
    return [world.callback("EarlyStopping", monitor="v", patience=patience), world.callback("Timer"), checkpoint]


def states(parts: list[Any]) -> dict[str, Any]:
    """What such callbacks know."""
    stopping, timer, checkpoint = parts
    names = ("best_model_path", "best_k_models", "kth_best_model_path", "kth_value", "last_model_path", "current_score", "best_model_score")
    return plain(
        {
            **{name: getattr(checkpoint, name) for name in names},
            **{name: getattr(stopping, name) for name in ("wait_count", "best_score", "stopped_epoch", "patience")},
            "has taken time": timer.time_elapsed("train") > 0,
        }
    )


@pytest.mark.parametrize(("reader", "writer"), [("lx", "lightning"), ("lightning", "lx"), ("lx", "lx"), ("lightning", "lightning")])
def test_callbacks_take_up_the_states_of_the_other(reader: str, writer: str, tmp_path: Path) -> None:
    world, folder = World(writer, tmp_path), tmp_path / "kept"
    parts = stateful(world, folder, patience=5)
    fit(world, model(world, watched=[3.0, 1.0, 2.5, 2.0]), data(world), parts)
    written = states(parts)
    assert (written["wait_count"], written["best_score"], len(written["best_k_models"])) == (2, 1.0, 2)

    world = World(reader, tmp_path)
    parts = stateful(world, folder, patience=7)
    fit(world, model(world), data(world), parts, folder / "last.ckpt")
    found, expected = states(parts), {**written, "patience": 7}
    differing = {name for name, value in found.items() if value != expected[name]}
    assert differing == (set(CALLBACKS) if reader == "lightning" else set())


@pytest.mark.parametrize("entry", ["validate", "test"])
def test_evaluations_with_the_file_of_the_other_give_the_same(entry: str, finished: Any, tmp_path: Path) -> None:
    results = []
    for reader in SIDES:
        world = World(reader, tmp_path)
        for path in finished.values():
            with quiet(reader):
                results += getattr(made(world, []), entry)(model(world), datamodule=data(world), ckpt_path=path, verbose=False)
    assert len(results) == 4
    assert results[0]["val"] < 0.2, "the weights are those of the file"
    assert all(result == pytest.approx(results[0], rel=1e-6) for result in results)


def test_files_of_weights_alone_are_read_by_the_other(tmp_path: Path) -> None:
    found, paths = {}, {side: tmp_path / f"{side}.ckpt" for side in SIDES}
    for side, path in paths.items():
        world = World(side, tmp_path)
        fit(world, model(world), data(world), callbacks(world)).save_checkpoint(path, weights_only=True)
        found[side] = content(path, world)
    assert differing(found) == {"pytorch-lightning_version", "datamodule_class"}
    assert not {"callbacks", "optimizer_states", "lr_schedulers"} & {path.partition("/")[0] for path in found["lx"]}
    for side in SIDES:
        world = World(side, tmp_path)
        for path in paths.values():
            with pytest.raises(KeyError):
                fit(world, model(world), data(world), ckpt_path=path)
            with quiet(side):
                (result,) = made(world, []).test(model(world), datamodule=data(world), ckpt_path=path, verbose=False)
            assert result["val"] < 0.2
