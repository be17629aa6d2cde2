"""Scenarios of what is logged in validation and test, by loader and by step, within fit and alone."""

from typing import Any

from logging_of_training import logging_hook, logging_step
from logging_record import Record, rows, scenario

MOMENTS = ("on_{}_batch_end", "on_{}_epoch_end", "on_{}_end")


def eval_step(name: str = "val", **options: Any) -> Any:
    """A step of an evaluation that logs the mean of its outputs."""

    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log(name, self.layer(batch).mean(), **options)

    return step


def looking(record: Record, stage: str) -> Any:
    """A callback that looks at each moment of a stage."""
    return record.looking(*(moment.format(stage) for moment in MOMENTS))


@scenario
def validation_by_default(record: Record) -> None:
    record.run("validate", record.module(validation_step=eval_step()), callbacks=[looking(record, "validation")])


@scenario
def test_by_default(record: Record) -> None:
    record.run("test", record.module(test_step=eval_step("test")), callbacks=[looking(record, "test")])


@scenario
def validation_by_step(record: Record) -> None:
    record.run(
        "validate", record.module(validation_step=eval_step(on_step=True, on_epoch=False)), callbacks=[looking(record, "validation")]
    )


@scenario
def validation_by_both(record: Record) -> None:
    module = record.module(validation_step=eval_step(on_step=True, prog_bar=True))
    record.run("validate", module, callbacks=[looking(record, "validation")], log_every_n_steps=2)


@scenario
def validation_within_fit(record: Record) -> None:
    module = record.module(training_step=logging_step(on_epoch=True), validation_step=eval_step(on_step=True, prog_bar=True))
    moments = ("on_validation_start", "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end", "on_train_epoch_end")
    record.run("fit", module, rows(16), rows(12), max_epochs=2, log_every_n_steps=2, callbacks=[record.looking(*moments)])


@scenario
def validation_every_second_epoch(record: Record) -> None:
    module = record.module(training_step=logging_step(on_epoch=True), validation_step=eval_step())
    record.run("fit", module, max_epochs=4, check_val_every_n_epoch=2)


@scenario
def the_hooks_of_evaluation_log(record: Record) -> None:
    for stage, entry in (("validation", "validate"), ("test", "test")):
        names = [f"on_{stage}_{moment}" for moment in ("start", "epoch_start", "batch_start", "batch_end", "epoch_end")]
        record.run(entry, record.module(**{name: logging_hook(name) for name in names}), callbacks=[looking(record, stage)])
        both = [f"on_{stage}_batch_start", f"on_{stage}_batch_end"]
        record.run(entry, record.module(**{name: logging_hook(name, on_step=True) for name in both}))


@scenario
def the_hooks_of_validation_log_within_fit(record: Record) -> None:
    names = [f"on_validation_{moment}" for moment in ("start", "epoch_start", "batch_start", "batch_end", "epoch_end")]
    module = record.module(**{name: logging_hook(name) for name in names})
    record.run("fit", module, rows(16), rows(8), max_epochs=2, val_check_interval=2, callbacks=[looking(record, "validation")])


@scenario
def other_hooks_of_evaluation_refuse(record: Record) -> None:
    for entry, names in {
        "validate": "on_validation_end on_validation_model_eval setup",
        "test": "on_test_end on_test_model_eval teardown",
        "predict": "predict_step on_predict_start on_predict_epoch_start on_predict_batch_start on_predict_batch_end on_predict_epoch_end",
    }.items():
        for name in names.split():
            action = lambda entry=entry, name=name: record.run(entry, record.module(**{name: logging_hook(name)}))  # noqa: E731
            record.attempt(name, action)
    for stage, entry in (("validation", "validate"), ("test", "test")):
        for moment in ("start", "epoch_start", "epoch_end"):
            name = f"on_{stage}_{moment}"
            action = lambda entry=entry, name=name: record.run(entry, record.module(**{name: logging_hook(name, on_step=True)}))  # noqa: E731
            record.attempt(name, action)


@scenario
def two_loaders(record: Record) -> None:
    for options in ({}, {"on_step": True}, {"on_step": True, "on_epoch": False}):
        loaders = [rows(10, seed=1), rows(6, seed=2)]
        looks = record.looking("on_validation_epoch_end", "on_validation_end")
        record.run("validate", record.module(validation_step=eval_step(**options)), loaders, callbacks=[looks])


@scenario
def the_first_loader_while_the_second_runs(record: Record) -> None:
    module = record.module(validation_step=eval_step())
    loaders = [rows(10, seed=1), rows(6, seed=2)]
    looks = record.looking("on_validation_batch_end", "on_validation_end", dictionaries=["callback_metrics"])
    record.run("validate", module, loaders, callbacks=[looks])
    record.entries = [entry for entry in record.entries if entry[0].startswith("on_")]


@scenario
def two_loaders_within_fit(record: Record) -> None:
    module = record.module(training_step=logging_step(on_epoch=True), validation_step=eval_step(on_step=True, prog_bar=True))
    looks = record.looking("on_validation_epoch_end", "on_validation_end")
    record.run("fit", module, rows(10), [rows(10, seed=1), rows(6, seed=2)], max_epochs=2, callbacks=[looks])


