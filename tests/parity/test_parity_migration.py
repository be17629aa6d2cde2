"""What lx makes of a file of an old release is what Lightning makes of it, but for what is said in the tables; either reads the other's."""

import copy
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_runs import flat, plain
from sides import SIDES, World, quiet

from lx.checkpoints.migration import migrate
from lx.cli.upgrade import upgrade
from lx.module_loading import read_checkpoint

FOLDER = Path(__file__).parents[1] / "together" / "data" / "checkpoints"
FILES = sorted(path.stem for path in FOLDER.glob("*.ckpt"))

spec = importlib.util.spec_from_file_location("legacy_model", FOLDER / "legacy_model.py")
assert spec is not None
assert spec.loader is not None
legacy_model: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(legacy_model)

_NAMED = "a class is replaced by its name, so that the file can be read without the class"
_VALIDATION = "Lightning renames the counters of evaluations, and leaves those of the validation within fit where it does not look"

DIFFERENCES = {
    r"pytorch-lightning_version": "the release whose layout lx writes",
    r"callbacks/<class '.*\.(\w+)'>/.*": _NAMED,
    r"callbacks/(EarlyStopping|ModelCheckpoint|Timer)/.*": _NAMED,
    r"loops/fit_loop/epoch_loop\.val_loop\.(dataloader_progress|epoch_loop\.(state_dict|batch_progress)).*": _VALIDATION,
    r"loops/fit_loop/epoch_loop\.val_loop\.batch_progress/.*": _VALIDATION,
}
"""Paths that differ whatever release wrote the file."""

BEFORE_1_6 = {
    r"loops/fit_loop/epoch_loop\.state_dict/_batches_that_stepped": "the axis of the loggers goes on; in Lightning it begins at 0",
    r"loops/fit_loop/epoch_progress/.*": "all epochs were completed; Lightning has them completed, and not begun",
    r"loops/fit_loop/epoch_loop\.\w+_optimization\..*/total/\w+": "all steps were completed; Lightning has them completed, and not begun",
}
"""And those of a release that did not count what its loops did."""


def lightnings(name: str) -> dict[str, Any]:
    """What Lightning makes of a file."""
    from lightning.pytorch.utilities.migration import migrate_checkpoint, pl_legacy_patch

    with quiet("lightning"), pl_legacy_patch():
        content = torch.load(FOLDER / f"{name}.ckpt", weights_only=False)
        migrated, _ = migrate_checkpoint(content)
    return dict(migrated)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_migrated_as_by_lightning(name: str) -> None:
    mine, theirs = flat(read_checkpoint(FOLDER / f"{name}.ckpt")), flat(lightnings(name))
    known = [*DIFFERENCES, *(BEFORE_1_6 if name.startswith(("pl-1.0", "pl-1.2", "pl-1.4", "pl-1.5")) else {})]
    paths = {path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path)}
    assert [path for path in sorted(paths) if not any(re.fullmatch(pattern, path) for pattern in known)] == []
    assert len(mine) > 60


def test_every_difference_is_there() -> None:
    paths = set()
    for name in FILES:
        mine, theirs = flat(read_checkpoint(FOLDER / f"{name}.ckpt")), flat(lightnings(name))
        paths |= {path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path)}
    assert [pattern for pattern in (*DIFFERENCES, *BEFORE_1_6) if not any(re.fullmatch(pattern, path) for path in paths)] == []


