"""What callbacks may do to a batch: have it contribute nothing, leave out the step after it, or go back to a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from lx import Callback, Trainer
from lx.kernel import PluginManager
from lx.kernel.errors import CheckpointError, RewindRun
from lx.loops.returned import Skipped
from lx.running.reading import newest_that, read_to_load
from lx.testing.models import TinyDataModule, TinyModule

Step = Callable[[Any, int], Any]


class Moving(TinyModule):
    """Has a scheduler that moves with each step."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step"}]


class Around(Callback):
    """Skips batches, of some without a look at them, and leaves out steps."""

    def __init__(self, unseen: tuple[int, ...] = (), seen: tuple[int, ...] = (), steps: tuple[int, ...] = ()) -> None:
        self.unseen, self.seen, self.steps = unseen, seen, steps
        self.outputs: list[Any] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.fit_loop.around_step = self.around

    def around(self, step: Step) -> Step:
        def guarded(batch: Any, batch_idx: int) -> Any:
            if batch_idx in self.unseen:
                return Skipped()
            output = step(batch, batch_idx)
            return Skipped(output) if batch_idx in self.seen else output

        return guarded

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.fit_loop.progress.batch.ready - 1 in self.steps:
            trainer.fit_loop.epoch_loop.optimize.skip_step()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        trainer.fit_loop.around_step = None


def fit(manager: PluginManager, *callbacks: Callback, path: Any = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(manager=manager, logger=False, enable_checkpointing=False, callbacks=list(callbacks), **{"max_epochs": 1, **options})
    trainer.fit(Moving(), datamodule=TinyDataModule(), ckpt_path=path)
    return trainer


def rate(trainer: Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("what", ["unseen", "seen", "steps"])
def test_without_a_step_neither_the_count_nor_a_scheduler_moves(plugin_manager: PluginManager, what: str) -> None:
    around = Around(**{what: (1, 3)})
    trainer = fit(plugin_manager, around)
    assert trainer.global_step == 2
    assert rate(trainer) == 0.1 * 0.5**2
    assert trainer.fit_loop.progress.batch.processed == 4
    assert [bool(outputs) for outputs in around.outputs] == ([True] * 4 if what == "steps" else [True, False, True, False])


def test_a_step_that_is_left_out_changes_no_weight_and_leaves_no_gradient(plugin_manager: PluginManager) -> None:
    trainer = fit(plugin_manager, Around(steps=(0, 1, 2, 3)))
    torch.manual_seed(0)
    weights = dict(Moving().named_parameters())
    for name, parameter in trainer.lightning_module.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.grad is None


def test_a_window_that_the_end_of_the_epoch_cuts_off_may_be_left_out(plugin_manager: PluginManager) -> None:
    trainer = fit(plugin_manager, Around(seen=(3,)), accumulate_grad_batches=3)
    assert trainer.global_step == 1
    assert rate(trainer) == 0.1 * 0.5


class GoesBack(Callback):
    """Saves before a batch, and goes back there from a later one, once."""

    def __init__(self, path: Path, save: tuple[int, int], back: tuple[int, int]) -> None:
        self.path, self.save, self.back = path, save, back
        self.went = False
        self.events: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        place = trainer.current_epoch, batch_idx
        self.events.append(place)
        if place == self.back and not self.went:
            self.went = True
            raise RewindRun(read_to_load(trainer.run, self.path))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx + 1) == self.save and not self.went:
            trainer.save_checkpoint(self.path)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.events.append("start")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.events.append("end")


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(("save", "back"), [((0, 2), (0, 3)), ((0, 2), (1, 2)), ((0, 4), (1, 0))])
def test_a_run_that_goes_back_ends_as_it_would_have(
    plugin_manager: PluginManager, tmp_path: Path, save: tuple[int, int], back: tuple[int, int], window: int
) -> None:
    goes = GoesBack(tmp_path / "one.ckpt", save, back)
    trainer = fit(plugin_manager, goes, max_epochs=2, accumulate_grad_batches=window)
    whole = fit(plugin_manager, max_epochs=2, accumulate_grad_batches=window)
    assert goes.went
    assert trainer.global_step == whole.global_step
    assert rate(trainer) == rate(whole)
    for mine, yours in zip(trainer.lightning_module.parameters(), whole.lightning_module.parameters(), strict=True):
        assert torch.equal(mine, yours)
    every = [(epoch, batch) for epoch in (0, 1) for batch in range(4)]
    assert goes.events == ["start", *[one for one in every if one <= back], *[one for one in every if one >= save], "end"]


def test_the_newest_good_checkpoint_is_one_of_this_run(plugin_manager: PluginManager, tmp_path: Path) -> None:
    class Looks(Callback):
        roles = frozenset({"checkpoint"})

        def find_all(self, trainer: Any) -> set[str]:
            return {str(path) for path in tmp_path.glob("*.ckpt")}

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            path = tmp_path / f"{batch_idx}.ckpt"
            trainer.save_checkpoint(path, weights_only=batch_idx == 3)
            path.touch()  # what was saved is in memory
            if batch_idx == 3:  # which is not enough to go on from
                found = newest_that(trainer.run, lambda path, content: content["global_step"] != 3)
                self.found = None if found is None else Path(found[0]).name
                self.none = newest_that(trainer.run, lambda path, content: False)
                with pytest.raises(CheckpointError):
                    read_to_load(trainer.run, tmp_path / "3.ckpt")

    looks = Looks()
    torch.manual_seed(0)
    Trainer(manager=plugin_manager, logger=False, callbacks=[looks], max_epochs=1).fit(Moving(), datamodule=TinyDataModule())
    assert looks.found == "1.ckpt"
    assert looks.none is None
