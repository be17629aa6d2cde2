"""An error from elsewhere that ends a run: where it is raised, and what becomes of a second one."""

import threading
from typing import Any

import pytest

from lx import Callback, Trainer
from lx.kernel import PluginManager
from lx.state import TrainerStatus
from lx.testing import FakeCallback, TinyDataModule, TinyModule

pytestmark = pytest.mark.filterwarnings("ignore:an epoch has 4 training batches")


class Interrupts(Callback):
    """Interrupts the run from another thread, whenever a hook is called."""

    def __init__(self, hook: str, *errors: BaseException) -> None:
        self.answers: list[bool] = []
        self._errors = errors
        setattr(self, hook, self._interrupt)

    def _interrupt(self, *args: Any, **kwargs: Any) -> None:
        trainer: Any = next(arg for arg in args if isinstance(arg, Trainer))

        def elsewhere() -> None:
            self.answers += [trainer.run.interrupt(error) for error in self._errors]

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()


def new_trainer(manager: PluginManager, *callbacks: Any) -> Trainer:
    return Trainer(manager=manager, max_epochs=2, logger=False, enable_checkpointing=False, callbacks=[*callbacks], num_sanity_val_steps=0)


@pytest.mark.parametrize(
    ("hook", "steps", "batches"),
    [
        ("on_fit_start", 1, 1),
        ("on_train_batch_start", 1, 1),
        ("on_train_batch_end", 1, 1),
        ("on_validation_batch_start", 4, 4),
        ("on_train_end", 8, 8),
    ],
)
def test_it_is_raised_at_the_next_boundary_or_at_the_end_of_the_loop(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, hook: str, steps: int, batches: int
) -> None:
    error, told = LookupError("from elsewhere"), FakeCallback()
    interrupts = Interrupts(hook, error)
    trainer = new_trainer(plugin_manager, interrupts, told)
    with pytest.raises(LookupError) as caught:
        trainer.fit(TinyModule(), tiny_data)
    assert caught.value is error
    assert interrupts.answers == [True]
    assert (trainer.global_step, trainer.fit_loop.progress.batch.total_ready) == (steps, batches)
    assert told.called()[-2:] == ["on_exception", "teardown"]
    assert trainer.state.status is TrainerStatus.INTERRUPTED
    assert not trainer.received_sigterm


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_other_entry_points_have_boundaries_too(plugin_manager: PluginManager, tiny_data: TinyDataModule, entry: str) -> None:
    stage = {"validate": "validation"}.get(entry, entry)
    told = FakeCallback()
    trainer = new_trainer(plugin_manager, Interrupts(f"on_{stage}_batch_start", LookupError()), told)
    with pytest.raises(LookupError):
        getattr(trainer, entry)(TinyModule(), datamodule=tiny_data)
    assert told.called().count(f"on_{stage}_batch_end") == 1


def test_the_first_counts_and_the_second_is_a_note_of_it(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    first = LookupError("the first")
    with pytest.raises(LookupError) as caught:
        new_trainer(plugin_manager, Interrupts("on_train_batch_start", first, first, OSError("the second"))).fit(TinyModule(), tiny_data)
    assert caught.value is first
    assert first.__notes__ == ["Another error was to end the run: OSError: the second"]


def test_it_is_a_note_of_an_error_that_was_raised_before_it(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    class Fails(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            raise ArithmeticError

    with pytest.raises(ArithmeticError) as caught:
        new_trainer(plugin_manager, Interrupts("on_train_batch_start", OSError("meanwhile")), Fails()).fit(TinyModule(), tiny_data)
    assert caught.value.__notes__ == ["Another error was to end the run: OSError: meanwhile"]


def test_what_comes_in_teardown_is_raised_before_fit_returns(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    with pytest.raises(OSError, match="late"):
        new_trainer(plugin_manager, Interrupts("teardown", OSError("late"))).fit(TinyModule(), tiny_data)


def test_a_run_that_is_over_refuses(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    trainer = new_trainer(plugin_manager)
    trainer.fit(TinyModule(), tiny_data)
    assert trainer.run is not None
    assert trainer.run.interrupt(OSError()) is False
    trainer.fit(TinyModule(), tiny_data)
