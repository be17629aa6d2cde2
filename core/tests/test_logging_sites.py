"""Where `self.log` may be called, what it does there by default, and what it refuses, with the words in which it does."""

import re
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lx import Callback, LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakeLogger, fake_plugin_manager

BATCH_HOOKS = (
    "training_step",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_backward",
    "on_after_backward",
    "backward",
    "on_before_optimizer_step",
    "optimizer_step",
    "configure_gradient_clipping",
    "clip_gradients",
    "on_before_zero_grad",
    "optimizer_zero_grad",
)
EVALUATION_HOOKS = {
    "validate": ("validation_step", "on_validation_batch_start", "on_validation_batch_end"),
    "test": ("test_step", "on_test_batch_start", "on_test_batch_end"),
}
EPOCH_HOOKS = {
    "fit": ("on_train_start", "on_train_epoch_start", "on_train_epoch_end"),
    "validate": ("on_validation_start", "on_validation_epoch_start", "on_validation_epoch_end"),
    "test": ("on_test_start", "on_test_epoch_start", "on_test_epoch_end"),
}
REFUSED = {
    "fit": (
        "configure_model configure_optimizers configure_callbacks prepare_data setup teardown on_fit_start on_fit_end on_train_end"
        " on_validation_end on_validation_model_eval on_validation_model_train on_validation_model_zero_grad lr_scheduler_step"
        " on_before_batch_transfer on_after_batch_transfer transfer_batch_to_device"
    ),
    "validate": "setup teardown on_validation_end on_validation_model_eval on_validation_model_train",
    "test": "setup teardown on_test_end on_test_model_eval on_test_model_train",
    "predict": (
        "predict_step on_predict_start on_predict_epoch_start on_predict_batch_start on_predict_batch_end on_predict_epoch_end"
        " on_predict_end on_predict_model_eval"
    ),
}


