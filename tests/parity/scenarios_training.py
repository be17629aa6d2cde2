"""Scenarios of optimization, schedulers, stopping, callbacks and failures."""

from typing import Any

import torch
from recording import Recorder, rows
from scenarios import doing, scenario, stop, stop_at

Plateau = torch.optim.lr_scheduler.ReduceLROnPlateau


def long_data(recorder: Recorder) -> Any:
    """Five batches to train on."""
    return recorder.data(train=lambda: rows(20))


def with_methods(recorder: Recorder, **methods: Any) -> Any:
    """A recording module of which some methods are replaced."""
    return recorder.module(type("Model", (recorder.base_module(),), methods))


# -- one step ------------------------------------------------------------------------------------------------------------------


@scenario
def windows_of_two_batches(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(16)), accumulate_grad_batches=2, gradient_clip_val=0.5)


@scenario
def windows_of_two_batches_over_epochs(recorder: Recorder) -> None:
    recorder.run(accumulate_grad_batches=2, max_epochs=3)


@scenario
def a_window_cut_short(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), accumulate_grad_batches=2, max_epochs=2)


@scenario
def windows_longer_than_the_epoch(recorder: Recorder) -> None:
    recorder.run(accumulate_grad_batches=5, max_epochs=2)


@scenario
def clipping_by_value(recorder: Recorder) -> None:
    recorder.run(gradient_clip_val=0.1, gradient_clip_algorithm="value")


@scenario
def outputs_of_a_step(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).pow(2).mean()
        return {"loss": loss, "more": loss * 2, "name": "a", "nested": [loss, {"x": loss}]}

    module = with_methods(recorder, training_step=training_step)
    recorder.run(module=module, data=recorder.data(train=lambda: rows(16)), accumulate_grad_batches=2)


@scenario
def a_step_that_skips_a_batch(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).pow(2).mean() if batch_idx != 1 else None

    recorder.run(module=with_methods(recorder, training_step=training_step), data=long_data(recorder))


@scenario
def a_step_without_an_index(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any) -> Any:
        return self.layer(batch).pow(2).mean()

    recorder.run(module=with_methods(recorder, training_step=training_step))


