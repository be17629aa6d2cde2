"""An error from elsewhere that does not wait for a batch: what the main thread waits in is broken off."""

import threading
from typing import Any

import pytest

from lx import LightningModule, Trainer
from lx.kernel import PluginManager
from lx.testing import FakeCallback, TinyDataModule, TinyModule

pytestmark = pytest.mark.filterwarnings("ignore:an epoch has 4 training batches")


class Waits(TinyModule):
    """Waits in a step for what never comes; another thread interrupts the run."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        interrupts = threading.Thread(target=self.trainer.run.interrupt, args=(self.error,), kwargs={"at_once": True})
        try:
            interrupts.start()
            threading.Event().wait()
        finally:
            interrupts.join()


def fit(manager: PluginManager, module: LightningModule, *callbacks: Any) -> Trainer:
    trainer = Trainer(manager=manager, max_epochs=2, logger=False, enable_checkpointing=False, callbacks=[*callbacks])
    trainer.fit(module, TinyDataModule())
    return trainer


def test_it_is_raised_where_the_step_waits(plugin_manager: PluginManager) -> None:
    error, told = LookupError("from elsewhere"), FakeCallback()
    with pytest.raises(LookupError) as caught:
        fit(plugin_manager, Waits(error), told)
    assert caught.value is error
    assert isinstance(error.__cause__, KeyboardInterrupt)
    assert told.called()[-2:] == ["on_exception", "teardown"]
    assert not hasattr(error, "__notes__")


def test_the_next_run_is_not_interrupted(plugin_manager: PluginManager) -> None:
    with pytest.raises(LookupError):
        fit(plugin_manager, Waits(LookupError()))
    assert fit(plugin_manager, TinyModule()).global_step == 8


def test_ctrl_c_stays_what_it_is(plugin_manager: PluginManager) -> None:
    class Pressed(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.trainer.run.interrupt(LookupError("meanwhile"))
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        fit(plugin_manager, Pressed())
    assert caught.value.code == 130


def test_a_run_in_another_thread_waits_for_its_boundary(plugin_manager: PluginManager) -> None:
    class Asks(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.trainer.run.interrupt(LookupError("from elsewhere"), at_once=True)
            return super().training_step(batch, batch_idx)

    caught: list[BaseException] = []

    def run() -> None:
        try:
            fit(plugin_manager, Asks())
        except LookupError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [str(error) for error in caught] == ["from elsewhere"]
    assert caught[0].__cause__ is None
