"""Scenarios of what is logged in training: sites, names, the axis, and when values are sent and seen."""

from typing import Any

import torch
from logging_record import Record, rows, scenario

TRAIN_SITES = ("on_train_batch_start", "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
EPOCH_SITES = ("on_train_start", "on_train_epoch_start", "on_train_epoch_end")


def logging_step(**options: Any) -> Any:
    """A training step that logs its loss as `loss`."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).pow(2).mean()
        self.log("loss", loss, **options)
        return loss

    return training_step


def logging_hook(name: str, **options: Any) -> Any:
    """A hook that logs how often it was called, under its own name."""

    def hook(self: Any, *_: Any, **__: Any) -> None:
        self.calls_so_far = {**getattr(self, "calls_so_far", {})}
        self.calls_so_far[name] = self.calls_so_far.get(name, 0) + 1
        self.log(name, float(self.calls_so_far[name]), **options)

    return hook


@scenario
def a_training_step_logs_by_step(record: Record) -> None:
    record.run("fit", record.module(training_step=logging_step()), max_epochs=2)


@scenario
def a_training_step_logs_by_epoch(record: Record) -> None:
    record.run("fit", record.module(training_step=logging_step(on_step=False, on_epoch=True)), max_epochs=2)


@scenario
def a_training_step_logs_both(record: Record) -> None:
    looking = record.looking("on_train_batch_end", "on_train_epoch_end", "on_train_end", "on_fit_end")
    record.run("fit", record.module(training_step=logging_step(on_epoch=True, prog_bar=True)), max_epochs=2, callbacks=[looking])


@scenario
def the_hooks_of_a_batch_log(record: Record) -> None:
    for options in ({}, {"on_epoch": True}, {"on_step": False, "on_epoch": True}):
        record.run("fit", record.module(**{site: logging_hook(site, **options) for site in TRAIN_SITES}))


@scenario
def the_end_of_a_batch_logs(record: Record) -> None:
    def end(self: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("end", outputs["loss"] * 2, on_epoch=True)

    record.run("fit", record.module(on_train_batch_end=end, training_step=logging_step()))


@scenario
def overridden_steps_log(record: Record) -> None:
    def optimizer_step(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)
        self.log("stepped", float(batch_idx))

    def backward(self: Any, loss: Any) -> None:
        loss.backward()
        self.log("backward", loss)

    def zero(self: Any, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad()
        self.log("zero", float(batch_idx))

    def clip(self: Any, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        self.log("clip", self.layer.bias.grad)

    record.run(
        "fit", record.module(optimizer_step=optimizer_step, backward=backward, optimizer_zero_grad=zero, configure_gradient_clipping=clip)
    )


@scenario
def the_hooks_of_an_epoch_log(record: Record) -> None:
    looking = record.looking("on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end", "on_train_end")
    record.run("fit", record.module(**{site: logging_hook(site) for site in EPOCH_SITES}), max_epochs=2, callbacks=[looking])


@scenario
def the_hooks_of_an_epoch_refuse_steps(record: Record) -> None:
    for site in EPOCH_SITES:
        record.attempt(site, lambda site=site: record.run("fit", record.module(**{site: logging_hook(site, on_step=True)})))  # type: ignore[misc]


@scenario
def other_hooks_refuse_all(record: Record) -> None:
    names = (
        "on_fit_start on_fit_end on_train_end setup teardown configure_model prepare_data on_validation_end on_validation_model_eval"
        " on_validation_model_train on_validation_model_zero_grad on_save_checkpoint lr_scheduler_step on_before_batch_transfer"
    )
    for name in names.split():
        options = {"enable_checkpointing": True} if name == "on_save_checkpoint" else {}
        record.attempt(name, lambda name=name, options=options: record.run("fit", record.module(**{name: logging_hook(name)}), **options))  # type: ignore[misc]


@scenario
def every_second_step_is_sent(record: Record) -> None:
    record.run("fit", record.module(training_step=logging_step(on_epoch=True)), rows(20), rows(4), log_every_n_steps=2, max_epochs=3)


@scenario
def steps_are_never_sent(record: Record) -> None:
    for options in ({}, {"on_epoch": True}):
        for limit in (0, 1):
            module = record.module(training_step=logging_step(prog_bar=True, **options))
            record.run("fit", module, log_every_n_steps=0, limit_val_batches=limit)


@scenario
def windows_of_two_batches(record: Record) -> None:
    for every in (1, 2):
        module = record.module(training_step=logging_step(on_epoch=True))
        record.run("fit", module, rows(24), rows(4), accumulate_grad_batches=2, log_every_n_steps=every, max_epochs=2)


@scenario
def a_name_logged_now_and_then(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        place = 10.0 * self.current_epoch + batch_idx
        if batch_idx % 3 == 1:
            self.log("sometimes", place, on_epoch=True, prog_bar=True)
        if self.current_epoch == 1:
            self.log("later", place, on_epoch=True)
        self.log("always", place)
        return self.layer(batch).pow(2).mean()

    looking = record.looking("on_train_batch_end", "on_train_epoch_end")
    record.run("fit", record.module(training_step=training_step), rows(20), rows(4), max_epochs=3, callbacks=[looking], log_every_n_steps=2)


@scenario
def a_name_logged_in_two_hooks(record: Record) -> None:
    def start(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("loss", 10.0 + batch_idx)

    record.run("fit", record.module(training_step=logging_step(), on_train_batch_start=start))


@scenario
def a_name_logged_twice_in_a_hook(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        for value in (1.0, 5.0, 3.0):
            self.log("twice", value + batch_idx, on_step=True, on_epoch=True)
        return self.layer(batch).pow(2).mean()

    record.run("fit", record.module(training_step=training_step))


@scenario
def other_arguments_for_a_name_are_refused(record: Record) -> None:
    for options in ({"on_epoch": True}, {"prog_bar": True}, {"reduce_fx": "sum"}, {"logger": False}, {"enable_graph": True}):
        record.attempt(str(options), lambda options=options: log_twice(record, options))  # type: ignore[misc]


def log_twice(record: Record, options: dict[str, Any]) -> None:
    """A run in which a name is logged twice, the second time with `options`."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("twice", 1.0)
        self.log("twice", 1.0, **options)
        return self.layer(batch).pow(2).mean()

    record.run("fit", record.module(training_step=training_step))


@scenario
def synchronisation_is_an_argument_like_others(record: Record) -> None:
    record.attempt("sync_dist", lambda: log_twice(record, {"sync_dist": True}))


@scenario
def validation_between_steps(record: Record) -> None:
    """After a validation within the epoch, nothing is sent again, and the training values go on."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if batch_idx in (0, 1):
            self.log("early", float(batch_idx), prog_bar=True)
        loss = self.layer(batch).pow(2).mean()
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("val", self.layer(batch).mean(), on_step=True, on_epoch=True, prog_bar=True)

    looking = record.looking("on_validation_start", "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end")
    module = record.module(training_step=training_step, validation_step=validation_step)
    record.run("fit", module, rows(20), rows(6), val_check_interval=2, max_epochs=2, log_every_n_steps=2, callbacks=[looking])


@scenario
def a_stop_within_an_epoch(record: Record) -> None:
    def stop(this: Any, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            trainer.should_stop = True

    module = record.module(training_step=logging_step(on_epoch=True))
    record.run("fit", module, rows(40), rows(4), max_epochs=3, log_every_n_steps=10, callbacks=[record.callback(on_train_batch_end=stop)])


@scenario
def a_bound_on_steps(record: Record) -> None:
    record.run("fit", record.module(training_step=logging_step(on_epoch=True)), rows(20), rows(4), max_steps=7, max_epochs=-1)


@scenario
def an_epoch_that_the_module_ends(record: Record) -> None:
    for last in (0, 2):

        def start(self: Any, batch: Any, batch_idx: int, last: int = last) -> int | None:
            return -1 if batch_idx == last else None

        module = record.module(
            training_step=logging_step(on_epoch=True), on_train_batch_start=start, on_train_epoch_end=logging_hook("end")
        )
        record.run("fit", module, rows(20), rows(4), max_epochs=2)


@scenario
def a_skipped_batch(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("logged", float(batch_idx), on_epoch=True)
        return self.layer(batch).pow(2).mean() if batch_idx != 1 else None

    record.run("fit", record.module(training_step=training_step), max_epochs=2)


@scenario
def manual_optimization_of_two(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        for name, optimizer in zip("ab", self.optimizers(), strict=True):
            loss = self.layer(batch).pow(2).mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.log(name, loss, on_epoch=True)

    def two(self: Any) -> Any:
        return [torch.optim.SGD([parameter], lr=0.01) for parameter in self.layer.parameters()]

    module = record.module(training_step=training_step, configure_optimizers=two)
    module.automatic_optimization = False
    record.run("fit", module, rows(16), rows(4), max_epochs=2, log_every_n_steps=2)


@scenario
def a_metric_named_step_is_the_axis(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).pow(2).mean()
        self.log_dict({"loss": loss, "step": 100.0 + batch_idx})
        self.log_dict({"mean": loss}, on_step=False, on_epoch=True)
        return loss

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log_dict({"val": 1.0, "step": 50.0})

    looking = record.looking("on_train_epoch_end")
    record.run("fit", record.module(training_step=training_step, validation_step=validation_step), max_epochs=2, callbacks=[looking])


@scenario
def a_metric_named_epoch_stays(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("epoch", 7.0 + batch_idx)
        return self.layer(batch).pow(2).mean()

    record.run("fit", record.module(training_step=training_step))


@scenario
def callbacks_log(record: Record) -> None:
    def end(this: Any, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        this.log("cb", float(batch_idx), on_epoch=True, prog_bar=True)

    def epoch_end(this: Any, trainer: Any, module: Any) -> None:
        this.log_dict({"cb_epoch_end": 2.0, "cb_other": 3.0})

    callback = record.callback(on_train_batch_end=end, on_train_epoch_end=epoch_end, on_validation_epoch_end=epoch_end)
    record.run("fit", record.module(training_step=logging_step()), callbacks=[callback], max_epochs=2)


@scenario
def what_a_callback_logs_at_the_end_is_seen_by_monitors(record: Record) -> None:
    def epoch_end(this: Any, trainer: Any, module: Any) -> None:
        this.log("watched", 1.0)

    stopping = record.world.callback("EarlyStopping", monitor="watched", patience=1, check_on_train_epoch_end=True)
    record.run(max_epochs=6, callbacks=[record.callback(on_train_epoch_end=epoch_end), stopping])
    record.entries.append(("epochs", record.trainer.current_epoch))


@scenario
def what_the_module_logs_at_the_end_is_seen_by_monitors(record: Record) -> None:
    def epoch_end(self: Any) -> None:
        self.log("watched", 1.0)

    stopping = record.world.callback("EarlyStopping", monitor="watched", patience=1)
    module = record.module(on_train_epoch_end=epoch_end)
    record.run("fit", module, max_epochs=6, callbacks=[record.looking("on_train_epoch_end"), stopping])
    record.entries.append(("epochs", record.trainer.current_epoch))


@scenario
def learning_rates(record: Record) -> None:
    def optimizers(self: Any) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    for interval in (None, "step", "epoch"):
        monitor = record.world.callback("LearningRateMonitor", logging_interval=interval)
        module = record.module(training_step=logging_step(on_epoch=True), configure_optimizers=optimizers)
        record.run("fit", module, rows(20), rows(4), callbacks=[monitor], max_epochs=2, log_every_n_steps=2)


@scenario
def fitting_on(record: Record) -> None:
    module = record.module(training_step=logging_step(on_epoch=True))
    record.run("fit", module)
    record.trainer.fit_loop.max_epochs = 2
    record.again("fit", module)


@scenario
def going_on_from_a_checkpoint(record: Record) -> None:
    module = record.module(training_step=logging_step(on_epoch=True))
    record.run("fit", module)
    path = str(record.world.root / "end.ckpt")
    record.trainer.save_checkpoint(path)
    record.run("fit", record.module(training_step=logging_step(on_epoch=True)), ckpt_path=path, max_epochs=2)


@scenario
def a_development_run(record: Record) -> None:
    record.run("fit", record.module(training_step=logging_step(on_epoch=True, prog_bar=True)), fast_dev_run=2)


@scenario
def no_logger(record: Record) -> None:
    looking = record.looking("on_train_batch_end", "on_train_epoch_end")
    record.run("fit", record.module(training_step=logging_step(on_epoch=True, prog_bar=True)), logger=False, callbacks=[looking])


@scenario
def two_loggers(record: Record) -> None:
    loggers = [record.logger("first"), record.logger("second")]
    record.run("fit", record.module(training_step=logging_step(on_epoch=True)), logger=loggers)


@scenario
def a_closure_that_is_called_more_than_once(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("constant", 2.0, on_epoch=True)
        return self.layer(batch).pow(2).mean()

    def lbfgs(self: Any) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    record.run("fit", record.module(training_step=training_step, configure_optimizers=lbfgs))


@scenario
def a_plateau_scheduler_by_step_watches_a_step_value(record: Record) -> None:
    def optimizers(self: Any) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "watched", "interval": "step"}}

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("watched", float(batch_idx))
        self.log("lr", self.optimizers().param_groups[0]["lr"])
        return self.layer(batch).pow(2).mean() * 0.001

    record.run("fit", record.module(training_step=training_step, configure_optimizers=optimizers), rows(20), rows(4))
