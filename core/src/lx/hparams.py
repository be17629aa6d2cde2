"""Hyperparameters: what a module or data module was constructed with, kept for checkpoints and loggers."""

import copy
import inspect
import pickle
from argparse import Namespace
from collections.abc import Mapping
from types import FrameType
from typing import Any

from torch import nn

from lx.rank_zero import rank_zero_warn


class AttributeDict(dict[str, Any]):
    """A dictionary whose keys are attributes too.

    >>> hparams = AttributeDict(lr=0.1)
    >>> hparams.lr = 0.2
    >>> hparams["lr"]
    0.2
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no hyperparameter {name!r}; there are {', '.join(self) or 'none'}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f'"{name}": '.ljust(width + 4) + repr(value) for name, value in self.items())


class HyperparametersMixin:
    """Gives a class `save_hyperparameters`, `hparams` and `hparams_initial`."""

    _log_hyperparams = False

    def save_hyperparameters(self, *args: Any, ignore: Any = None, frame: FrameType | None = None, logger: bool = True) -> None:
        """Keeps the arguments of `__init__`; call it there.

        Without arguments all of them are kept, those of base classes too; strings select some by name; one mapping, Namespace or
        dataclass is taken
        as it is. `ignore` names those to leave out; `logger=False` keeps all of them from loggers. Repeated calls add up.
        Raises `ValueError` for a number or string that is no argument's name.
        """
        self._log_hyperparams = logger
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        here = frame or _calling_frame(self)
        name, found = _given(args) or ("kwargs", None)
        if found is None:
            found = _init_arguments(self, here)
            if args:
                missing = [arg for arg in args if not isinstance(arg, str) or arg not in found]
                if missing:
                    raise ValueError(
                        f"save_hyperparameters({', '.join(map(repr, args))}): {missing[0]!r} is no argument of __init__; those are"
                        f" {', '.join(found)}."
                    )
                found = {key: found[key] for key in args}
        kept = {key: value for key, value in found.items() if key not in ignored}
        for key, value in kept.items():
            if isinstance(value, nn.Module):
                rank_zero_warn(
                    f"the hyperparameter {key!r} is a module, whose weights are saved with the model already;"
                    f" save_hyperparameters(ignore=[{key!r}])."
                )
        hparams = self.hparams
        for key in ignored & set(hparams):
            del hparams[key]
        hparams.update(kept)
        self._hparams_name = name
        self._hparams_initial = AttributeDict({key: _copied(value) for key, value in hparams.items()})

    @property
    def hparams(self) -> AttributeDict:
        """The hyperparameters, which may be changed; checkpoints hold them as they are then."""
        if "_hparams" not in self.__dict__:
            self.__dict__["_hparams"] = AttributeDict()
        hparams: AttributeDict = self.__dict__["_hparams"]
        return hparams

    @property
    def hparams_initial(self) -> AttributeDict:
        """The hyperparameters as they were saved, a copy."""
        initial: AttributeDict = self.__dict__.get("_hparams_initial", AttributeDict())
        return copy.deepcopy(initial)

    @property
    def hparams_name(self) -> str | None:
        """Under which name the hyperparameters came, None if there are none."""
        return self.__dict__.get("_hparams_name")

    @property
    def logs_hparams(self) -> bool:
        """Whether loggers are given the hyperparameters."""
        return self._log_hyperparams


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever cannot be copied is kept as it is: it may well be loggable all the same
        return value


def _given(args: tuple[Any, ...]) -> tuple[str, dict[str, Any]] | None:
    """The container that was passed, as name and content; None where there is none."""
    if len(args) != 1 or isinstance(args[0], str):
        return None
    (value,) = args
    if isinstance(value, Mapping):
        return "kwargs", dict(value)
    if isinstance(value, Namespace):
        return "kwargs", vars(value).copy()
    raise ValueError(
        f"save_hyperparameters({value!r}): pass names of arguments, or one mapping or Namespace, not a {type(value).__name__}."
    )


def _calling_frame(owner: Any) -> FrameType:
    frame = inspect.currentframe()
    while frame is not None:
        frame = frame.f_back
        if frame is not None and frame.f_code.co_name != "save_hyperparameters" and _self_of(frame) is owner:
            return frame
    raise RuntimeError("save_hyperparameters must be called in __init__.")


def _self_of(frame: FrameType) -> Any:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if names else None


def _init_arguments(owner: Any, frame: FrameType | None) -> dict[str, Any]:
    """The arguments of every `__init__` of this object that is being run, from the outermost class inwards."""
    found: dict[str, Any] = {}
    while frame is not None and _self_of(frame) is owner:
        if frame.f_code.co_name in ("__init__", "__post_init__"):
            found = (
                {**found, **_frame_arguments(owner, frame)} if frame.f_code.co_name == "__init__" else {**found, **_dataclass_fields(owner)}
            )
        frame = frame.f_back
    return found


def _frame_arguments(owner: Any, frame: FrameType) -> dict[str, Any]:
    cls = next((cls for cls in type(owner).__mro__ if getattr(cls.__dict__.get("__init__"), "__code__", None) is frame.f_code), type(owner))
    arguments: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(vars(cls)["__init__"]).parameters.items())[1:]:
        value = frame.f_locals.get(name)
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(value or {})
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            arguments[name] = value
    return arguments


def _dataclass_fields(owner: Any) -> dict[str, Any]:
    return {name: getattr(owner, name) for name in getattr(owner, "__dataclass_fields__", {})}


def drop_unpicklable(owner: HyperparametersMixin) -> None:
    """Removes hyperparameters that no checkpoint could hold, with a warning; called on every rank when a run starts."""
    for name, value in list(owner.hparams.items()):
        try:
            pickle.dumps(value)
        except Exception:
            rank_zero_warn(
                f"the hyperparameter {name!r} of {type(owner).__name__} cannot be pickled, and is dropped;"
                f" save_hyperparameters(ignore=[{name!r}])."
            )
            del owner.hparams[name]
