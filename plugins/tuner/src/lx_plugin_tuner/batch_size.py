"""BatchSizeFinder: when it searches, and what is done with what it finds."""

from typing import Any

from lx.arguments.limits import count
from lx.interfaces import Callback
from lx.kernel.errors import ArgumentValueError, MisconfigurationException
from lx.measures.memory import free_memory, is_out_of_memory
from lx.rank_zero import rank_zero_info, rank_zero_warn
from lx.running.fork import Fork, forked
from lx_plugin_tuner.setting import Setting
from lx_plugin_tuner.trial import Trial, largest

PREFIXES = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}


class BatchSizeFinder(Callback):
    """Finds the largest batch size that the memory holds when `fit`, `validate`, `test` or `predict` begins, by trying sizes.

    Each trial runs a few batches. In fit they are trained on, and a few are validated; of that nothing remains, neither in weights and
    optimizers nor in random numbers, loggers and checkpoints. The size that is found is written to every holder of it, and the loaders
    are asked for anew; so are the optimizers if there are schedulers, which may depend on the number of steps. `optimal_batch_size` is
    the size; None before, and in `fast_dev_run`. A fit that is resumed takes the size that was found before it was cut off.

    The loaders must be made by the module or the data module, with the size that the attribute has then. To search at other times, call
    `scale_batch_size(trainer, pl_module)` in another hook, such as `on_train_epoch_start`.

    Args:
        mode: `"power"`: the size is doubled until the memory runs out; `"binsearch"`: then the sizes in between are searched.
        steps_per_trial: The number of optimizer steps, or of batches in an evaluation, of each trial.
        init_val: The size to begin with.
        max_trials: The largest number of trials.
        batch_arg_name: The attribute or hyperparameter that holds the batch size.
        margin: In `"binsearch"`, the share by which the size that is found is reduced, so that batches may need a little more memory.
        max_val: The largest size; the number of samples bounds it, too.

    Raises:
        ValueError: for another mode; when a run begins with several processes.
        MisconfigurationException: for other arguments that cannot be; when a run begins, for loaders that were passed to it, for an
            attribute that nobody has or that the loaders do not follow, and for an evaluation of several loaders.

    >>> BatchSizeFinder("binsearch").optimal_batch_size is None
    True
    """

    SUPPORTED_MODES = ("power", "binsearch")

    phase = "first"

    def __init__(
        self,
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> None:
        if mode not in self.SUPPORTED_MODES:
            raise ArgumentValueError(f"mode={mode!r}: it must be one of {', '.join(self.SUPPORTED_MODES)}.")
        if not 0 <= margin < 1:
            raise MisconfigurationException(f"margin={margin!r}: it must be a share, from 0.0 to less than 1.0.")
        self._mode = mode
        self._steps_per_trial = count("steps_per_trial", steps_per_trial, least=1)
        self._init_val = count("init_val", init_val, least=1)
        self._max_trials = count("max_trials", max_trials, least=1)
        self._batch_arg_name = batch_arg_name
        self._margin = margin
        self._max_val = count("max_val", max_val, least=1)
        self._error: BaseException | None = None
        self.optimal_batch_size: int | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuses what cannot be searched in, before anything is made."""
        if trainer.world_size > 1:
            raise ValueError(
                f"the batch size finder works in one process, and this run has {trainer.world_size}; find the size with devices=1."
            )
        prefix = PREFIXES[stage]
        if trainer.source.given.get(prefix) is not None:
            raise MisconfigurationException(
                f"the batch size finder cannot change the {prefix} loaders that were passed to trainer.{stage}; have the module or a"
                f" data module make them, in {prefix}_dataloader."
            )

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the size; in a run that is resumed, takes the one that was found before it was cut off."""
        if trainer.ckpt_path is not None and self.optimal_batch_size is not None:
            self._adopt(self.optimal_batch_size, self._setting(trainer, pl_module), trainer)
        else:
            self.scale_batch_size(trainer, pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the size, in `validate`."""
        if trainer.state.fn == "validate":
            self.scale_batch_size(trainer, pl_module)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the size."""
        self.scale_batch_size(trainer, pl_module)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the size."""
        self.scale_batch_size(trainer, pl_module)

    def scale_batch_size(self, trainer: Any, pl_module: Any) -> None:
        """Finds the size now, and sets it; for a hook at the start of a run, or of an epoch."""
        self.optimal_batch_size = None
        prefix = PREFIXES[trainer.state.fn]
        if trainer.fast_dev_run or not getattr(trainer, f"limit_{prefix}_batches"):
            rank_zero_warn("no batch size is searched for: this run is limited to a few batches (fast_dev_run), or to none.")
            return
        setting = self._setting(trainer, pl_module)
        trial = Trial(self._batch_arg_name, prefix)
        with forked(trainer, [trial], **self._limits(trainer)) as fork:
            size = largest(
                lambda size: self._fits(size, setting, trial, fork),
                lambda: min(self._max_val, trial.samples),
                bisects=self._mode == "binsearch",
                first=self._init_val,
                max_trials=self._max_trials,
            )
        error, self._error = self._error, None
        if not size and error is not None:
            error.add_note(f"No batch size was found that the memory holds, not even {trial.size}.")
            raise error
        if self._mode == "binsearch":
            size = max(1, int(size * (1 - self._margin)))
        self._adopt(size, setting, trainer)

    def state_dict(self) -> dict[str, Any]:
        """The size that was found."""
        return {} if self.optimal_batch_size is None else {"optimal_batch_size": self.optimal_batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the size that was found."""
        self.optimal_batch_size = state_dict.get("optimal_batch_size")

    def _setting(self, trainer: Any, module: Any) -> Setting:
        setting = Setting(self._batch_arg_name, module, trainer.datamodule)
        if not setting:
            raise MisconfigurationException(
                f"there is no attribute or hyperparameter {self._batch_arg_name!r} in {type(module).__name__}"
                f"{'' if trainer.datamodule is None else f' and {type(trainer.datamodule).__name__}'} to set the batch size to; name"
                " yours with batch_arg_name."
            )
        return setting

    def _limits(self, trainer: Any) -> dict[str, Any]:
        """Trials of a few steps: as many batches, or as many accumulation windows, and validation after them."""
        limits, steps = trainer.limits, self._steps_per_trial
        trained = steps * limits.window_size(0) if trainer.state.fn == "fit" else steps
        evaluated = dict.fromkeys(("limit_val_batches", "limit_test_batches", "limit_predict_batches"), steps)
        wanted = {"limit_train_batches": trained, **evaluated}
        few = {name: _at_most(getattr(limits, name), batches) for name, batches in wanted.items()}
        return {**few, "val_check_interval": 1.0, "check_val_every_n_epoch": 1}

    def _fits(self, size: int, setting: Setting, trial: Trial, fork: Fork) -> bool:
        setting.set(size)
        trial.size = size
        try:
            fork.run()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Without its traceback, whose frames hold the tensors that were too many.
            self._error = error.with_traceback(None)
        else:
            rank_zero_info(f"a batch size of {size} fits.")
            return True
        free_memory()
        rank_zero_info(f"a batch size of {size} does not fit: {str(self._error).partition('.')[0]}.")
        return False

    def _adopt(self, size: int, setting: Setting, trainer: Any) -> None:
        rank_zero_info(f"the batch size {setting.name!r} is set to {size}; it was {setting.value!r}.")
        setting.set(size)
        self.optimal_batch_size = size
        (trainer.run.loop or trainer.fit_loop).forget_data()
        if trainer.lr_scheduler_configs:
            trainer.run.renew_optimizers()


def _at_most(limit: int | float, batches: int) -> int:
    return min(limit, batches) if isinstance(limit, int) else batches if limit else 0