@scenario
def two_loaders_with_names_of_their_own(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        self.log(f"val{dataloader_idx}", self.layer(batch).mean(), add_dataloader_idx=False, on_step=True, on_epoch=True)

    record.run("validate", record.module(validation_step=step), [rows(10, seed=1), rows(6, seed=2)])


@scenario
def two_loaders_with_one_name_are_refused(record: Record) -> None:
    module = record.module(test_step=eval_step("test", add_dataloader_idx=False))
    record.attempt("test", lambda: record.run("test", module, [rows(10, seed=1), rows(6, seed=2)]))


@scenario
def two_loaders_and_hooks_of_the_epoch(record: Record) -> None:
    names = [f"on_test_{moment}" for moment in ("start", "epoch_start", "epoch_end")]
    module = record.module(test_step=eval_step("test"), **{name: logging_hook(name) for name in names})
    record.run("test", module, [rows(10, seed=1), rows(6, seed=2)])


@scenario
def two_loaders_and_hooks_of_a_batch(record: Record) -> None:
    def start(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("start", float(batch_idx), on_step=True, on_epoch=True)

    def end(self: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("end", float(batch_idx + 10 * dataloader_idx))

    module = record.module(on_validation_batch_start=start, on_validation_batch_end=end)
    record.run("validate", module, [rows(10, seed=1), rows(6, seed=2)])


@scenario
def one_loader_of_two_logs(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        if dataloader_idx == 1:
            self.log("val", self.layer(batch).mean(), on_step=True, on_epoch=True)

    record.run("validate", record.module(validation_step=step), [rows(10, seed=1), rows(6, seed=2)])


@scenario
def the_sanity_check_leaves_no_trace(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("val", float(self.trainer.sanity_checking), on_step=True, on_epoch=True, prog_bar=True)

    moments = ("on_sanity_check_end", "on_train_start", "on_validation_end", "on_validation_batch_end")
    module = record.module(validation_step=step, training_step=logging_step())
    record.run("fit", module, num_sanity_val_steps=1, callbacks=[record.looking(*moments)])


@scenario
def fit_validate_and_test_with_one_trainer(record: Record) -> None:
    module = record.module(
        training_step=logging_step(on_epoch=True),
        validation_step=eval_step(on_step=True, on_epoch=True),
        test_step=eval_step("test", on_step=True, on_epoch=True),
    )
    record.run("fit", module, max_epochs=2)
    for entry in ("validate", "test", "validate"):
        record.again(entry, module)
    record.again("predict", module)


@scenario
def evaluation_after_a_failure(record: Record) -> None:
    """What a run that failed in the second loader has left behind does not show in the next one."""

    def failing(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val", 1.0)
        if dataloader_idx == 1:
            raise ValueError("on purpose")

    module = record.module(validation_step=failing, training_step=logging_step(on_epoch=True), test_step=eval_step("test"))
    record.attempt("validate", lambda: record.run("validate", module, [rows(4), rows(4)]))
    record.again("test", module)
    module = record.module(training_step=logging_step(on_epoch=True), validation_step=eval_step())
    record.again("fit", module, rows(10), rows(4))


@scenario
def training_values_are_seen_in_validation(record: Record) -> None:
    module = record.module(training_step=logging_step(on_epoch=True, prog_bar=True), validation_step=eval_step("loss", prog_bar=True))
    moments = ("on_validation_start", "on_validation_epoch_end", "on_validation_end", "on_train_batch_end", "on_train_epoch_end")
    record.run("fit", module, rows(16), rows(4), val_check_interval=2, callbacks=[record.looking(*moments)], max_epochs=2)


@scenario
def a_monitor_of_validation(record: Record) -> None:
    def end(self: Any) -> None:
        self.log("watched", 1.0 + self.current_epoch)

    stopping = record.world.callback("EarlyStopping", monitor="watched", patience=1)
    saving = record.world.callback("ModelCheckpoint", monitor="watched", save_top_k=1)
    record.run("fit", record.module(on_validation_epoch_end=end), max_epochs=6, callbacks=[stopping, saving], enable_checkpointing=True)
    record.entries.append(("epochs", record.trainer.current_epoch, float(saving.best_model_score)))


@scenario
def nothing_is_logged(record: Record) -> None:
    record.run("fit", max_epochs=2)
    record.run("validate")
    record.run("test", record.module(), [rows(4), rows(4)])


@scenario
def hyperparameters_at_every_entry_point(record: Record) -> None:
    for options in ({}, {"enable_autolog_hparams": False}):
        for entry in ("fit", "validate", "test", "predict"):
            module = record.module()
            module.save_hyperparameters({"width": 3, "_class_path": "a.b"})
            record.run(entry, module, **options)
    module = record.module()
    module.save_hyperparameters({"width": 3}, logger=False)
    record.run("fit", module)


@scenario
def limits_of_batches(record: Record) -> None:
    module = record.module(training_step=logging_step(on_epoch=True), validation_step=eval_step(on_step=True))
    record.run("fit", module, rows(40), [rows(20), rows(20)], limit_train_batches=3, limit_val_batches=2, max_epochs=2)
    record.run("fit", module, rows(40), rows(20), overfit_batches=1, max_epochs=2)
    record.run("fit", module, rows(40), rows(20), limit_val_batches=0)
