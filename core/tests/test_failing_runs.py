"""What can be logged, and where one is, when a run is ended by an exception."""

from typing import Any

import pytest

from lx import Callback, Trainer
from lx.kernel import PluginManager
from lx.testing import FakeCallback, TinyDataModule, TinyModule


class Logs(Callback):
    """Tries to log that the run failed."""

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        pl_module.log("failed", 1.0)


class Fails(TinyModule):
    """Fails in one of its hooks."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        setattr(self, hook, self.fail)

    def fail(self, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("the module fails")


def new_trainer(manager: PluginManager, *callbacks: Any) -> Trainer:
    return Trainer(manager=manager, max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[*callbacks], num_sanity_val_steps=0)


HOOKS = ("on_train_batch_end", "training_step", "backward", "on_train_epoch_end", "validation_step")


@pytest.mark.filterwarnings("ignore:an epoch has 4 training batches")
@pytest.mark.parametrize("hook", HOOKS)
def test_what_is_logged_in_on_exception_is_refused_with_the_name_of_that_hook(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, hook: str
) -> None:
    other = FakeCallback()
    trainer = new_trainer(plugin_manager, Logs(), other)
    with (
        pytest.warns(UserWarning, match=r"MisconfigurationException: self.log\('failed'\) was called in on_exception"),
        pytest.raises(ZeroDivisionError, match="the module fails"),
    ):
        trainer.fit(Fails(hook), tiny_data)
    assert "failed" not in trainer.callback_metrics
    assert other.called()[-2:] == ["on_exception", "teardown"]
    assert trainer.log.site is None


@pytest.mark.filterwarnings("ignore:an epoch has 4 training batches")
def test_a_step_that_catches_the_failure_of_a_hook_logs_as_the_step(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    class Manual(TinyModule):
        """Steps itself, and goes on where backward fails."""

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def on_before_backward(self, loss: Any) -> None:
            raise MemoryError

        def training_step(self, batch: Any, batch_idx: int) -> None:
            try:
                self.manual_backward(self.loss(batch))
            except MemoryError:
                sites.append(self.trainer.log.site)
                self.log("lost", 1.0, on_epoch=True, reduce_fx="sum", on_step=False)

    sites: list[Any] = []
    trainer = new_trainer(plugin_manager)
    trainer.fit(Manual(), tiny_data)
    assert sites == ["training_step"] * 4
    assert trainer.callback_metrics["lost"] == 4.0
