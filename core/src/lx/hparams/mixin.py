"""Hyperparameters: what a module or data module was constructed with, kept for checkpoints and loggers."""

import copy
import dataclasses
import inspect
import pickle
from argparse import Namespace
from collections.abc import Collection, Mapping
from types import FrameType
from typing import Any

from torch import nn

from lx.hparams.configurations import as_plain, is_configuration, without
from lx.kernel.errors import ArgumentTypeError
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
        getattr(self, name)  # which says what is there, if this is not
        del self[name]

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f'"{name}": '.ljust(width + 4) + repr(value) for name, value in self.items())


class HyperparametersMixin:
    """Gives a class `save_hyperparameters`, `hparams` and `hparams_initial`."""

    _log_hyperparams = False

    def save_hyperparameters(self, *args: Any, ignore: Any = None, frame: FrameType | None = None, logger: bool = True) -> None:
        """Keeps the arguments of `__init__`; call it there.

        Without arguments all of them are kept, those of base classes too; strings select some by name; one mapping or Namespace is taken
        as it is, and nothing happens if it is empty or None. `ignore` names those to leave out; `logger=False` keeps all of them from
        loggers. Repeated calls add up. Raises `ValueError` for anything else, such as a string that is no argument's name.
        """
        self._log_hyperparams = logger
        if ignore is not None and not isinstance(ignore, str | Collection):
            raise ArgumentTypeError(f"save_hyperparameters(ignore={ignore!r}): it must be a name or a list of names.")
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        container = _container(args)
        if container is not None and not container:
            return
        arguments = _init_arguments(self, frame or _calling_frame(self))
        if container is not None:
            name, found = next((key for key, value in arguments.items() if value is args[0]), None), container
        else:
            name, found = "kwargs", _selected(args, arguments) if args else arguments
        kept = {key: value for key, value in found.items() if key not in ignored}
        for key, value in kept.items():
            if isinstance(value, nn.Module):
                rank_zero_warn(
                    f"the hyperparameter {key!r} is a module, whose weights are saved with the model already;"
                    f" save_hyperparameters(ignore=[{key!r}])."
                )
        hparams = self.hparams
        if container is not None and is_configuration(args[0]) and not hparams:
            self.__dict__["_hparams"] = hparams = without(args[0], ignored)  # it stays what it is, with all that it can do
        else:
            for key in ignored & set(hparams):
                del hparams[key]
            hparams.update(kept)
        self._hparams_name = name
        self._hparams_initial = _all_copied(hparams)

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
        return _all_copied(self.__dict__.get("_hparams_initial", AttributeDict()))

    @property
    def hparams_name(self) -> str | None:
        """The argument of `__init__` that holds them all, if one container was saved; `"kwargs"` if each is an argument of its own."""
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


def _all_copied(hparams: Any) -> AttributeDict:
    if is_configuration(hparams):
        return _copied(hparams)  # type: ignore[no-any-return]
    return AttributeDict({key: _copied(value) for key, value in hparams.items()})


def _container(args: tuple[Any, ...]) -> dict[str, Any] | None:
    """The content of the one container that was passed; None where names were, or nothing."""
    if len(args) != 1 or isinstance(args[0], str):
        return None
    (value,) = args
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return as_plain(value) if is_configuration(value) else dict(value)
    if isinstance(value, Namespace):
        return vars(value).copy()
    hint = "; dataclasses.asdict(...) makes one of it" if dataclasses.is_dataclass(value) else ""
    raise ValueError(
        f"save_hyperparameters({value!r}): pass names of arguments, or one mapping or Namespace, not a {type(value).__name__}{hint}."
    )


def _selected(names: tuple[Any, ...], arguments: dict[str, Any]) -> dict[str, Any]:
    strange = [name for name in names if not isinstance(name, str) or name not in arguments]
    if strange:
        raise ValueError(
            f"save_hyperparameters({', '.join(map(repr, names))}): {strange[0]!r} is no argument of __init__; those are"
            f" {', '.join(arguments)}."
        )
    return {name: arguments[name] for name in names}


def _calling_frame(owner: Any) -> FrameType | None:
    """The innermost function of this object that asked for its hyperparameters to be saved; None where it was asked from outside."""
    frame = inspect.currentframe()
    while frame is not None and (frame.f_code.co_filename == __file__ or _self_of(frame) is not owner):
        frame = frame.f_back
    return frame


def _self_of(frame: FrameType) -> Any:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if names else None


def _init_arguments(owner: Any, frame: FrameType | None) -> dict[str, Any]:
    """The arguments of every `__init__` of this object that is being run; those of the outermost class rank first."""
    found: dict[str, Any] = {}
    of_dataclass = False
    while frame is not None and _self_of(frame) is owner:
        if frame.f_code.co_name == "__post_init__":
            found.update(_dataclass_fields(owner) | _frame_arguments(frame))
            of_dataclass = True
        elif frame.f_code.co_name == "__init__":
            if not of_dataclass:  # the one that was generated knows defaults by their factories only
                found.update(_frame_arguments(frame))
            of_dataclass = False
        frame = frame.f_back
    return found


def _frame_arguments(frame: FrameType) -> dict[str, Any]:
    """The arguments with which a method runs, without `self` and what `*` gathers; those that `**` gathers by their own names."""
    names, _, gathered, values = inspect.getargvalues(frame)
    return {name: values[name] for name in names[1:] if name in values} | (values.get(gathered) or {} if gathered else {})


def _dataclass_fields(owner: Any) -> dict[str, Any]:
    return {field.name: getattr(owner, field.name) for field in dataclasses.fields(owner) if field.init}


def is_picklable(obj: object) -> bool:
    """Whether `pickle` can write an object; whatever its own code raises means that it cannot.

    >>> is_picklable({"lr": 0.1}), is_picklable(lambda: None)
    (True, False)
    """
    try:
        pickle.dumps(obj)
    except Exception:
        return False
    return True


def drop_unpicklable(owner: HyperparametersMixin) -> None:
    """Removes hyperparameters that no checkpoint could hold, with a warning; called on every rank when a run starts."""
    for name, value in list(owner.hparams.items()):
        if not is_picklable(value):
            rank_zero_warn(
                f"the hyperparameter {name!r} of {type(owner).__name__} cannot be pickled, and is dropped;"
                f" save_hyperparameters(ignore=[{name!r}])."
            )
            del owner.hparams[name]
