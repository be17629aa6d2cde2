"""When logged values reach the three dictionaries and the loggers, at which step, and that a training step waits for no device."""

import itertools
import warnings
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from lx import Callback, LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakeLogger, fake_plugin_manager

Rows = list[tuple[int, dict[str, float]]]


class Model(LightningModule):
    """One layer, which logs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches(count: int) -> Any:
    """So many batches of two rows."""
    return DataLoader(torch.arange(4.0 * count).reshape(2 * count, 2), batch_size=2)  # type: ignore[arg-type]


def logs(name: str, **options: Any) -> Any:
    """A step that logs 10 for each epoch and 1 for each batch."""

    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log(name, 10.0 * self.current_epoch + batch_idx, **options)

    return step


def trained(**options: Any) -> Any:
    """A training step that logs `loss`, like `logs`, and trains."""
    log = logs("loss", **options)

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        log(self, batch, batch_idx)
        return self.layer(batch).mean()

    return step


def run(hooks: dict[str, Any], train: Any = 2, val: Any = None, entry: str = "fit", **options: Any) -> Trainer:
    """A trainer that has run a model with these hooks."""
    neutral = {"logger": FakeLogger(), "max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    trainer = Trainer(manager=fake_plugin_manager(), **{**neutral, **options})
    model = type("Own", (Model,), hooks)()
    if entry == "fit":
        trainer.fit(model, batches(train), batches(val) if isinstance(val, int) else val)
    else:
        getattr(trainer, entry)(model, batches(val) if isinstance(val, int) else val, verbose=False)
    return trainer


def sent(trainer: Any) -> Rows:
    """The rows that the logger got."""
    found: Rows = trainer.logger.metrics
    return found


class Looks(Callback):
    """Writes down what the dictionaries hold in some hooks."""

    def __init__(self, *hooks: str) -> None:
        self.seen: list[tuple[str, dict[str, float], dict[str, float], dict[str, float]]] = []
        for hook in hooks:
            setattr(self, hook, lambda trainer, *_, hook=hook: self.look(hook, trainer))

    def look(self, hook: str, trainer: Any) -> None:
        dictionaries = (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics)
        self.seen.append((hook, *({name: float(value) for name, value in one.items()} for one in dictionaries)))


# -- names and dictionaries ----------------------------------------------------------------------------------------------------


def test_a_value_by_step_and_by_epoch_in_each_dictionary() -> None:
    looks = Looks("on_train_batch_end", "on_train_epoch_end", "on_train_end", "on_fit_end")
    trainer = run({"training_step": trained(on_epoch=True, prog_bar=True)}, callbacks=[looks])
    first, last = {"loss_step": 0.0}, {"loss_step": 1.0}
    over = {"loss_step": 1.0, "loss_epoch": 0.5}
    assert looks.seen == [
        ("on_train_batch_end", {"loss": 0.0, **first}, first, first),
        ("on_train_batch_end", {"loss": 1.0, **last}, last, last),
        *((hook, {"loss": 0.5, **over}, over, over) for hook in ("on_train_epoch_end", "on_train_end", "on_fit_end")),
    ]
    assert trainer.callback_metrics == {"loss": 0.5, **over}
    assert sent(trainer) == [
        (0, {"loss_step": 0.0, "epoch": 0}),
        (1, {"loss_step": 1.0, "epoch": 0}),
        (1, {"loss_epoch": 0.5, "epoch": 0}),
    ]


@pytest.mark.parametrize("reads", [False, True])
def test_the_last_step_is_seen_after_the_epoch_though_it_was_sent_to_nobody(reads: bool) -> None:
    looks = [Looks("on_train_batch_end")] if reads else []
    trainer = run({"training_step": trained(prog_bar=True)}, log_every_n_steps=0, callbacks=looks)
    assert (trainer.callback_metrics, trainer.progress_bar_metrics, sent(trainer)) == ({"loss": 1.0}, {"loss": 1.0}, [])


def test_logger_false_keeps_a_value_from_loggers_alone() -> None:
    trainer = run({"training_step": trained(logger=False, prog_bar=True)})
    assert (trainer.callback_metrics, trainer.progress_bar_metrics) == ({"loss": 1.0}, {"loss": 1.0})
    assert (trainer.logged_metrics, sent(trainer)) == ({}, [])


def test_progress_bar_values_are_numbers_and_the_others_tensors() -> None:
    trainer = run({"training_step": trained(prog_bar=True)})
    assert type(trainer.progress_bar_metrics["loss"]) is float
    assert isinstance(trainer.callback_metrics["loss"], torch.Tensor)


def test_step_values_of_validation_are_not_for_callbacks() -> None:
    looks = Looks("on_validation_batch_end", "on_validation_epoch_end", "on_validation_end")
    run({"validation_step": logs("val", on_step=True, prog_bar=True)}, val=2, entry="validate", callbacks=[looks])
    steps = {"val_step": 1.0}
    over = {"val_step": 1.0, "val_epoch": 0.5}
    assert looks.seen == [
        ("on_validation_batch_end", {}, {"val_step": 0.0}, {"val_step": 0.0}),
        ("on_validation_batch_end", {}, steps, steps),
        *((hook, {"val": 0.5, "val_epoch": 0.5}, over, over) for hook in ("on_validation_epoch_end", "on_validation_end")),
    ]


def test_the_values_of_training_and_of_validation_of_one_name_replace_each_other_as_they_come() -> None:
    looks = Looks("on_validation_start", "on_validation_end", "on_train_epoch_end")
    hooks = {"training_step": trained(), "validation_step": lambda self, batch, batch_idx: self.log("loss", 100.0)}
    trainer = run(hooks, 4, 1, val_check_interval=2, callbacks=[looks])
    assert [(hook, seen["loss"]) for hook, seen, *_ in looks.seen] == [
        ("on_validation_start", 1.0),
        ("on_validation_end", 100.0),
        ("on_validation_start", 3.0),
        ("on_validation_end", 100.0),
        ("on_train_epoch_end", 100.0),
    ]
    assert trainer.callback_metrics == {"loss": 100.0}


def test_an_epochs_hooks_are_seen_as_soon_as_the_next_hook() -> None:
    hooks = {
        "on_train_start": lambda self: self.log("start", 1.0),
        "on_validation_epoch_end": lambda self: self.log("val_end", 2.0),
        "on_train_epoch_end": lambda self: self.log("end", 3.0),
    }
    looks = Looks("on_train_epoch_start", "on_validation_end", "on_train_epoch_end", "on_train_end")
    trainer = run({**hooks, "validation_step": logs("val")}, val=1, callbacks=[looks])
    assert [seen for _, seen, *_ in looks.seen] == [
        {"start": 1.0},
        {"start": 1.0, "val": 0.0, "val_end": 2.0},
        {"start": 1.0, "val": 0.0, "val_end": 2.0},
        {"start": 1.0, "val": 0.0, "val_end": 2.0, "end": 3.0},
    ]
    assert sent(trainer) == [(1, {"val": 0.0, "val_end": 2.0, "epoch": 0}), (1, {"start": 1.0, "end": 3.0, "epoch": 0})]


@pytest.mark.parametrize("who", ["module", "callback"])
def test_monitors_see_what_is_logged_at_the_end_of_the_epoch(who: str) -> None:
    class Logs(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log("end", 5.0)

    class Watches(Looks):
        phase = "monitor"

    watches = Watches("on_train_epoch_end")
    hooks = {"on_train_epoch_end": lambda self: self.log("end", 5.0)} if who == "module" else {}
    run(hooks, callbacks=[watches, Logs()] if who == "callback" else [watches])
    assert [seen for _, seen, *_ in watches.seen] == [{"end": 5.0}]


def test_every_entry_point_begins_with_empty_dictionaries() -> None:
    trainer = run({"training_step": trained(prog_bar=True)})
    trainer.validate(type("Own", (Model,), {"validation_step": logs("val")})(), batches(1), verbose=False)
    assert (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics) == ({"val": 10.0}, {"val": 10.0}, {})


# -- the axis ------------------------------------------------------------------------------------------------------------------


def test_steps_are_sent_every_so_many_windows_and_epochs_at_the_last_one() -> None:
    trainer = run({"training_step": trained(on_epoch=True)}, 5, max_epochs=2, log_every_n_steps=2)
    assert sent(trainer) == [
        (1, {"loss_step": 1.0, "epoch": 0}),
        (3, {"loss_step": 3.0, "epoch": 0}),
        (4, {"loss_epoch": 2.0, "epoch": 0}),
        (5, {"loss_step": 10.0, "epoch": 1}),
        (7, {"loss_step": 12.0, "epoch": 1}),
        (9, {"loss_step": 14.0, "epoch": 1}),
        (9, {"loss_epoch": 12.0, "epoch": 1}),
    ]


def test_the_axis_counts_windows_and_not_batches() -> None:
    trainer = run({"training_step": trained()}, 4, accumulate_grad_batches=2)
    assert sent(trainer) == [(0, {"loss": 1.0, "epoch": 0}), (1, {"loss": 3.0, "epoch": 0})]


def test_the_axis_counts_batches_and_not_the_steps_of_several_optimizers() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.step()
        self.log("steps", float(self.global_step))

    def two(self: Any) -> Any:
        return [torch.optim.SGD([parameter], lr=0.1) for parameter in self.layer.parameters()]

    hooks = {"training_step": step, "configure_optimizers": two, "automatic_optimization": False}
    assert sent(run(hooks)) == [(0, {"steps": 2.0, "epoch": 0}), (1, {"steps": 4.0, "epoch": 0})]


def test_evaluated_steps_are_sent_each_on_an_axis_that_counts_them() -> None:
    hooks = {"validation_step": logs("val", on_step=True, on_epoch=False)}
    trainer = run(hooks, 50, 2, max_epochs=2, log_every_n_steps=50)
    assert sent(trainer) == [(0, {"val": 0.0}), (1, {"val": 1.0}), (2, {"val": 10.0}), (3, {"val": 11.0})]


def test_values_of_validation_stand_at_the_axis_of_training_and_come_first() -> None:
    hooks = {"training_step": trained(on_step=False, on_epoch=True), "validation_step": logs("val")}
    assert sent(run(hooks, 3, 1, max_epochs=2)) == [
        (2, {"val": 0.0, "epoch": 0}),
        (2, {"loss": 1.0, "epoch": 0}),
        (5, {"val": 10.0, "epoch": 1}),
        (5, {"loss": 11.0, "epoch": 1}),
    ]


def test_a_metric_named_step_is_the_axis_and_takes_the_place_of_the_epoch() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log_dict({"loss": 1.0, "step": 100.0 + batch_idx})
        return self.layer(batch).mean()

    trainer = run({"training_step": step})
    assert sent(trainer) == [(100, {"loss": 1.0}), (101, {"loss": 1.0})]
    assert trainer.callback_metrics == {"loss": 1.0, "step": 101.0}


def test_a_metric_named_epoch_stays_what_it_is() -> None:
    assert sent(run({"training_step": lambda self, batch, batch_idx: self.log("epoch", 7.0)}, 1)) == [(0, {"epoch": 7.0})]


def test_a_step_is_sent_once_though_other_names_are_due() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 1:
            self.log("once", 5.0, on_epoch=True)
        self.log("always", float(batch_idx))
        return self.layer(batch).mean()

    trainer = run({"training_step": step, "validation_step": logs("val")}, 4, 1, val_check_interval=2)
    assert [row for row in sent(trainer) if "val" not in row[1]] == [
        (0, {"always": 0.0, "epoch": 0}),
        (1, {"always": 1.0, "once_step": 5.0, "epoch": 0}),
        (2, {"always": 2.0, "epoch": 0}),
        (3, {"always": 3.0, "epoch": 0}),
        (3, {"once_epoch": 5.0, "epoch": 0}),
    ]


def test_nothing_of_an_epoch_is_sent_or_counted_in_the_next() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 0:
            self.log("early", 5.0, on_epoch=True)
        return self.layer(batch).mean()

    assert sent(run({"training_step": step}, 1, max_epochs=3)) == [
        (0, {"early_step": 5.0, "epoch": 0}),
        (0, {"early_epoch": 5.0, "epoch": 0}),
    ]


def test_a_stop_sends_what_was_logged_last() -> None:
    def stop(self: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.trainer.should_stop = batch_idx == 1

    trainer = run({"training_step": trained(), "on_train_batch_end": stop}, 60, log_every_n_steps=50)
    assert sent(trainer) == [(1, {"loss": 1.0, "epoch": 0})]


def test_a_logger_saves_after_each_emission_and_gets_keywords() -> None:
    trainer = run({"training_step": trained()}, callbacks=[])
    calls = [call for call in trainer.logger.calls if call.name in ("log_metrics", "save")][1:]  # the first save follows hyperparameters
    assert [call.name for call in calls] == ["log_metrics", "save"] * 2
    assert [sorted(call.kwargs) for call in calls[::2]] == [["metrics", "step"]] * 2
    assert all(type(value) in (float, int) for call in calls[::2] for value in call.kwargs["metrics"].values())


def test_every_logger_gets_the_same() -> None:
    loggers = [FakeLogger("a"), FakeLogger("b")]
    run({"training_step": trained(on_epoch=True)}, logger=loggers)
    assert loggers[0].metrics == loggers[1].metrics != []


def test_the_sanity_check_leaves_no_trace() -> None:
    looks = Looks("on_train_start")
    hooks = {"validation_step": logs("val", on_step=True, prog_bar=True), "on_validation_epoch_end": lambda self: self.log("end", 1.0)}
    trainer = run(hooks, 1, 2, num_sanity_val_steps=2, callbacks=[looks])
    assert looks.seen == [("on_train_start", {}, {}, {})]
    assert sent(trainer) == [(0, {"val_step": 0.0}), (1, {"val_step": 1.0}), (0, {"val_epoch": 0.5, "end": 1.0, "epoch": 0})]


# -- several loaders -----------------------------------------------------------------------------------------------------------


def test_each_loader_has_its_names_and_its_row_of_results() -> None:
    hooks = {"test_step": logs("x", on_step=True), "on_test_epoch_end": lambda self: self.log("shared", 9.0)}
    trainer = Trainer(manager=fake_plugin_manager(), logger=FakeLogger())
    results = trainer.test(type("Own", (Model,), hooks)(), [batches(2), batches(1)], verbose=False)
    assert results == [
        {"x_epoch/dataloader_idx_0": 0.5, "shared": 9.0},
        {"x_epoch/dataloader_idx_1": 0.0, "shared": 9.0},
    ]
    assert sent(trainer) == [
        (0, {"x_step/dataloader_idx_0": 0.0}),
        (1, {"x_step/dataloader_idx_0": 1.0}),
        (0, {"x_step/dataloader_idx_1": 0.0}),
        (0, {"x_epoch/dataloader_idx_0": 0.5, "x_epoch/dataloader_idx_1": 0.0, "shared": 9.0, "epoch": 0}),
    ]
    assert set(trainer.callback_metrics) == {*(f"{name}/dataloader_idx_{idx}" for name in ("x", "x_epoch") for idx in (0, 1)), "shared"}


def test_names_of_ones_own_must_differ_between_loaders() -> None:
    def own(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        self.log(f"x{dataloader_idx}", 1.0, add_dataloader_idx=False, on_step=True, on_epoch=False)

    trainer = run({"validation_step": own}, val=[batches(1), batches(1)], entry="validate")
    assert sent(trainer) == [(0, {"x0": 1.0}), (0, {"x1": 1.0})]
    with pytest.raises(MisconfigurationException, match=r"self\.log\('x', add_dataloader_idx=False\): two loaders log this name"):
        run({"validation_step": logs("x", add_dataloader_idx=False)}, val=[batches(1), batches(1)], entry="validate")


def test_a_run_after_one_that_failed_in_the_second_loader_has_plain_names() -> None:
    def fails(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        self.log("x", 1.0)
        if dataloader_idx:
            raise ValueError("on purpose")

    trainer = Trainer(manager=fake_plugin_manager(), logger=FakeLogger(), max_epochs=1, log_every_n_steps=1)
    with pytest.raises(ValueError, match="on purpose"):
        trainer.validate(type("Own", (Model,), {"validation_step": fails})(), [batches(1), batches(1)], verbose=False)
    trainer.fit(type("Own", (Model,), {"training_step": trained()})(), batches(1))
    assert sent(trainer) == [(0, {"loss": 0.0, "epoch": 0})]


# -- no waiting ----------------------------------------------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Counts how often a value is fetched from its device, which waits for all that the device still has to do."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ == "_local_scalar_dense"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"on_epoch": True}, {"on_step": False, "on_epoch": True}, {"on_epoch": True, "reduce_fx": "max"}])
def test_between_flushes_a_step_waits_for_no_device(options: dict[str, Any]) -> None:
    waits, counts = Waits(), []

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).mean()
        self.log("loss", loss, prog_bar=True, **options)
        self.log("constant", 1.0, **options)
        return loss

    class Counts(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            counts.append(waits.count)

    with waits:
        run({"training_step": step}, 600, log_every_n_steps=300, callbacks=[Counts()])
    waited = [later - earlier for earlier, later in itertools.pairwise(counts)]
    assert waited == [0] * 599


def test_the_count_of_waits_would_see_one() -> None:
    with Waits() as waits:
        torch.ones(()).item()
    assert waits.count == 1


# -- loggers of a trainer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["logger", "loggers"])
def test_a_logger_that_is_set_later_gets_what_comes_then(how: str) -> None:
    late = FakeLogger("late")

    class Sets(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1:
                setattr(trainer, how, late if how == "logger" else [late])

    early = FakeLogger("early")
    trainer = run({"training_step": trained()}, 2, logger=early, callbacks=[Sets()])
    assert (early.metrics, late.metrics) == ([(0, {"loss": 0.0, "epoch": 0})], [(1, {"loss": 1.0, "epoch": 0})])
    assert trainer.logger is late


def test_the_first_of_several_loggers_is_the_logger_and_names_the_folder(tmp_path: Any) -> None:
    folders = [str(tmp_path / name) for name in ("a", "b")]
    loggers = [FakeLogger(save_dir=folder) for folder in folders]
    trainer = Trainer(manager=fake_plugin_manager(), logger=loggers, default_root_dir=tmp_path)
    assert (trainer.logger, trainer.loggers, trainer.log_dir) == (loggers[0], loggers, folders[0])
    trainer.logger = None
    assert (trainer.logger, trainer.loggers, trainer.log_dir) == (None, [], str(tmp_path))


@pytest.mark.parametrize("entry", ["validate", "test", "predict", "fit"])
def test_hyperparameters_are_logged_by_every_entry_point_unless_that_is_switched_off(entry: str) -> None:
    class WithParameters(Model):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"width": 3})

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

        test_step = predict_step = validation_step

    for enabled in (True, False):
        trainer = Trainer(
            manager=fake_plugin_manager(), logger=FakeLogger(), max_epochs=1, log_every_n_steps=1, enable_autolog_hparams=enabled
        )
        loaders = (batches(1), batches(1)) if entry == "fit" else (batches(1),)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "predict_step returned None")
            getattr(trainer, entry)(WithParameters(), *loaders)
        assert [dict(params) for params in trainer.logger.hyperparams] == ([{"width": 3}] if enabled else [])
