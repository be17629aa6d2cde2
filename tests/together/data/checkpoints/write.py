"""Writes this folder's files of one release of Lightning: `python write.py` where that release is installed. See README.md."""

import collections
import collections.abc
import inspect
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tqdm.auto  # noqa: F401 -- which old releases take for imported

warnings.simplefilter("ignore")
# What old releases look for where it is no more.
np.Inf = np.inf
collections.Mapping, collections.Iterable = collections.abc.Mapping, collections.abc.Iterable  # type: ignore[attr-defined]

torch.optim.lr_scheduler._LRScheduler = torch.optim.lr_scheduler.LRScheduler  # type: ignore[misc]

import legacy_model  # noqa: E402
import pytorch_lightning as pl  # noqa: E402
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint  # noqa: E402

RELEASE = tuple(int(part) for part in pl.__version__.split(".")[:2])
if (1, 3) <= RELEASE < (1, 6):  # Python 3.11 formats members of such enumerations in another way
    from pytorch_lightning.utilities.enums import LightningEnum

    LightningEnum.__format__ = lambda self, spec: format(self.value, spec)


def rows() -> type[Any]:
    """The data module, with what old releases lack or name otherwise."""
    made = legacy_model.data(pl)
    if RELEASE < (1, 6):
        made.on_save_checkpoint = lambda self, checkpoint: checkpoint.update(Rows=self.state_dict())
    if not hasattr(made, "save_hyperparameters"):
        made.save_hyperparameters = lambda self: None
    return made


def taken(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that this release knows."""
    return {name: value for name, value in options.items() if name in inspect.signature(function).parameters}


def main() -> None:
    """Runs each scenario, and keeps one of its files."""
    here, version = Path(__file__).parent, pl.__version__.partition(".post")[0]
    for name, scenario in legacy_model.SCENARIOS.items():
        if "every_n_train_steps" in scenario and RELEASE < (1, 3):
            continue  # its ModelCheckpoint knows epochs only
        with tempfile.TemporaryDirectory() as folder:
            run(scenario, Path(folder))
            files = sorted(Path(folder).glob("kept/step*.ckpt"), key=lambda path: torch.load(path, weights_only=False)["global_step"])
            kept = files[1 if name == "epoch" else 0]
            (here / f"pl-{version}-{name}.ckpt").write_bytes(kept.read_bytes())


def run(scenario: dict[str, Any], folder: Path) -> None:
    """A fit whose files lie in the folder `kept`."""
    keeps = {"dirpath": str(folder / "kept"), "filename": "step{step}", "monitor": "v", "save_top_k": -1, "save_last": True}
    if steps := scenario.get("every_n_train_steps"):
        keeps.update(every_n_train_steps=steps, monitor=None)
    callbacks: list[Any] = [ModelCheckpoint(**taken(ModelCheckpoint, keeps)), EarlyStopping("v", patience=7)]
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    options |= {"default_root_dir": str(folder), "num_sanity_val_steps": 0, "progress_bar_refresh_rate": 0, "weights_summary": None}
    if RELEASE >= (1, 3):
        from pytorch_lightning.callbacks import Timer  # not in the oldest

        callbacks.append(Timer())
    if RELEASE < (1, 5):
        del options["accelerator"]
    else:
        del options["progress_bar_refresh_rate"], options["weights_summary"]
    trainer = pl.Trainer(callbacks=callbacks, **taken(pl.Trainer.__init__, options), **scenario["trainer"])
    module = legacy_model.net(pl, scenario.get("manual", False), scenario.get("by_step", False))()
    trainer.fit(module, datamodule=rows()(scenario.get("batches", 4)))


if __name__ == "__main__":
    main()
