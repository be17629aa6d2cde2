"""Scenarios of callbacks, failures, and runs that go on from a checkpoint."""

from typing import Any

import pytest
from recording import MODULE_HOOKS, Recorder, callback_hooks, rows
from scenarios import doing, scenario
from scenarios_training import by_hand, plateau, scheduled, steps, with_methods


def named(recorder: Recorder, name: str, **options: Any) -> Any:
    """A recording callback on top of one of the library's own."""
    base = type(recorder.world.callback(name, **options))
    kind = recorder.recording(base, ("on_train_epoch_end", "on_validation_end"), name)
    return kind(**options)


# -- callbacks -----------------------------------------------------------------------------------------------------------------


@scenario
def callbacks_in_their_order(recorder: Recorder) -> None:
    callbacks = [
        named(recorder, "ModelCheckpoint"),
        recorder.callback(owner="A"),
        named(recorder, "EarlyStopping", monitor="val"),
        recorder.callback(owner="B"),
    ]
    recorder.run(module=scheduled(recorder), callbacks=callbacks, max_epochs=2)


@scenario
def early_stopping(recorder: Recorder) -> None:
    stopping = recorder.world.callback("EarlyStopping", monitor="val", patience=1, mode="max")
    recorder.run(module=scheduled(recorder), callbacks=[stopping], max_epochs=9)


@scenario
def early_stopping_within_the_epoch(recorder: Recorder) -> None:
    stopping = recorder.world.callback("EarlyStopping", monitor="val", patience=2, mode="max")
    recorder.run(
        module=scheduled(recorder), data=recorder.data(train=lambda: rows(20)), callbacks=[stopping], max_epochs=9, val_check_interval=1
    )


@scenario
def checkpoints_every_step(recorder: Recorder) -> None:
    recorder.run(callbacks=[recorder.world.callback("ModelCheckpoint", every_n_train_steps=1, save_top_k=-1)])


@scenario
def checkpoints_after_validation(recorder: Recorder) -> None:
    callback = recorder.world.callback("ModelCheckpoint", monitor="val", save_top_k=2, save_on_train_epoch_end=False, save_last=True)
    recorder.run(module=scheduled(recorder), callbacks=[callback], max_epochs=3)


@scenario
def no_checkpoints(recorder: Recorder) -> None:
    recorder.run(enable_checkpointing=False)


@scenario
def callbacks_of_the_module(recorder: Recorder) -> None:
    class Own(type(recorder.callback())):  # type: ignore[misc]
        pass

    own = recorder.recording(Own, callback_hooks(recorder.world.api), "Own")
    recorder.run(module=with_methods(recorder, configure_callbacks=lambda self: [own()]))


@scenario
def a_callback_and_a_data_module_with_a_state(recorder: Recorder) -> None:
    stateful = type("Stateful", (recorder.world.api.Callback,), {"state_dict": lambda self: {"a": 1}})
    data = type("Data", (recorder.base_data(),), {"state_dict": lambda self: {"b": 2}})
    recorder.run(callbacks=[recorder.callback(stateful, "S")], data=recorder.data(base=data))
    path = recorder.trainer.checkpoint_callback.best_model_path
    recorder.trainer = recorder.world.trainer(max_epochs=2, callbacks=[recorder.callback(stateful, "S")])
    recorder.again("fit", recorder.module(), recorder.data(base=data), ckpt_path=path)


# -- failures ------------------------------------------------------------------------------------------------------------------


def fail(*_: Any, **__: Any) -> None:
    raise ValueError("on purpose")


def failing(recorder: Recorder, hook: str, error: type[BaseException] = ValueError) -> None:
    with pytest.raises(error):
        recorder.run(callbacks=[doing(recorder, hook, fail)])


@scenario
def failure_in_a_batch(recorder: Recorder) -> None:
    failing(recorder, "on_train_batch_start")


@scenario
def failure_in_setup(recorder: Recorder) -> None:
    failing(recorder, "setup")


@scenario
def failure_in_validation(recorder: Recorder) -> None:
    failing(recorder, "on_validation_batch_end")


