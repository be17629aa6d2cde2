"""What `configure_optimizers` may return, read into optimizers and scheduler configurations."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from lx.interfaces.strategy import optimizer_parameters
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn

FORMS = (
    "an optimizer; a list of optimizers; two lists, ([optimizers], [schedulers]); {'optimizer': ..., 'lr_scheduler': ...}; a list of such"
    " mappings; or None"
)
_KEYS = ("scheduler", "name", "interval", "frequency", "reduce_on_plateau", "monitor", "strict")


@dataclass(slots=True)
class LRSchedulerConfig:
    """A scheduler, and when it moves: every `frequency` epochs or steps (`interval`), with the metric `monitor` if it is a plateau one."""

    scheduler: Any
    name: str | None = None
    interval: str = "epoch"
    frequency: int = 1
    reduce_on_plateau: bool = False
    monitor: str | None = None
    strict: bool = True


def read_configuration(configured: Any, *, automatic: bool, steps_schedulers: bool) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """The optimizers and scheduler configurations in what `configure_optimizers` returned.

    `automatic`: the trainer steps them; `steps_schedulers`: the module overrides `lr_scheduler_step`.

    Raises `MisconfigurationException` for what has none of the accepted forms, and for schedulers that cannot work.
    """
    by_hand_alone = not automatic and isinstance(configured, list | tuple) and not configured
    optimizers, schedulers, monitor = _split(None if by_hand_alone else configured)
    if not optimizers and not by_hand_alone:
        rank_zero_warn("configure_optimizers returned None: this fit runs without an optimizer.")
    if automatic:
        _require_steps_together(optimizers)
    configs = [_scheduler_config(scheduler, monitor, automatic, steps_schedulers) for scheduler in schedulers]
    for config in configs:
        bound = getattr(config.scheduler, "optimizer", None)
        if bound is not None and not any(bound is optimizer for optimizer in optimizers):
            raise MisconfigurationException(
                f"configure_optimizers: the scheduler {_outline(config.scheduler)} drives an optimizer that was not returned; return"
                " that one too."
            )
    return optimizers, configs


def _require_steps_together(optimizers: list[Any]) -> None:
    """Raises `MisconfigurationException` for optimizers that cannot step after one evaluation of the loss."""
    seen: set[int] = set()
    for optimizer in optimizers if len(optimizers) > 1 else ():
        name = type(optimizer).__name__
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise MisconfigurationException(
                f"configure_optimizers returned {len(optimizers)} optimizers, and {name} evaluates the loss several times within a step,"
                " which the others could not follow; set self.automatic_optimization = False and step them yourself."
            )
        own = {id(parameter) for parameter in optimizer_parameters(optimizer)}
        if seen & own:
            raise MisconfigurationException(
                f"configure_optimizers returned {len(optimizers)} optimizers, and {name} holds parameters that one before it holds, too; in"
                " automatic optimization every parameter has one optimizer."
            )
        seen |= own


def _split(configured: Any) -> tuple[list[Optimizer], list[Any], str | None]:
    if configured is None:
        return [], [], None
    if isinstance(configured, Optimizer):
        return [configured], [], None
    if isinstance(configured, Mapping):
        return _from_mapping(configured)
    if isinstance(configured, list | tuple):
        if len(configured) == 2 and isinstance(configured[0], list | tuple):
            optimizers, schedulers = configured
            if all(isinstance(optimizer, Optimizer) for optimizer in optimizers):
                return list(optimizers), list(schedulers) if isinstance(schedulers, list | tuple) else [schedulers], None
        if configured and all(isinstance(part, Optimizer) for part in configured):
            return list(configured), [], None
        if configured and all(isinstance(part, Mapping) for part in configured):
            parts = [_from_mapping(part) for part in configured]
            schedulers = [_with_monitor(scheduler, monitor) for _, found, monitor in parts for scheduler in found]
            return [optimizer for found, _, _ in parts for optimizer in found], schedulers, None
    raise MisconfigurationException(f"configure_optimizers returned {_outline(configured)}; it must return {FORMS}.{_meant(configured)}")


def _meant(configured: Any) -> str:
    """What somebody may have meant who returned something else."""
    if isinstance(configured, type) and issubclass(configured, Optimizer):
        return f" Did you mean {configured.__name__}(self.parameters(), ...)?"
    if isinstance(configured, list | tuple) and len(configured) == 2 and isinstance(configured[0], Optimizer):
        return " An optimizer and its scheduler are returned as ([optimizer], [scheduler])."
    return ""


def _from_mapping(configured: Mapping[str, Any]) -> tuple[list[Optimizer], list[Any], str | None]:
    optimizer = configured.get("optimizer")
    if not isinstance(optimizer, Optimizer):
        raise MisconfigurationException(
            f"configure_optimizers returned a mapping whose 'optimizer' is {_outline(optimizer)}; it must return {FORMS}."
        )
    strange = [key for key in configured if key not in ("optimizer", "lr_scheduler", "monitor", "frequency")]
    if strange:
        rank_zero_warn(
            f"configure_optimizers: the keys {strange} mean nothing here and are left out; those of a scheduler belong in 'lr_scheduler'."
        )
    scheduler = configured.get("lr_scheduler")
    return [optimizer], [] if scheduler is None else [scheduler], configured.get("monitor")


def _with_monitor(scheduler: Any, monitor: str | None) -> Any:
    if monitor is None:
        return scheduler
    return {"monitor": monitor, **scheduler} if isinstance(scheduler, Mapping) else {"scheduler": scheduler, "monitor": monitor}


def _scheduler_config(given: Any, monitor: str | None, automatic: bool, steps_schedulers: bool) -> LRSchedulerConfig:
    fields = dict(given) if isinstance(given, Mapping) else {"scheduler": given}
    strange = [key for key in fields if key not in _KEYS]
    if strange:
        rank_zero_warn(f"configure_optimizers: a scheduler has the keys {strange}, which are left out; known are {', '.join(_KEYS)}.")
    if "scheduler" not in fields:
        raise MisconfigurationException(
            f"configure_optimizers: the scheduler configuration {_outline(fields)} lacks the key 'scheduler'; put the scheduler there."
        )
    config = LRSchedulerConfig(**{"monitor": monitor, **{key: value for key, value in fields.items() if key in _KEYS}})
    scheduler = config.scheduler
    if config.interval not in ("step", "epoch"):
        raise MisconfigurationException(
            f"configure_optimizers: interval={config.interval!r} of {_outline(scheduler)}; it must be 'step' or 'epoch'."
        )
    if isinstance(config.frequency, bool) or not isinstance(config.frequency, int) or config.frequency < 1:
        raise MisconfigurationException(
            f"configure_optimizers: frequency={config.frequency!r} of {_outline(scheduler)}; it must be an integer, 1 or more."
        )
    if not all(callable(getattr(scheduler, name, None)) for name in ("state_dict", "load_state_dict")):
        raise TypeError(
            f"configure_optimizers: the scheduler {_outline(scheduler)} must have state_dict and load_state_dict, as those of"
            " torch.optim.lr_scheduler have, or a checkpoint could not hold it."
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        config.reduce_on_plateau = True
    if not automatic:
        if "reduce_on_plateau" in fields or "monitor" in fields or "strict" in fields:
            rank_zero_warn(
                "configure_optimizers: with manual optimization you step the schedulers, so reduce_on_plateau, monitor and strict do"
                " nothing."
            )
        return config
    return _check_automatic(config, steps_schedulers)


def _check_automatic(config: LRSchedulerConfig, steps_schedulers: bool) -> LRSchedulerConfig:
    scheduler = config.scheduler
    if config.reduce_on_plateau and config.monitor is None:
        raise MisconfigurationException(
            f"configure_optimizers: {_outline(scheduler)} needs the name of the metric to watch: "
            "{'optimizer': ..., 'lr_scheduler': {'scheduler': ..., 'monitor': 'val_loss'}}."
        )
    if not isinstance(scheduler, LRScheduler | ReduceLROnPlateau) and not steps_schedulers:
        raise MisconfigurationException(
            f"configure_optimizers: {_outline(scheduler)} is no scheduler of torch's kind; override lr_scheduler_step(scheduler,"
            " metric) to step it."
        )
    if isinstance(scheduler, OneCycleLR) and config.interval == "epoch":
        rank_zero_warn("configure_optimizers: OneCycleLR moves every epoch; it is meant to move every step, {'interval': 'step'}.")
    return config


def _outline(value: Any) -> str:
    """A value in one line for a message: what fills a screen when printed, such as an optimizer, by its class."""
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_outline(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_outline, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_outline, value))})"
    return type(value).__name__


class LightningOptimizer:
    """An optimizer as a module gets it: stepping it runs the closure, the hooks before the step, and the precision.

    It is an instance of the original's class, too; `.optimizer` is the original.
    """

    def __init__(
        self, optimizer: Optimizer, step: Callable[[Optimizer, Callable[[], Any] | None, dict[str, Any]], Any], module: Any
    ) -> None:
        self.__dict__.update({name: value for name, value in vars(optimizer).items() if name != "step"})
        self.__class__ = type("Lightning" + type(optimizer).__name__, (type(self), type(optimizer)), {})
        self._optimizer = optimizer
        self._step = step
        self._module = module

    @property
    def optimizer(self) -> Optimizer:
        """The original optimizer."""
        return self._optimizer

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Takes the step; `closure`, if given, runs forward and backward. Raises `MisconfigurationException` for one that cannot be
        called."""
        if closure is not None and not callable(closure):
            raise MisconfigurationException(f"optimizer.step takes a function as closure, not {closure!r}.")
        return self._step(self._optimizer, closure, kwargs)

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Iterator[None]:
        """Within it only this optimizer's parameters require gradients; `sync_grad=False` keeps gradients in this process."""
        with (
            self._module.toggled_optimizer(self),
            self._module.trainer.strategy.no_backward_sync(self._module.trainer.model, enabled=not sync_grad),
        ):
            yield

    def refresh(self) -> None:
        """Takes over what was set on the original since, such as its state after a checkpoint was loaded."""
        self.__dict__.update({name: value for name, value in vars(self._optimizer).items() if name != "step"})
