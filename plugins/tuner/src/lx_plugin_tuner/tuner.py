"""Tuner: the finders apart from a run."""

from typing import Any

from torch import nn

from lx.interfaces import Callback
from lx.kernel.errors import ArgumentValueError, MisconfigurationException, StopRun
from lx.rng import isolate_rng
from lx_plugin_tuner.batch_size import BatchSizeFinder
from lx_plugin_tuner.curve import LRFinder
from lx_plugin_tuner.learning_rate import LearningRateFinder

METHODS = ("fit", "validate", "test", "predict")


class Tuner:
    """Finds settings for the runs of a trainer, before them: a learning rate, a batch size.

    What it finds is set in the model and the data module, and everything else is as it was before: weights, the trainer's progress, its
    callbacks, and random numbers, so that what follows is the run that one would have with these settings given.

    ```python
    tuner = Tuner(trainer)
    tuner.scale_batch_size(model, datamodule=data)
    tuner.lr_find(model, datamodule=data).plot(suggest=True).savefig("rates.png")
    trainer.fit(model, datamodule=data)
    ```
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def lr_find(
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        method: str = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
        weights_only: bool | None = None,
    ) -> LRFinder | None:
        """Finds a learning rate for `fit`; returns the curve, None in `fast_dev_run`.

        The arguments are those of `trainer.fit`, and those of `LearningRateFinder`, of which `num_training` is `num_training_steps`.
        Raises what that raises; `MisconfigurationException` for another method than `"fit"`, and for `dataloaders`, which are not for it;
        `ValueError` if the trainer has a `LearningRateFinder` already.
        """
        self._check(method, (train_dataloaders, val_dataloaders), dataloaders, LearningRateFinder)
        if method != "fit":
            raise MisconfigurationException(f"method={method!r}: a learning rate is for training alone; leave method out.")
        finder = LearningRateFinder(min_lr, max_lr, num_training, mode, early_stop_threshold, update_attr, attr_name, weights_only)
        self._run(finder, method, model, train_dataloaders, val_dataloaders, datamodule)
        return finder.optimal_lr

    def scale_batch_size(
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        method: str = "fit",
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> int | None:
        """Finds the largest batch size for `"fit"`, `"validate"`, `"test"` or `"predict"`; returns it, None in `fast_dev_run`.

        The arguments are those of the trainer's method, and those of `BatchSizeFinder`. Raises what that raises;
        `MisconfigurationException` for loaders by the wrong name; `ValueError` for another method, and if the trainer has a
        `BatchSizeFinder` already.
        """
        self._check(method, (train_dataloaders, val_dataloaders), dataloaders, BatchSizeFinder)
        finder = BatchSizeFinder(mode, steps_per_trial, init_val, max_trials, batch_arg_name, margin, max_val)
        given = (train_dataloaders, val_dataloaders) if method == "fit" else (dataloaders,)
        self._run(finder, method, model, *given, datamodule)
        return finder.optimal_batch_size

    def _check(self, method: str, for_fit: tuple[Any, Any], for_others: Any, finder: type[Callback]) -> None:
        if method not in METHODS:
            raise ArgumentValueError(f"method={method!r}: it must be one of {', '.join(METHODS)}.")
        if method == "fit" and for_others is not None:
            raise MisconfigurationException("method='fit' takes train_dataloaders and val_dataloaders, not dataloaders.")
        if method != "fit" and any(loaders is not None for loaders in for_fit):
            raise MisconfigurationException(f"method={method!r} takes dataloaders, not train_dataloaders and val_dataloaders.")
        if any(isinstance(callback, finder) for callback in self._trainer.callbacks):
            raise ValueError(
                f"the trainer has a {finder.__name__} among its callbacks, which does this when a run begins; use one of them."
            )

    def _run(self, finder: Callback, method: str, model: Any, *loaders_and_datamodule: Any) -> None:
        """Begins a run, and ends it once the finder is through."""
        trainer, callbacks = self._trainer, self._trainer.callbacks
        *loaders, datamodule = loaders_and_datamodule
        options = {"fit": {}, "predict": {"return_predictions": False}}.get(method, {"verbose": False})
        modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
        trainer.callbacks = [finder, _Enough(), *callbacks]
        try:
            with isolate_rng():
                getattr(trainer, method)(model, *loaders, datamodule=datamodule, **options)
        finally:
            trainer.callbacks = callbacks
            for part, mode in modes:
                part.training = mode


class _Enough(Callback):
    """Ends a run that was begun for a finder."""

    phase = "first"
    after = ("LearningRateFinder", "BatchSizeFinder")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        raise StopRun("the tuner is through")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        raise StopRun("the tuner is through")

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        raise StopRun("the tuner is through")

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        raise StopRun("the tuner is through")