OLDER: dict[str, dict[str, Any]] = {
    "0.9": {
        "pytorch-lightning_version": "0.9.0",
        "epoch": 3,
        "global_step": 7,
        "checkpoint_callback_best_model_score": torch.tensor(1.0),
        "checkpoint_callback_best_model_path": "best.ckpt",
        "early_stop_callback_wait": 2,
        "early_stop_callback_patience": 4,
    },
    "1.6.2, without the axis of the loggers": {
        "pytorch-lightning_version": "1.6.2",
        "global_step": 7,
        "loops": {"fit_loop": {"epoch_loop.state_dict": {}, "epoch_loop.val_loop.state_dict": {}}},
    },
    "1.7, weights alone": {"pytorch-lightning_version": "1.7.7", "epoch": 1, "global_step": 2},
    "1.8, two callbacks": {
        "pytorch-lightning_version": "1.8.6",
        "callbacks": {
            f"ModelCheckpoint{{'monitor': {monitor!r}, 'train_time_interval': datetime.timedelta(seconds=9), 'save_on_train_epoch_end':"
            " None}": {"monitor": monitor}
            for monitor in ("a", "b")
        },
    },
}
"""Content of files that cannot be written here any more, or that take longer to write."""


@pytest.mark.parametrize("case", OLDER)
def test_other_content_is_migrated_as_by_lightning(case: str) -> None:
    from lightning.pytorch.utilities.migration import migrate_checkpoint

    content = {"state_dict": {}, **OLDER[case]}
    with quiet("lightning"):
        theirs = flat(migrate_checkpoint(copy.deepcopy(content))[0])
    mine = flat(migrate(copy.deepcopy(content)))
    paths = {path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path)}
    known = [*DIFFERENCES, *BEFORE_1_6]
    assert [path for path in sorted(paths) if not any(re.fullmatch(pattern, path) for pattern in known)] == []
    if case == "0.9":
        named = {re.sub(r"<class '.*\.(\w+)'>", r"\1", path): text for path, text in theirs.items() if path.startswith("callbacks")}
        assert named == {path: text for path, text in mine.items() if path.startswith("callbacks")}


def gone_on(side: str, name: str, path: Path, folder: Path) -> dict[str, Any]:
    """What a run of one library leaves behind that goes on from a file."""
    scenario = legacy_model.SCENARIOS[name.split("-")[2]]
    world = World(side, folder)
    module = legacy_model.net(world.api, scenario.get("manual", False), scenario.get("by_step", False))()
    rows = legacy_model.data(world.api)(scenario.get("batches", 4))
    stopping = world.callback("EarlyStopping", monitor="v", patience=9)
    with quiet(side):
        trainer = world.trainer(callbacks=[stopping], enable_checkpointing=False, num_sanity_val_steps=0, **scenario["trainer"])
        trainer.fit(module, datamodule=rows, ckpt_path=path)
    return {
        "epoch and step": (trainer.current_epoch, trainer.global_step),
        "weights": plain(module.state_dict()),
        "best": float(stopping.best_score),
        "schedule": trainer.lr_scheduler_configs[0].scheduler.last_epoch,
    }


@pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks")
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("epoch") and not name.startswith(("pl-1.0", "pl-1.2", "pl-1.4"))])
def test_both_libraries_go_on_alike_from_a_file_and_from_what_lx_makes_of_it(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.ckpt"
    upgraded = tmp_path / "upgraded.ckpt"
    upgraded.write_bytes(path.read_bytes())
    assert upgrade(upgraded).startswith("is up to date (2.6.6)" if "2.6.6" in name else "upgraded from ")
    ends = {(side, source.stem): gone_on(side, name, source, tmp_path) for side in SIDES for source in (path, upgraded)}
    expected = ends["lx", name]
    assert expected["epoch and step"] == (3, 12)
    peer = ends.pop(("lightning", name))
    assert (peer != expected) == name.startswith("pl-1.5"), "of files before 1.6, Lightning takes up the steps and begins the epochs anew"
    assert set(map(str, ends.values())) == {str(expected)}


def test_states_lie_under_the_names_of_their_classes_where_these_were_the_keys() -> None:
    found = []
    for content in (read_checkpoint(FOLDER / "pl-1.4.9-epoch.ckpt"), lightnings("pl-1.4.9-epoch")):
        found.append(plain({getattr(key, "__qualname__", key): state for key, state in content["callbacks"].items()}))
    assert found[0] == found[1]
    assert set(found[0]) == {"EarlyStopping", "ModelCheckpoint", "Timer"}