@scenario
def failure_in_training_step(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        recorder.run(module=with_methods(recorder, training_step=fail))


@scenario
def failure_in_test(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        recorder.run("test", module=with_methods(recorder, test_step=fail))


@scenario
def failure_in_verification(recorder: Recorder) -> None:
    data = recorder.recording(recorder.world.api.LightningDataModule, ("prepare_data", "setup", "teardown", "on_exception"), "D")()
    with pytest.raises(Exception, match="train"):
        recorder.run(data=data)


@scenario
def failure_in_prepare_data(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        recorder.run(data=recorder.data(base=type("Data", (recorder.base_data(),), {"prepare_data": fail})))


@scenario
def failure_in_configure_optimizers(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        recorder.run(module=with_methods(recorder, configure_optimizers=fail))


@scenario
def failure_at_the_start_of_fit(recorder: Recorder) -> None:
    failing(recorder, "on_fit_start")


@scenario
def failure_in_the_sanity_check(recorder: Recorder) -> None:
    failing(recorder, "on_sanity_check_end")


@scenario
def failure_in_backward(recorder: Recorder) -> None:
    failing(recorder, "on_after_backward")


@scenario
def failure_at_the_end_of_an_epoch(recorder: Recorder) -> None:
    failing(recorder, "on_train_epoch_end")


@scenario
def failure_while_saving(recorder: Recorder) -> None:
    failing(recorder, "on_save_checkpoint")


@scenario
def failure_at_the_end_of_fit(recorder: Recorder) -> None:
    failing(recorder, "on_fit_end")


@scenario
def failure_in_teardown(recorder: Recorder) -> None:
    failing(recorder, "teardown")


@scenario
def failure_in_predict(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        recorder.run("predict", module=with_methods(recorder, predict_step=fail))


@scenario
def another_fit_after_a_failure(recorder: Recorder) -> None:
    failing(recorder, "on_train_batch_start")
    recorder.trainer.callbacks = [one for one in recorder.trainer.callbacks if type(one).__name__ != "Acts"]
    recorder.again("fit", recorder.module())


@scenario
def interruption_of_validation(recorder: Recorder) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="1"):
        recorder.run("validate", callbacks=[doing(recorder, "on_validation_batch_end", interrupt)])


@scenario
def interruption(recorder: Recorder) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="1"):
        recorder.run(callbacks=[doing(recorder, "on_train_batch_end", interrupt)])


# -- going on from a checkpoint ------------------------------------------------------------------------------------------------


def resumed(recorder: Recorder, path: Any, **options: Any) -> None:
    """A new trainer that goes on; only its calls are compared."""
    recorder.calls.clear()
    recorder.run(ckpt_path=path, **options)


def saving(recorder: Recorder, path: str, hook: str, batch: int | None = None) -> Any:
    """A callback that writes a checkpoint in a hook, of one batch if it is a hook of batches."""

    def action(trainer: Any, *args: Any) -> None:
        if batch is None or args[-1] == batch:
            trainer.save_checkpoint(path)

    return doing(recorder, hook, action)


@scenario
def resuming_after_an_epoch(recorder: Recorder) -> None:
    recorder.run()
    resumed(recorder, recorder.trainer.checkpoint_callback.best_model_path, max_epochs=2)


@scenario
def resuming_after_two_epochs_with_schedulers(recorder: Recorder) -> None:
    recorder.run(max_epochs=2)
    resumed(recorder, recorder.trainer.checkpoint_callback.best_model_path, max_epochs=4, check_val_every_n_epoch=2)


@scenario
def resuming_when_all_is_done(recorder: Recorder) -> None:
    path = str(recorder.world.root / "end.ckpt")
    recorder.run(callbacks=[saving(recorder, path, "on_fit_end")], enable_checkpointing=False)
    resumed(recorder, path, enable_checkpointing=False)


@scenario
def resuming_from_a_file_written_after_fit(recorder: Recorder) -> None:
    path = str(recorder.world.root / "end.ckpt")
    recorder.run(enable_checkpointing=False)
    recorder.trainer.save_checkpoint(path)
    resumed(recorder, path, enable_checkpointing=False, max_epochs=2)


@scenario
def resuming_at_validation_end(recorder: Recorder) -> None:
    path = str(recorder.world.root / "val.ckpt")
    recorder.run(callbacks=[saving(recorder, path, "on_validation_end")], enable_checkpointing=False)
    resumed(recorder, path, enable_checkpointing=False, max_epochs=2)


@scenario
def resuming_midway(recorder: Recorder) -> None:
    path = str(recorder.world.root / "mid.ckpt")
    data = recorder.data(train=lambda: Stateful(5))
    recorder.run(data=data, callbacks=[saving(recorder, path, "on_train_batch_end", 1)], enable_checkpointing=False)
    resumed(recorder, path, data=recorder.data(train=lambda: Stateful(5)), enable_checkpointing=False, max_epochs=2)


@scenario
def resuming_midway_in_an_order_of_its_own(recorder: Recorder) -> None:
    InItsOrder.made = 0
    path = str(recorder.world.root / "mid.ckpt")
    data = recorder.data(train=lambda: InItsOrder(5))
    recorder.run(data=data, callbacks=[saving(recorder, path, "on_train_batch_end", 1)], enable_checkpointing=False)
    resumed(recorder, path, data=recorder.data(train=lambda: InItsOrder(5)), enable_checkpointing=False, max_epochs=2)


@scenario
def resuming_midway_with_two_loaders(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return sum(self.layer(part).pow(2).mean() for part in batch)

    path = str(recorder.world.root / "mid.ckpt")
    options = {"enable_checkpointing": False, "max_epochs": 2}
    InItsOrder.made = 0
    for ckpt_path in (None, path):
        recorder.calls.clear()
        callbacks = [saving(recorder, path, "on_train_batch_end", 1)] if ckpt_path is None else []
        data = recorder.data(train=lambda: [InItsOrder(3), InItsOrder(4)])
        module = with_methods(recorder, training_step=training_step)
        recorder.run(module=module, data=data, callbacks=callbacks, ckpt_path=ckpt_path, **options)


@scenario
def resuming_midway_with_a_plain_loader(recorder: Recorder) -> None:
    path = str(recorder.world.root / "mid.ckpt")
    data = recorder.data(train=lambda: rows(20))
    recorder.run(data=data, callbacks=[saving(recorder, path, "on_train_batch_end", 1)], enable_checkpointing=False)
    resumed(recorder, path, data=recorder.data(train=lambda: rows(20)), enable_checkpointing=False, max_epochs=2)


@scenario
def resuming_midway_without_validation_in_this_epoch(recorder: Recorder) -> None:
    path = str(recorder.world.root / "mid.ckpt")
    data = recorder.data(train=lambda: Stateful(5))
    options = {"enable_checkpointing": False, "check_val_every_n_epoch": 2, "max_epochs": 2}
    recorder.run(data=data, callbacks=[saving(recorder, path, "on_train_batch_end", 1)], **options)
    resumed(recorder, path, data=recorder.data(train=lambda: Stateful(5)), **options)


@scenario
def resuming_midway_between_windows(recorder: Recorder) -> None:
    path = str(recorder.world.root / "mid.ckpt")
    options = {"enable_checkpointing": False, "accumulate_grad_batches": 2, "max_epochs": 2}
    recorder.run(data=recorder.data(train=lambda: Stateful(6)), callbacks=[saving(recorder, path, "on_train_batch_end", 3)], **options)
    resumed(recorder, path, data=recorder.data(train=lambda: Stateful(6)), **options)


@scenario
def resuming_before_the_last_batch_ended(recorder: Recorder) -> None:
    path = str(recorder.world.root / "last.ckpt")
    data = recorder.data(train=lambda: Stateful(3))
    recorder.run(data=data, callbacks=[saving(recorder, path, "on_train_batch_end", 2)], enable_checkpointing=False)
    resumed(recorder, path, data=recorder.data(train=lambda: Stateful(3)), enable_checkpointing=False, max_epochs=2)


@scenario
def two_epochs_of_a_stateful_loader(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: Stateful(3)), enable_checkpointing=False, max_epochs=2)


@scenario
def resuming_midway_validated_by_batches(recorder: Recorder) -> None:
    path = str(recorder.world.root / "mid.ckpt")
    options = {"enable_checkpointing": False, "val_check_interval": 2, "max_epochs": 2}
    recorder.run(data=recorder.data(train=lambda: Stateful(6)), callbacks=[saving(recorder, path, "on_train_batch_end", 2)], **options)
    resumed(recorder, path, data=recorder.data(train=lambda: Stateful(6)), **options)


@scenario
def resuming_within_steps(recorder: Recorder) -> None:
    path = str(recorder.world.root / "epoch.ckpt")
    recorder.run(callbacks=[saving(recorder, path, "on_train_epoch_end")], enable_checkpointing=False)
    resumed(recorder, path, enable_checkpointing=False, max_epochs=-1, max_steps=4)


@scenario
def resuming_within_epochs(recorder: Recorder) -> None:
    path = str(recorder.world.root / "epoch.ckpt")
    recorder.run(callbacks=[saving(recorder, path, "on_train_epoch_end")], enable_checkpointing=False)
    resumed(recorder, path, enable_checkpointing=False, max_epochs=2)


@scenario
def resuming_with_loaders_that_are_reloaded(recorder: Recorder) -> None:
    path = str(recorder.world.root / "epoch.ckpt")
    recorder.run(callbacks=[saving(recorder, path, "on_train_epoch_end")], enable_checkpointing=False)
    resumed(recorder, path, enable_checkpointing=False, max_epochs=5, reload_dataloaders_every_n_epochs=2)


@scenario
def resuming_a_plateau_scheduler(recorder: Recorder) -> None:
    path = str(recorder.world.root / "epoch.ckpt")
    module = scheduled(recorder, plateau(monitor="val"), steps(interval="step"))
    recorder.run(module=module, callbacks=[saving(recorder, path, "on_train_epoch_end")], enable_checkpointing=False)
    module = scheduled(recorder, plateau(monitor="val"), steps(interval="step"))
    resumed(recorder, path, module=module, enable_checkpointing=False, max_epochs=3)


@scenario
def resuming_manual_optimization(recorder: Recorder) -> None:
    path = str(recorder.world.root / "epoch.ckpt")
    callbacks = [saving(recorder, path, "on_train_epoch_end")]
    recorder.run(module=by_hand(recorder), callbacks=callbacks, enable_checkpointing=False)
    resumed(recorder, path, module=by_hand(recorder), enable_checkpointing=False, max_epochs=2)


@scenario
def states_of_the_module(recorder: Recorder) -> None:
    path = str(recorder.world.root / "epoch.ckpt")
    hooks = (*MODULE_HOOKS, "state_dict", "load_state_dict")
    recorder.run(module=recorder.module(hooks=hooks), callbacks=[saving(recorder, path, "on_train_epoch_end")], enable_checkpointing=False)
    resumed(recorder, path, module=recorder.module(hooks=hooks), enable_checkpointing=False, max_epochs=2)


@scenario
def evaluating_a_checkpoint(recorder: Recorder) -> None:
    path = str(recorder.world.root / "val.ckpt")
    recorder.run(callbacks=[saving(recorder, path, "on_validation_end")], enable_checkpointing=False)
    for entry in ("validate", "test", "predict"):
        recorder.run(entry, ckpt_path=path, enable_checkpointing=False)


class Stateful:
    """A loader of single batches that can go on where it was."""

    def __init__(self, count: int) -> None:
        self.batches = list(rows(4 * count))
        self.next = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        """From where it is on, and from the first after the last."""
        for index in range(self.next % len(self.batches), len(self.batches)):
            self.next = index + 1
            yield self.batches[index]

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class InItsOrder(Stateful):
    """Such a loader with an order that no other loader has, but one with its state."""

    made = 0

    def __init__(self, count: int) -> None:
        super().__init__(count)
        InItsOrder.made += 1
        self.first = InItsOrder.made

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            yield batch + self.first

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next, "first": self.first}

    def load_state_dict(self, state: dict[str, int]) -> None:
        super().load_state_dict(state)
        self.first = state["first"]