@scenario
def an_optimizer_step_of_its_own(recorder: Recorder) -> None:
    def optimizer_step(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.001 * (self.trainer.global_step + 1)
        optimizer.step(closure=optimizer_closure)
        recorder.write("stepped", {})

    recorder.run(module=with_methods(recorder, optimizer_step=optimizer_step), max_epochs=2)


@scenario
def an_optimizer_step_every_second_batch(recorder: Recorder) -> None:
    def optimizer_step(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if batch_idx % 2:
            optimizer.step(closure=optimizer_closure)
        else:
            optimizer_closure()

    recorder.run(module=with_methods(recorder, optimizer_step=optimizer_step), data=long_data(recorder))


@scenario
def gradients_cleared_another_way(recorder: Recorder) -> None:
    def optimizer_zero_grad(self: Any, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad(set_to_none=False)

    recorder.run(module=with_methods(recorder, optimizer_zero_grad=optimizer_zero_grad))


@scenario
def a_backward_of_its_own(recorder: Recorder) -> None:
    def backward(self: Any, loss: Any) -> None:
        (2 * loss).backward()

    recorder.run(module=with_methods(recorder, backward=backward))


@scenario
def a_clipping_of_its_own(recorder: Recorder) -> None:
    def configure_gradient_clipping(self: Any, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.01, gradient_clip_algorithm="norm")

    recorder.run(module=with_methods(recorder, configure_gradient_clipping=configure_gradient_clipping))


@scenario
def an_optimizer_that_calls_the_closure_again(recorder: Recorder) -> None:
    def configure_optimizers(self: Any) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    recorder.run(module=with_methods(recorder, configure_optimizers=configure_optimizers))


@scenario
def an_optimizer_that_calls_the_closure_of_a_window_again(recorder: Recorder) -> None:
    def configure_optimizers(self: Any) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    recorder.run(
        module=with_methods(recorder, configure_optimizers=configure_optimizers),
        data=recorder.data(train=lambda: rows(16)),
        accumulate_grad_batches=2,
    )


@scenario
def a_step_that_skips_a_batch_of_a_window(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).pow(2).mean() if batch_idx != 1 else None

    module = with_methods(recorder, training_step=training_step)
    recorder.run(module=module, data=recorder.data(train=lambda: rows(16)), accumulate_grad_batches=2)


@scenario(warns="configure_optimizers returned None")
def no_optimizer(recorder: Recorder) -> None:
    recorder.run(module=with_methods(recorder, configure_optimizers=lambda self: None))


# -- manual optimization -------------------------------------------------------------------------------------------------------


def manual(recorder: Recorder, training_step: Any, optimizers: int = 1) -> Any:
    def __init__(self: Any) -> None:
        super(model, self).__init__()
        self.automatic_optimization = False

    def configure_optimizers(self: Any) -> Any:
        made = [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(optimizers)]
        return made, [torch.optim.lr_scheduler.StepLR(made[0], 1)]

    methods = {"__init__": __init__, "training_step": training_step, "configure_optimizers": configure_optimizers}
    model: Any = type("Model", (recorder.base_module(),), methods)
    return recorder.module(model)


def by_hand(recorder: Recorder) -> Any:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.layer(batch).pow(2).mean()
        self.manual_backward(loss)
        optimizer.step()
        recorder.write("stepped", {})
        return {"loss": loss, "more": [loss]}

    return manual(recorder, training_step)


@scenario
def manual_optimization(recorder: Recorder) -> None:
    recorder.run(module=by_hand(recorder), max_epochs=2)


@scenario
def manual_optimization_with_two_optimizers(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        for optimizer in self.optimizers():
            with optimizer.toggle_model():
                optimizer.zero_grad()
                self.manual_backward(self.layer(batch).pow(2).mean())
                self.clip_gradients(optimizer, gradient_clip_val=0.5)
                optimizer.step()
        if self.trainer.is_last_batch:
            self.lr_schedulers().step()

    recorder.run(module=manual(recorder, training_step, 2), max_epochs=2, max_steps=7)


@scenario
def manual_optimization_with_a_closure(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()

        def closure() -> Any:
            optimizer.zero_grad()
            loss = self.layer(batch).pow(2).mean()
            self.manual_backward(loss)
            return loss

        recorder.write("stepped", {"loss": optimizer.step(closure=closure)})

    recorder.run(module=manual(recorder, training_step))


# -- schedulers ----------------------------------------------------------------------------------------------------------------


def scheduled(recorder: Recorder, *schedulers: Any) -> Any:
    """A module with schedulers: functions of the optimizer that give a scheduler's configuration; logs `loss` and `val`."""

    def configure_optimizers(self: Any) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [make(optimizer) for make in schedulers]

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).pow(2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("val", self.layer(batch).mean())

    methods = {"training_step": training_step, "validation_step": validation_step, "configure_optimizers": configure_optimizers}
    return with_methods(recorder, **methods)


def steps(gamma: float = 0.5, **options: Any) -> Any:
    return lambda optimizer: {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma), **options}


def plateau(**options: Any) -> Any:
    return lambda optimizer: {"scheduler": Plateau(optimizer, patience=0, mode="max"), **options}


@scenario
def a_scheduler_by_step(recorder: Recorder) -> None:
    recorder.run(module=scheduled(recorder, steps(interval="step")), max_epochs=2)


@scenario
def a_scheduler_by_step_at_a_frequency(recorder: Recorder) -> None:
    recorder.run(module=scheduled(recorder, steps(interval="step", frequency=2)), data=long_data(recorder), max_epochs=2)


@scenario
def a_scheduler_by_window_at_a_frequency(recorder: Recorder) -> None:
    module = scheduled(recorder, steps(interval="step", frequency=2))
    recorder.run(module=module, data=recorder.data(train=lambda: rows(24)), accumulate_grad_batches=2, max_epochs=2)


@scenario
def a_scheduler_by_epoch_at_a_frequency(recorder: Recorder) -> None:
    recorder.run(module=scheduled(recorder, steps(frequency=2)), max_epochs=4)


@scenario
def schedulers_by_step_and_by_epoch(recorder: Recorder) -> None:
    recorder.run(module=scheduled(recorder, steps(interval="step"), steps(0.1)), max_epochs=2)


@scenario
def a_plateau_scheduler_by_epoch(recorder: Recorder) -> None:
    recorder.run(module=scheduled(recorder, plateau(monitor="val")), max_epochs=3)


@scenario
def a_plateau_scheduler_on_the_training_loss(recorder: Recorder) -> None:
    recorder.run(module=scheduled(recorder, plateau(monitor="loss_epoch")), max_epochs=3)


@scenario
def a_plateau_scheduler_by_step(recorder: Recorder) -> None:
    recorder.run(module=scheduled(recorder, plateau(monitor="loss_step", interval="step")), max_epochs=2)


@scenario
def a_plateau_scheduler_with_validations_within_the_epoch(recorder: Recorder) -> None:
    module = scheduled(recorder, plateau(monitor="val", interval="step", frequency=2, strict=False))
    recorder.run(module=module, data=recorder.data(train=lambda: rows(16)), val_check_interval=2)


@scenario
def a_scheduler_of_an_unsized_loader(recorder: Recorder) -> None:
    from scenarios_data import unsized

    recorder.run(module=scheduled(recorder, steps()), data=recorder.data(train=lambda: unsized(12)), max_epochs=2)


# -- stopping ------------------------------------------------------------------------------------------------------------------


@scenario
def stopping_midway(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), callbacks=[doing(recorder, "on_train_batch_end", stop_at(1))], max_epochs=2)


@scenario
def stopping_midway_in_an_epoch_without_validation(recorder: Recorder) -> None:
    callback = doing(recorder, "on_train_batch_end", stop_at(1))
    recorder.run(data=long_data(recorder), callbacks=[callback], max_epochs=3, check_val_every_n_epoch=2)


@scenario
def stopping_within_a_window(recorder: Recorder) -> None:
    callback = doing(recorder, "on_train_batch_end", stop_at(2))
    recorder.run(data=long_data(recorder), callbacks=[callback], max_epochs=2, accumulate_grad_batches=2)


@scenario
def stopping_before_the_least_number_of_epochs(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_train_batch_end", stop_at(0))], max_epochs=4, min_epochs=2)


@scenario
def stopping_before_the_least_number_of_steps(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_train_batch_end", stop_at(0))], max_epochs=4, min_steps=3)


@scenario
def stopping_in_validation(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), callbacks=[doing(recorder, "on_validation_end", stop)], max_epochs=3, val_check_interval=2)


@scenario
def stopping_at_the_end_of_an_epoch(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_train_epoch_end", stop)], max_epochs=3)


@scenario
def stopping_at_the_start_of_an_epoch(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_train_epoch_start", stop)], max_epochs=3)


@scenario
def stopping_at_the_start(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_train_start", stop)], max_epochs=3)


@scenario
def a_module_that_ends_the_epoch(recorder: Recorder) -> None:
    def on_train_batch_start(self: Any, batch: Any, batch_idx: int) -> Any:
        return -1 if batch_idx == 2 else None

    recorder.run(module=with_methods(recorder, on_train_batch_start=on_train_batch_start), data=long_data(recorder), max_epochs=2)


@scenario(warns="lr_scheduler.step")
def a_module_that_ends_the_epoch_at_once(recorder: Recorder) -> None:
    recorder.run(module=with_methods(recorder, on_train_batch_start=lambda self, batch, batch_idx: -1), max_epochs=2)


@scenario
def a_module_that_ends_the_epoch_within_a_window(recorder: Recorder) -> None:
    def on_train_batch_start(self: Any, batch: Any, batch_idx: int) -> Any:
        return -1 if batch_idx == 3 else None

    module = with_methods(recorder, on_train_batch_start=on_train_batch_start)
    recorder.run(module=module, data=long_data(recorder), accumulate_grad_batches=2)


@scenario
def stopping_in_the_sanity_check(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_sanity_check_end", stop)])


@scenario
def stopping_when_fit_starts(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_fit_start", stop)])


@scenario
def stopping_at_the_start_of_a_batch(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), callbacks=[doing(recorder, "on_train_batch_start", stop)], max_epochs=2)


@scenario
def a_callback_cannot_end_the_epoch(recorder: Recorder) -> None:
    recorder.run(callbacks=[doing(recorder, "on_train_batch_start", lambda *args: -1)])


@scenario
def steps_bound_the_run(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), max_epochs=-1, max_steps=7)


@scenario
def steps_bound_the_run_at_the_end_of_an_epoch(recorder: Recorder) -> None:
    recorder.run(max_epochs=None, max_steps=4)


@scenario
def steps_bound_the_run_in_windows(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(16)), max_epochs=None, max_steps=3, accumulate_grad_batches=2)


@scenario
def steps_bound_a_run_validated_by_batches(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), max_epochs=-1, max_steps=4, val_check_interval=2)


@scenario
def no_epochs(recorder: Recorder) -> None:
    recorder.run(max_epochs=0)


@scenario
def no_steps(recorder: Recorder) -> None:
    recorder.run(max_steps=0)
