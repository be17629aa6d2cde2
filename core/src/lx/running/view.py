"""What is known while a run goes on: read-only attributes of a trainer, each answered by the part that knows."""

from typing import Any

from lx.arguments.limits import change, read_accumulation
from lx.delegate import delegated, first_in_role, in_role
from lx.state import RunningStage, TrainerFn


def _change(trainer: Any, name: str, value: Any) -> None:
    change(trainer.limits, name, value)


def _accumulate(trainer: Any, name: str, value: Any) -> None:
    trainer.limits.accumulate_grad_batches = read_accumulation(value)


def _resume_from(trainer: Any, name: str, value: Any) -> None:
    trainer.resume.assign(value)


def _check_sanity(trainer: Any, name: str, value: bool) -> None:
    trainer.state.stage = RunningStage.SANITY_CHECKING if value else None


class RunView:
    """The declarations alone; `Trainer` holds the parts that they point to."""

    # -- where this process stands ---------------------------------------------------------------------------------------

    strategy = delegated("fabric.strategy", "The strategy.")
    accelerator = delegated("fabric.accelerator", "The accelerator.")
    precision_plugin = delegated("fabric.precision", "The precision, as a component.")
    precision = delegated("fabric.precision.precision", "The precision, as a string such as `32-true`.")
    world_size = delegated("fabric.world_size", "The number of processes.")
    global_rank = delegated("fabric.global_rank", "This process among all.")
    local_rank = delegated("fabric.local_rank", "This process among those of its node.")
    node_rank = delegated("fabric.node_rank", "This node among all.")
    is_global_zero = delegated("fabric.is_global_zero", "Whether this process writes and prints.")
    num_nodes = delegated("resolution.request.num_nodes", "The number of nodes.")
    device_ids = delegated("resolution.devices", "The indices of the devices of this node.")
    callback_metrics = delegated("log.callback_metrics", "Everything that was logged: name to tensor.")
    logged_metrics = delegated("log.logged_metrics", "What loggers get, the newest value of each name.")
    progress_bar_metrics = delegated("log.progress_bar_metrics", "What was logged with `prog_bar=True`, as numbers.")
    init_module = delegated("fabric.init_module", "A context in which modules are made on the device, in the precision.")
    current_epoch = delegated("fit_loop.progress.completed_epochs", "The epochs completed, which is the index of the one that runs.")
    logging_due = delegated("fit_loop.logging_due", "Whether the step values of the batch that runs go to the loggers.")
    open_window = delegated("fit_loop.epoch_loop.optimize.held", "The batches in the open accumulation window, 0 once it is closed.")
    num_devices = property(lambda self: len(self.device_ids), doc="The number of devices of this node.")
    num_val_batches = property(
        lambda self: self.validate_loop.max_batches if self.state.fn is TrainerFn.VALIDATING else self.fit_loop.num_val_batches,
        doc="The validation batches of each loader, of `validate` or within `fit`.",
    )
    num_test_batches = delegated("test_loop.max_batches", "The test batches of each loader.")
    num_predict_batches = delegated("predict_loop.max_batches", "The prediction batches of each loader.")
    num_sanity_val_batches = property(
        lambda self: [min(self.num_sanity_val_steps, count) for count in self.num_val_batches],
        doc="The sanity check batches of each loader.",
    )
    enable_validation = delegated(
        "fit_loop.enable_validation", "Whether this fit validates: there are a step, a loader, and a limit above 0."
    )
    estimated_stepping_batches = delegated(
        "fit_loop.estimated_stepping_batches", "The optimizer steps that this fit will take, `inf` if unbounded."
    )
    max_epochs = delegated("fit_loop.max_epochs", "The bound on epochs, -1 for none.")
    min_epochs = delegated("fit_loop.min_epochs", "The epochs before `should_stop` is obeyed.")
    max_steps = delegated("fit_loop.max_steps", "The bound on optimizer steps, -1 for none.")
    min_steps = delegated("fit_loop.min_steps", "The optimizer steps before `should_stop` is obeyed.")
    num_training_batches = delegated("fit_loop.data.num_batches", "The training batches of an epoch, `inf` where unknown.")
    val_check_batch = delegated("fit_loop.val_check_batch", "Validation comes every so many batches, `inf` for never by count.")
    global_step = delegated("fit_loop.progress.steps", "The optimizer steps taken, over all epochs and optimizers.")
    batches_seen = delegated("fit_loop.progress.batch.total_processed", "The batches trained on, over all epochs; of this process.")
    samples_seen = delegated("fit_loop.data.samples.total", "The samples trained on, over all epochs and processes.")
    log_step = delegated("fit_loop.progress.windows", "The axis of the loggers: the accumulation windows closed so far.")
    is_last_batch = delegated("fit_loop.progress.batch.is_last_batch", "Whether the training batch that runs is the last of its epoch.")
    fast_dev_run = delegated("limits.fast_dev_run", "The batches of a development run, 0 if this is none.")
    overfit_batches = delegated("limits.overfit_batches", "As given.")
    accumulate_grad_batches = delegated(
        "limits.accumulate_grad_batches",
        "The size of an accumulation window, or the function that gives it; set it between windows.",
        _accumulate,
    )
    ckpt_path = delegated(
        "resume.path", "The checkpoint that this run resumes from; assigned, it holds for the next calls, too.", _resume_from
    )
    limit_train_batches = delegated("limits.limit_train_batches", "As given, 1.0 for all.", _change)
    limit_val_batches = delegated("limits.limit_val_batches", "As given, 1.0 for all.", _change)
    limit_test_batches = delegated("limits.limit_test_batches", "As given, 1.0 for all.", _change)
    limit_predict_batches = delegated("limits.limit_predict_batches", "As given, 1.0 for all.", _change)
    val_check_interval = delegated("limits.val_check_interval", "As given, 1.0 for once an epoch; a timedelta where it is a time.", _change)
    check_val_every_n_epoch = delegated("limits.check_val_every_n_epoch", "As given.", _change)
    num_sanity_val_steps = delegated("limits.num_sanity_val_steps", "The batches of the sanity check.", _change)
    log_every_n_steps = delegated("limits.log_every_n_steps", "Step values go out every so many windows.", _change)
    reload_dataloaders_every_n_epochs = delegated("limits.reload_dataloaders_every_n_epochs", "As given.", _change)

    # -- callbacks by what they are --------------------------------------------------------------------------------------

    checkpoint_callbacks = in_role("checkpoint", "The callbacks that write checkpoints.")
    checkpoint_callback = first_in_role("checkpoint", "The first callback that writes checkpoints, None without one.")
    early_stopping_callbacks = in_role("early-stopping", "The callbacks that stop early.")
    early_stopping_callback = first_in_role("early-stopping", "The first callback that stops early, None without one.")
    progress_bar_callback = first_in_role("progress-bar", "The progress bar, None without one.")

    # -- what goes on ----------------------------------------------------------------------------------------

    training = delegated("state.training", "Whether batches are trained on.")
    validating = delegated("state.validating", "Whether batches are validated.")
    testing = delegated("state.testing", "Whether batches are tested.")
    predicting = delegated("state.predicting", "Whether batches are predicted.")
    sanity_checking = delegated("state.sanity_checking", "Whether this is the check before training.", _check_sanity)
    evaluating = delegated("state.evaluating", "Whether batches are evaluated.")
    interrupted = delegated("state.interrupted", "Whether the last run was ended by an exception.")
    distributed_sampler_kwargs = delegated("strategy.distributed_sampler_kwargs", "What a distributed sampler needs to know.")
    scaler = property(
        lambda self: getattr(self.precision_plugin, "scaler", None), doc="The gradient scaler of the precision, if it has one."
    )