class Model(LightningModule):
    """One layer, which logs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def test_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        return self.layer(batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def batches() -> Any:
    """Three batches of two rows."""
    return DataLoader(torch.arange(12.0).reshape(6, 2), batch_size=2)  # type: ignore[arg-type]


def logging(site: str, **options: Any) -> Any:
    """A hook that does what it does otherwise, and logs, under its own name, how often it was called."""

    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        original = getattr(super(type(self), self), site, None)
        result = original(*args, **kwargs) if original is not None else None
        self.count = getattr(self, "count", 0) + 1
        self.log(site, float(self.count), **options)
        return result

    return hook


def run(entry: str, model: LightningModule, **options: Any) -> Trainer:
    """A trainer of fakes that has run an entry point."""
    neutral = {"logger": FakeLogger(), "max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    trainer = Trainer(manager=fake_plugin_manager(), **{**neutral, **options})
    loaders = (batches(), batches()) if entry == "fit" else (batches(),)
    getattr(trainer, entry)(model, *loaders, **({"verbose": False} if entry in ("validate", "test") else {}))
    return trainer


def rows(trainer: Any, name: str) -> list[tuple[int, float]]:
    """What the logger got under a name: step and value."""
    return [(step, values[name]) for step, values in trainer.logger.metrics if name in values]


def with_hook(site: str, **options: Any) -> Any:
    return type("Own", (Model,), {site: logging(site, **options)})()


# -- where it may be called ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", BATCH_HOOKS)
def test_a_hook_of_a_training_batch_logs_its_step_by_default(site: str) -> None:
    assert rows(run("fit", with_hook(site)), site) == [(0, 1.0), (1, 2.0), (2, 3.0)]


@pytest.mark.parametrize("site", BATCH_HOOKS)
def test_a_hook_of_a_training_batch_may_log_its_epoch_or_both(site: str) -> None:
    assert rows(run("fit", with_hook(site, on_step=False, on_epoch=True)), site) == [(2, 2.0)]
    both = run("fit", with_hook(site, on_epoch=True))
    assert rows(both, f"{site}_step") == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert rows(both, f"{site}_epoch") == [(2, 2.0)]
    assert rows(both, site) == []


@pytest.mark.parametrize(("entry", "site"), [(entry, site) for entry, sites in EVALUATION_HOOKS.items() for site in sites])
def test_a_hook_of_an_evaluated_batch_logs_its_epoch_by_default(entry: str, site: str) -> None:
    assert rows(run(entry, with_hook(site)), site) == [(0, 2.0)]
    assert rows(run(entry, with_hook(site, on_step=True, on_epoch=False)), site) == [(0, 1.0), (1, 2.0), (2, 3.0)]
    both = run(entry, with_hook(site, on_step=True))
    assert (rows(both, f"{site}_step"), rows(both, f"{site}_epoch")) == ([(0, 1.0), (1, 2.0), (2, 3.0)], [(0, 2.0)])


@pytest.mark.parametrize(("entry", "site"), [(entry, site) for entry, sites in EPOCH_HOOKS.items() for site in sites])
def test_a_hook_of_an_epoch_logs_the_epoch_and_refuses_steps(entry: str, site: str) -> None:
    assert rows(run(entry, with_hook(site)), site) == [(2 if entry == "fit" else 0, 1.0)]
    with pytest.raises(
        MisconfigurationException,
        match=rf"self\.log\('{site}', on_step=True\) in {site}: this hook runs once an epoch, so only on_epoch=True",
    ):
        run(entry, with_hook(site, on_step=True))


@pytest.mark.parametrize(("entry", "site"), [(entry, site) for entry, sites in REFUSED.items() for site in sites.split()])
def test_any_other_hook_is_refused(entry: str, site: str) -> None:
    with pytest.raises(
        MisconfigurationException, match=rf"self\.log\('{site}'\) was called .*, where nothing can be logged; call it in a step"
    ):
        run(entry, with_hook(site))


@pytest.mark.parametrize("site", ["on_train_end", "on_validation_end", "predict_step", "lr_scheduler_step", "on_predict_batch_end"])
def test_the_refusal_names_the_hook(site: str) -> None:
    with pytest.raises(MisconfigurationException, match=f"was called in {site}, where"):
        run("predict" if "predict" in site else "fit", with_hook(site))


def test_a_hook_within_a_hook_is_refused_by_its_own_name() -> None:
    class Saves(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint("a.ckpt")

    with pytest.raises(MisconfigurationException, match="was called in on_save_checkpoint, where"):
        run("fit", with_hook("on_save_checkpoint"), callbacks=[Saves()])


def test_a_step_that_is_called_by_hand_is_refused() -> None:
    model = with_hook("validation_step")
    run("validate", model)
    with pytest.raises(MisconfigurationException, match="was called outside of the hooks that the trainer calls"):
        model.validation_step(torch.ones(2, 2), 0)


def test_a_function_that_a_hook_calls_logs_for_the_hook() -> None:
    class Calls(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.evaluate(batch)

        def evaluate(self, batch: Any) -> Any:
            self.log("inner", 4.0)
            return self.layer(batch).mean()

    assert rows(run("fit", Calls()), "inner") == [(0, 4.0), (1, 4.0), (2, 4.0)]


# -- callbacks, children, nobody -----------------------------------------------------------------------------------------------


def test_callbacks_log_too() -> None:
    class Logs(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("own", float(batch_idx), on_epoch=True)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log_dict({"a": 1.0, "b": torch.tensor(2.0)}, prog_bar=True)

    trainer = run("fit", Model(), callbacks=[Logs()])
    assert rows(trainer, "own_step") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert rows(trainer, "own_epoch") == [(2, 1.0)]
    assert (rows(trainer, "a"), rows(trainer, "b")) == ([(2, 1.0)], [(2, 2.0)])
    assert trainer.progress_bar_metrics == {"a": 1.0, "b": 2.0}


def test_a_module_within_the_module_logs_through_the_same_trainer() -> None:
    class Outer(Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Model()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.inner.log("inner", float(batch_idx))

    assert rows(run("validate", Outer()), "inner") == [(0, 1.0)]


def test_without_a_trainer_nothing_is_logged_and_that_is_said() -> None:
    with pytest.warns(UserWarning, match=r"self\.log\('loss'\): this module is not attached to a Trainer, so nothing is logged"):
        Model().log("loss", 1.0)
    with pytest.warns(UserWarning, match=r"self\.log\('a'\): this module is not attached"):
        Model().log_dict({"a": 1.0})


def test_in_a_barebones_trainer_nothing_is_logged_and_that_is_said() -> None:
    trainer = Trainer(manager=fake_plugin_manager(), barebones=True, max_epochs=1)
    with pytest.warns(UserWarning, match=r"self\.log does nothing in a barebones Trainer"):
        trainer.fit(with_hook("training_step", on_epoch=True), batches(), batches())
    assert (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics) == ({}, {}, {})


def test_asking_for_a_logger_without_one_warns() -> None:
    with pytest.warns(UserWarning, match=r"self\.log\('validation_step', logger=True\): this trainer has no logger"):
        run("validate", with_hook("validation_step", logger=True), logger=False)


# -- arguments -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "x", "on_step": False, "on_epoch": False}, "self.log('x') in validation_step: on_step and on_epoch are both False"),
        (
            {"name": "x", "reduce_fx": "median"},
            "reduce_fx='median'): it must be 'mean', 'sum', 'min' or 'max'; for anything else log a metric",
        ),
        ({"name": "x", "reduce_fx": torch.std}, "it must be 'mean', 'sum', 'min' or 'max'"),
        ({"name": "x", "reduce_fx": []}, "reduce_fx=[]): it must be 'mean', 'sum', 'min' or 'max'"),
        ({"name": "x/dataloader_idx_0"}, "'/dataloader_idx_' is added by lx itself; pass the name without it"),
        ({"name": 3}, "the name must be a string, not 3"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    options = {"value": 1.0, **arguments}
    model = type("Own", (Model,), {"validation_step": lambda self, batch, batch_idx: self.log(**options)})()
    with pytest.raises(MisconfigurationException, match=re.escape(message)):
        run("validate", model)


OTHERS = {"prog_bar": True, "logger": False, "on_step": True, "on_epoch": True, "reduce_fx": "sum", "enable_graph": True}


@pytest.mark.parametrize("option", OTHERS)
def test_one_name_in_one_hook_has_one_set_of_arguments(option: str) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", 1.0)
        self.log("x", 1.0, **{option: OTHERS[option]})

    with pytest.raises(MisconfigurationException, match=r"self\.log\('x'\) is called twice in test_step with different arguments; use one"):
        run("test", type("Own", (Model,), {"test_step": step})())


def test_one_name_in_two_hooks_may_have_two() -> None:
    hooks = {
        "on_train_batch_start": lambda self, batch, batch_idx: self.log("x", 1.0, logger=False),
        "on_train_batch_end": lambda self, outputs, batch, batch_idx: self.log("x", 2.0, prog_bar=True),
    }
    trainer = run("fit", type("Own", (Model,), hooks)())
    assert rows(trainer, "x") == [(0, 2.0), (1, 2.0), (2, 2.0)]
    assert trainer.callback_metrics["x"] == 2.0


def test_several_values_in_a_hook_and_a_name_twice() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("twice", 1.0, on_epoch=True)
        self.log("other", 7.0)
        self.log("twice", 4.0, on_epoch=True)
        return self.layer(batch).mean()

    trainer = run("fit", type("Own", (Model,), {"training_step": step})())
    assert rows(trainer, "twice_step") == [(0, 4.0), (1, 4.0), (2, 4.0)]
    assert rows(trainer, "twice_epoch") == [(2, 2.5)]
    assert rows(trainer, "other") == [(0, 7.0), (1, 7.0), (2, 7.0)]


def test_log_dict_takes_the_arguments_of_log_and_no_others() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log_dict({"a": 1.0, "b": 2.0}, on_step=True, prog_bar=True, logger=False)

    trainer = run("validate", type("Own", (Model,), {"validation_step": step})())
    assert trainer.progress_bar_metrics == {"a_step": 1.0, "b_step": 2.0, "a_epoch": 1.0, "b_epoch": 2.0}
    assert trainer.logger.metrics == []
    wrong = type("Own", (Model,), {"validation_step": lambda self, batch, batch_idx: self.log_dict({"a": 1.0}, color="red")})
    with pytest.raises(TypeError, match="color"):
        run("validate", wrong())
