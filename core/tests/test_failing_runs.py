"""A run that is ended by an exception or by a signal: who is told, in which order, and what stands on the screen."""

import signal
import sys
import threading
from typing import Any

import pytest
import torch

from lx import Callback, Trainer
from lx.kernel import PluginManager
from lx.kernel.errors import SIGTERMException
from lx.state import TrainerStatus
from lx.testing import FakeCallback, FakeLogger, TinyDataModule, TinyModule


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
        pytest.warns(UserWarning, match=r"Logs\.on_exception failed, too: Misconf.*: self.log\('failed'\) was called in on_exc"),
        pytest.raises(ZeroDivisionError, match="the module fails"),
    ):
        trainer.fit(Fails(hook), tiny_data)
    assert "failed" not in trainer.callback_metrics
    assert other.called()[-2:] == ["on_exception", "teardown"]
    assert trainer.log.site is None
    assert trainer.state.status is TrainerStatus.INTERRUPTED
    assert trainer.interrupted


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


class Order:
    """Notes what is called, by owner."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def noting(self, base: type[Any], owner: str, *hooks: str) -> Any:
        """An instance whose hooks note that they are called."""

        def note(hook: str) -> Any:
            original = getattr(base, hook)

            def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
                calls.append(f"{owner}.{hook}")
                return original(self, *args, **kwargs)

            return noted

        calls = self.calls
        return type(base.__name__, (base,), {hook: note(hook) for hook in hooks})()

    def trainer(self, manager: PluginManager, *callbacks: Any) -> Trainer:
        """One with a callback and a logger that note what they are told."""
        logger = self.noting(FakeLogger, "L", "finalize")
        told = self.noting(Callback, "C", "on_fit_end", "on_exception", "teardown")
        off = {"enable_checkpointing": False, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
        return Trainer(manager=manager, max_epochs=1, logger=logger, callbacks=[told, *callbacks], **off)


class Ends(Callback):
    """Does something in a batch."""

    def __init__(self, end: Any, hook: str = "on_train_batch_end") -> None:
        setattr(self, hook, lambda *args, **kwargs: end())


def press() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def test_all_are_told_then_the_model_leaves_its_device_and_all_are_torn_down(plugin_manager: PluginManager) -> None:
    order = Order()
    module = order.noting(TinyModule, "M", "on_fit_end", "on_exception", "teardown", "cpu")
    data = order.noting(TinyDataModule, "D", "on_exception", "teardown")
    order.trainer(plugin_manager).fit(module, data)
    assert order.calls == ["C.on_fit_end", "M.on_fit_end", "M.cpu", "D.teardown", "C.teardown", "M.teardown", "L.finalize"]

    order.calls.clear()
    failing = order.trainer(plugin_manager, Ends(lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        failing.fit(module, data)
    told, torn_down = "C.on_exception D.on_exception M.on_exception M.cpu", "D.teardown C.teardown M.teardown L.finalize"
    assert order.calls == [*told.split(), *torn_down.split()]
    assert [call.args for call in failing.loggers[0].called("finalize")] == [("failed",)]  # type: ignore[attr-defined]


def test_a_failure_in_teardown_is_not_torn_down_twice(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    order = Order()
    trainer = order.trainer(plugin_manager, Ends(lambda: 1 / 0, "teardown"))
    with pytest.raises(ZeroDivisionError):
        trainer.fit(order.noting(TinyModule, "M", "cpu", "teardown"), tiny_data)
    assert order.calls == ["C.on_fit_end", "M.cpu", "C.teardown", "C.on_exception", "M.teardown", "L.finalize"]


def test_where_warnings_are_errors_what_fails_meanwhile_is_a_note(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    order = Order()
    trainer = order.trainer(plugin_manager, Logs())
    with pytest.raises(ZeroDivisionError) as caught:  # as they are in all tests
        trainer.fit(Fails("training_step"), tiny_data)
    (note,) = caught.value.__notes__
    assert "Logs.on_exception failed, too: MisconfigurationException" in note
    assert order.calls == ["C.on_exception", "C.teardown", "L.finalize"]


def test_ctrl_c_ends_the_program_with_130_and_says_where(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, capsys: pytest.CaptureFixture[str]
) -> None:
    order = Order()
    trainer = order.trainer(plugin_manager, Ends(press))
    with pytest.raises(SystemExit) as caught:
        trainer.fit(TinyModule(), tiny_data)
    assert caught.value.code == 130
    assert order.calls == ["C.on_exception", "C.teardown", "L.finalize"]
    assert trainer.interrupted
    assert capsys.readouterr().err == "lx: Ctrl-C ended the run in epoch 0, after 1 steps. No checkpoint was written.\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("entry", "hook", "place"),
    [
        ("fit", "on_validation_batch_end", "in epoch 0, after 4 steps, while validating. No checkpoint was written."),
        ("validate", "on_validation_batch_end", "in validate."),
        ("predict", "on_predict_batch_end", "in predict."),
    ],
)
def test_ctrl_c_in_an_evaluation_says_so(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, capsys: pytest.CaptureFixture[str], entry: str, hook: str, place: str
) -> None:
    trainer = Order().trainer(plugin_manager, Ends(press, hook))
    with pytest.raises(SystemExit):
        getattr(trainer, entry)(TinyModule(), datamodule=tiny_data)
    assert capsys.readouterr().err == f"lx: Ctrl-C ended the run {place}\n"


def test_in_an_interactive_session_the_interruption_is_raised(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    order = Order()
    trainer = order.trainer(plugin_manager, Ends(press))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(TinyModule(), tiny_data)
    assert order.calls == ["C.on_exception", "C.teardown", "L.finalize"]
    assert capsys.readouterr().err.startswith("lx: Ctrl-C ended the run in epoch 0")


@pytest.mark.filterwarnings("ignore:an epoch has 4 training batches")
@pytest.mark.parametrize("hook", ["on_after_backward", "on_before_optimizer_step", "on_train_batch_end", "on_validation_batch_start"])
def test_after_ctrl_c_in_a_session_the_model_trains_on_as_if_nothing_had_been(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def train(model: TinyModule, *callbacks: Callback) -> Trainer:
        trainer = new_trainer(plugin_manager, *callbacks)
        trainer.accumulate_grad_batches = 3
        trainer.fit(model, tiny_data)
        return trainer

    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    model = TinyModule()
    model.dropout = torch.nn.Dropout()  # has a mode of its own
    with pytest.raises(KeyboardInterrupt):
        train(model, Ends(press, hook))
    assert torch.is_grad_enabled()
    assert all(part.training for part in model.modules())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fresh = TinyModule()
    fresh.dropout = torch.nn.Dropout()
    fresh.load_state_dict(model.state_dict())
    assert train(model).state.status == train(fresh).state.status == TrainerStatus.FINISHED
    for ours, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_before_a_run_begins_nobody_is_told(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient(TinyModule):
        def configure_callbacks(self) -> Any:
            press()

    order = Order()
    with pytest.raises(SystemExit):
        order.trainer(plugin_manager).fit(Impatient(), tiny_data)
    assert order.calls == []
    assert capsys.readouterr().err == "lx: Ctrl-C ended the run before fit began.\n"


@pytest.mark.parametrize("hook", ["on_exception", "teardown"])
def test_ctrl_c_while_the_run_is_cleaned_up_says_what_another_will_do(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, capsys: pytest.CaptureFixture[str], hook: str
) -> None:
    order = Order()
    trainer = order.trainer(plugin_manager, Ends(lambda: 1 / 0), Ends(press, hook))
    with pytest.raises(ZeroDivisionError):
        trainer.fit(TinyModule(), tiny_data)
    assert order.calls == ["C.on_exception", "C.teardown", "L.finalize"]
    said = capsys.readouterr().err
    assert said == f"lx: the run is ending (Ends.{hook}); Ctrl-C once more ends the process at once, and leaves the rest undone.\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_while_the_run_is_cleaned_up_waits_for_its_end(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    order = Order()
    trainer = order.trainer(plugin_manager, Ends(lambda: 1 / 0), Ends(lambda: signal.raise_signal(signal.SIGTERM), "on_exception"))
    with pytest.raises(ZeroDivisionError):
        trainer.fit(TinyModule(), tiny_data)
    assert order.calls == ["C.on_exception", "C.teardown", "L.finalize"]
    assert trainer.received_sigterm
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_ends_the_run_after_the_batch_with_143_and_calls_the_handler_that_was_there(
    plugin_manager: PluginManager, tiny_data: TinyDataModule, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[int] = []

    def mine(signum: int, frame: Any) -> None:
        heard.append(signum)

    before = signal.signal(signal.SIGTERM, mine)
    try:
        order = Order()
        with pytest.raises(SIGTERMException) as caught:
            order.trainer(plugin_manager, Ends(lambda: signal.raise_signal(signal.SIGTERM), "on_train_batch_start")).fit(
                TinyModule(), tiny_data
            )
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert heard == [signal.SIGTERM]
    assert order.calls == ["C.on_exception", "C.teardown", "L.finalize"]
    assert capsys.readouterr().err.splitlines() == [
        "lx: SIGTERM came: the run ends at the next batch boundary; a second signal ends the process at once.",
        "lx: SIGTERM ended the run in epoch 0, after 1 steps. No checkpoint was written.",
    ]


def test_sigterm_when_all_is_done_ends_the_program_after_the_run(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    order = Order()
    trainer = order.trainer(plugin_manager, Ends(lambda: signal.raise_signal(signal.SIGTERM), "teardown"))
    with pytest.raises(SIGTERMException):
        trainer.fit(TinyModule(), tiny_data)
    assert order.calls == ["C.on_fit_end", "C.teardown", "L.finalize"]
    assert trainer.state.status is TrainerStatus.FINISHED


def test_a_run_outside_of_the_main_thread_leaves_signals_alone(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    def run() -> None:
        try:
            order.trainer(plugin_manager, Ends(lambda: 1 / 0)).fit(TinyModule(), tiny_data)
        except ZeroDivisionError as error:
            raised.append(error)

    order, raised = Order(), []
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert order.calls == ["C.on_exception", "C.teardown", "L.finalize"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_mode_of_a_model_after_prediction_is_a_hook_too(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    order = Order()
    module = order.noting(TinyModule, "M", "on_predict_model_eval", "on_predict_model_train")
    new_trainer(plugin_manager).predict(module, tiny_data)
    assert order.calls == ["M.on_predict_model_eval", "M.on_predict_model_train"]
    assert module.training


def test_a_data_module_that_fails_when_told_keeps_nobody_from_being_told(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    class Data(TinyDataModule):
        def on_exception(self, exception: BaseException) -> None:
            raise OSError("the disk is full")

    order = Order()
    with pytest.warns(UserWarning, match="Data.on_exception failed, too: OSError: the disk is full"), pytest.raises(ZeroDivisionError):
        order.trainer(plugin_manager, Ends(lambda: 1 / 0)).fit(order.noting(TinyModule, "M", "on_exception"), Data())
    assert order.calls == ["C.on_exception", "M.on_exception", "C.teardown", "L.finalize"]
