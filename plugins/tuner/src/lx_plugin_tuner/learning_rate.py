"""LearningRateFinder: when it sweeps, and what is done with what it finds."""

from typing import Any

from lx.arguments.limits import count
from lx.interfaces import Callback
from lx.kernel.errors import ArgumentValueError, MisconfigurationException
from lx.rank_zero import rank_zero_info, rank_zero_warn
from lx.running.fork import forked
from lx_plugin_tuner.curve import MODES, LRFinder
from lx_plugin_tuner.rates import Rates
from lx_plugin_tuner.setting import Setting
from lx_plugin_tuner.sweep import Sweep

NAMES = ("lr", "learning_rate")


class LearningRateFinder(Callback):
    """Finds a learning rate when `fit` begins, by a sweep: a few training steps with a rate that rises from `min_lr` to `max_lr`.

    The rate at which the loss falls most steeply is set, and training begins with it, from where it would have begun without: weights,
    optimizers, data order and random numbers are as they were before. Schedulers do not move in the sweep, and begin with the new rate.
    With several optimizers or parameter groups all rates rise together, each in its ratio to the one that the model holds. `optimal_lr`
    is the curve, with `results`, `suggestion()` and `plot()`; None before, and in `fast_dev_run`. A run that is resumed keeps its rate.

    To find a rate at other times, call `lr_find(trainer, pl_module)` in another hook, such as `on_train_epoch_start`, and override
    `on_fit_start` to do nothing.

    Args:
        min_lr: The rate of the first step.
        max_lr: The rate of the last step.
        num_training_steps: The number of steps, over several epochs if need be.
        mode: `"exponential"` or `"linear"`: how the rate rises.
        early_stop_threshold: The sweep ends once the loss is more than so many times the best one; None: never.
        update_attr: Whether the rate that is found is set, in the module, its hyperparameters and the data module.
        attr_name: The attribute that holds the learning rate; by default `lr` or `learning_rate`, whichever is there.
        weights_only: Does nothing: no file is written that would be read.

    Raises:
        ValueError: for another mode.
        MisconfigurationException: for other arguments that cannot be; when the run has no optimizer; in manual optimization, for a
            `training_step` that returns no loss.
        AttributeError: when the run begins, where no attribute holds the learning rate, unless `update_attr=False`.

    >>> LearningRateFinder(num_training_steps=50).optimal_lr is None
    True
    """

    SUPPORTED_MODES = MODES

    phase = "first"
    after = ("batch_size_finder",)

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training_steps: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
        weights_only: bool | None = None,
    ) -> None:
        if mode not in self.SUPPORTED_MODES:
            raise ArgumentValueError(f"mode={mode!r}: it must be one of {', '.join(self.SUPPORTED_MODES)}.")
        if not 0 <= min_lr < max_lr or (min_lr == 0 and mode == "exponential"):
            raise MisconfigurationException(
                f"min_lr={min_lr!r}, max_lr={max_lr!r}: it rises from one to the other, and in mode 'exponential' from more than 0."
            )
        if early_stop_threshold is not None and not early_stop_threshold > 0:
            raise MisconfigurationException(f"early_stop_threshold={early_stop_threshold!r}: it must be more than 0, or None for no stop.")
        self._bounds = min_lr, max_lr
        self._num_training = count("num_training_steps", num_training_steps, least=1)
        self._mode = mode
        self._early_stop_threshold = early_stop_threshold
        self._update_attr = update_attr
        self._attr_name = attr_name
        self._found: float | None = None
        self.optimal_lr: LRFinder | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the rate; in a run that is resumed, takes the one that was found before it was cut off."""
        if trainer.ckpt_path is None:
            self.lr_find(trainer, pl_module)
            return
        rank_zero_info("the learning rate comes from the checkpoint, so it is not searched for.")
        setting = self._setting(trainer, pl_module)
        if self._found is not None and setting is not None:
            setting.set(self._found)

    def lr_find(self, trainer: Any, pl_module: Any) -> None:
        """Finds the rate now, and sets it; for a hook of fit that is called on every rank between two epochs or before them."""
        self.optimal_lr = None
        if trainer.fast_dev_run:
            rank_zero_warn("fast_dev_run: no learning rate is searched for.")
            return
        setting = self._setting(trainer, pl_module)
        rates = Rates(trainer.optimizers, setting.value if setting is not None else None)
        curve = LRFinder(self._mode, *self._bounds, self._num_training)
        with forked(trainer, [Sweep(curve, rates, self._early_stop_threshold)], limit_val_batches=0) as fork:
            fork.run()
        self.optimal_lr = curve
        if setting is not None:
            self._adopt(curve.suggestion(), setting, rates, trainer)

    def state_dict(self) -> dict[str, Any]:
        """The rate that was found."""
        return {} if self._found is None else {"lr": self._found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rate that was found."""
        self._found = state_dict.get("lr")

    def _setting(self, trainer: Any, module: Any) -> Setting | None:
        """Who holds the learning rate; None where it is not to be set."""
        if not self._update_attr:
            return None
        names = (self._attr_name,) if self._attr_name else NAMES
        found = next((setting for name in names if (setting := Setting(name, module, trainer.datamodule))), None)
        if found is None:
            raise AttributeError(
                f"there is no attribute or hyperparameter {' or '.join(map(repr, names))} in {type(module).__name__}"
                f"{'' if trainer.datamodule is None else f' and {type(trainer.datamodule).__name__}'} to set the learning rate to; name"
                " yours with attr_name, or pass update_attr=False."
            )
        return found

    def _adopt(self, rate: float | None, setting: Setting, rates: Rates, trainer: Any) -> None:
        if rate is None:
            return  # the suggestion has said why
        rank_zero_info(f"the learning rate {setting.name!r} is set to {rate:.6g}; it was {setting.value!r}.")
        setting.set(rate)
        self._found = rate
        # As if the rate had been there when the optimizers were made; where training has begun already, it goes on from there.
        if not trainer.run.renew_optimizers():
            rates.adopt(rate, [config.scheduler for config in trainer.lr_scheduler_configs])
