"""What a callback may listen to. Every method does nothing, and a method that is not overridden costs nothing."""

from typing import Any, ClassVar


class Callback:
    """Code that joins a run from outside of the model: pass it in `Trainer(callbacks=[...])`, or register it and pass its name.

    Every event is called on every rank, with the trainer and the module being trained. Within one event the callbacks come in
    their order in `trainer.callbacks`, then the module. The order is declared, not guessed: `phase` is `"first"`, `"normal"`,
    `"monitor"` (at `on_train_epoch_end` after the module, so that it sees what the module logged there) or `"last"` (so too, and after all
    other callbacks everywhere); `before` and `after` are names (registered, or of the class) of callbacks to stand before or behind.

    `roles` says what it is to the engine: `"checkpoint"`, `"progress-bar"`, `"model-summary"`, `"timer"`, `"early-stopping"`.

    >>> class Shout(Callback):
    ...     def on_train_start(self, trainer, pl_module):
    ...         print("GO")
    >>> Shout().listens_to("on_train_start"), Shout().listens_to("on_train_batch_end")
    (True, False)
    """

    phase: ClassVar[str] = "normal"
    before: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    roles: ClassVar[frozenset[str]] = frozenset()

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint; two callbacks of one class need different ones."""
        return type(self).__qualname__

    def listens_to(self, event: str) -> bool:
        """Whether this very instance wants an event, asked once per run; override it to drop events that its settings make idle."""
        return event in vars(self) or getattr(type(self), event, None) is not getattr(Callback, event)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called when a run begins, before the model is configured; `stage` is `"fit"`, `"validate"`, `"test"` or `"predict"`."""

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called when a run ends, also when it was ended by an exception."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when fit begins, after `configure_optimizers`."""

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when fit ends."""

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Called before the validation batches that are tried ahead of training."""

    def on_sanity_check_end(self, trainer: Any, pl_module: Any) -> None:
        """Called after the validation batches that are tried ahead of training."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Called before the first epoch."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Called after the last epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a training epoch begins."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a training epoch ends, after its validation; epoch values logged in the steps are in `trainer.callback_metrics`."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Called before a batch is trained on; the batch is on the device."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called after a batch; `outputs` is what `training_step` returned, detached, with the loss divided by the size of the
        accumulation window."""

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a validation run begins."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a validation run ends, after its values were logged."""

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a validation run begins to iterate."""

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a validation run has iterated; values may still be logged."""

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a validation batch."""

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called after a validation batch, with what `validation_step` returned."""

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a test run begins."""

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a test run ends."""

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a test run begins to iterate."""

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a test run has iterated; values may still be logged."""

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a test batch."""

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a test batch, with what `test_step` returned."""

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a prediction run begins."""

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a prediction run ends."""

    def on_predict_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a prediction run begins to iterate."""

    def on_predict_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a prediction run has iterated."""

    def on_predict_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a prediction batch."""

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a prediction batch, with what `predict_step` returned."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Called before `backward`, with the loss, a scalar tensor, as it will be differentiated."""

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Called after `backward`; gradients may still be scaled by the precision."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Called before an optimizer steps, when gradients are unscaled and not yet clipped."""

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Called before gradients are cleared, on the first batch of an accumulation window."""

    def on_before_batch_transfer(self, trainer: Any, pl_module: Any, batch: Any, dataloader_idx: int) -> Any:
        """Called with every batch of every stage, on the host, before the module's hook; a batch that is returned takes its place."""

    def on_after_batch_transfer(self, trainer: Any, pl_module: Any, batch: Any, dataloader_idx: int) -> Any:
        """Called with every batch of every stage, on the device, before the module's hook; a batch that is returned takes its place."""

    def on_before_lr_scheduler_step(self, trainer: Any, pl_module: Any, scheduler: Any, metric: Any) -> None:
        """Called before the trainer moves a scheduler; `metric` is what a plateau scheduler watches, else None."""

    def on_after_lr_scheduler_step(self, trainer: Any, pl_module: Any, scheduler: Any, metric: Any) -> None:
        """Called after the trainer moved a scheduler; the optimizer has its new learning rates."""

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Called when the run is ended by an exception, `KeyboardInterrupt` included, before `teardown`."""

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Called with a checkpoint about to be written; it may be changed in place. Not called for weights-only checkpoints."""

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Called with a checkpoint that was read, before the states in it are taken up."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold of this callback; an empty one is not stored."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""


EVENTS: tuple[str, ...] = (
    "setup",
    "teardown",
    "on_fit_start",
    "on_fit_end",
    "on_sanity_check_start",
    "on_sanity_check_end",
    "on_train_start",
    "on_train_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_validation_epoch_start",
    "on_validation_epoch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_start",
    "on_test_end",
    "on_test_epoch_start",
    "on_test_epoch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_predict_start",
    "on_predict_end",
    "on_predict_epoch_start",
    "on_predict_epoch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "on_before_lr_scheduler_step",
    "on_after_lr_scheduler_step",
    "on_exception",
    "on_save_checkpoint",
    "on_load_checkpoint",
)
"""The events, which are the methods of `Callback` that take `(trainer, pl_module, ...)`; a test holds the two to one set."""


class Checkpoint(Callback):
    """The base of callbacks that write checkpoints: they come last, and `trainer.checkpoint_callbacks` lists them."""

    phase = "last"
    roles = frozenset({"checkpoint"})

    def rescue(self, trainer: Any) -> str:
        """Writes a checkpoint from which a fit can go on that a signal ends; returns its path, or that of one that will do, or `""`.

        Called on every rank, at a batch boundary, before anybody is told of the end; of several callbacks one after the other is asked,
        until one returns a path.
        """
        return ""
