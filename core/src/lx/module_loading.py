"""`load_from_checkpoint`: an object made again from the hyperparameters and the state in a file."""

import csv
import inspect
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from lx.checkpoints.protocol import CONFIGURATIONS, check, check_weights_only, read, restore_datamodule
from lx.hparams.configurations import is_configuration, unpack
from lx.hparams.mixin import AttributeDict
from lx.kernel import default_manager
from lx.kernel.errors import ArgumentTypeError, CheckpointCorruptError, CheckpointError, CheckpointMismatchError
from lx.rank_zero import rank_zero_warn
from lx.urls import local_or_url

T = TypeVar("T")

INSTANTIATORS: dict[str, Callable[[type[Any], dict[str, Any]], Any] | None] = {
    "lightning.pytorch.cli.instantiate_module": None,
    "pytorch_lightning.cli.instantiate_module": None,
}
"""What a checkpoint may name as the function that makes its object, with the one that is called instead; None: the class itself is."""


class _OnClass:
    """A method that works on the class alone; called on an instance it raises, since the instance would stay as it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, cls: type[Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if instance is not None:
                raise TypeError(
                    f"call load_from_checkpoint on the class, {cls.__name__}.load_from_checkpoint(...): it returns a new object."
                )
            return self._function(cls, *args, **kwargs)

        return call


def _load_from_checkpoint(
    cls: type[T],
    checkpoint_path: Any,
    map_location: Any = None,
    hparams_file: str | Path | None = None,
    strict: bool | None = None,
    weights_only: bool | None = None,
    **kwargs: Any,
) -> T:
    """A new object from a checkpoint: made with the hyperparameters in it, then given the state in it.

    `map_location` says where tensors go (default: where they were saved if that device is here, else the CPU); `hparams_file` (.csv, .yaml)
    replaces the hyperparameters in the file; `kwargs` rank over both; only arguments that `__init__` accepts are passed, and a warning
    names those in `kwargs` that it does not. Hyperparameters that were saved as one container are passed as that argument. `strict`
    (default: the module's `strict_loading`) demands that all weights fit. Raises `FileNotFoundError`, `TypeError` on an instance,
    `ValueError` for a `strict` that contradicts `strict_loading`, `CheckpointMismatchError` for weights that do not fit.
    """
    if strict is not None and not isinstance(strict, bool):
        raise ArgumentTypeError(f"strict={strict!r}: it must be True, False or None, which is the module's strict_loading.")
    is_module = issubclass(cls, torch.nn.Module)
    checkpoint = read_checkpoint(checkpoint_path, map_location or _where_possible, weights_only)
    check(checkpoint, checkpoint_path, resumes_fit=False, holds_weights=is_module)
    prefix = "" if is_module else "datamodule_"
    hparams = read_hparams(hparams_file) if hparams_file is not None else checkpoint.get(f"{prefix}hyper_parameters") or {}
    if hparams_file is None:
        hparams = unpack(hparams, checkpoint.get(f"{prefix}{CONFIGURATIONS}") or [])
    cls, make, hparams = _choose_class(cls, hparams)
    obj: Any = make(cls, _arguments(cls, checkpoint.get(f"{prefix}hparams_name"), hparams, kwargs))
    if not isinstance(obj, torch.nn.Module):
        restore_datamodule(obj, checkpoint)
        return obj  # type: ignore[no-any-return]
    return _load_module(obj, checkpoint, strict)  # type: ignore[no-any-return]


def _choose_class(cls: type[T], hparams: Any) -> tuple[type[T], Callable[..., Any], Any]:
    """The class that the command line noted in the file, if it did, what makes an object of it, and the hyperparameters without these.

    A file must not say which code is run: the class must be a subclass that is imported already, and what makes it be known.
    """
    noted = {name: hparams[name] for name in ("_class_path", "_instantiator") if name in hparams}
    if not noted:
        return cls, _make, hparams
    hparams = {name: value for name, value in hparams.items() if name not in noted}
    path, maker = noted.get("_class_path"), noted.get("_instantiator")
    if maker is None:
        return cls, _make, hparams
    if maker not in INSTANTIATORS:
        raise ValueError(
            f"the checkpoint wants {maker!r} to make the object, which lx does not know, and does not import since a file could name any"
            f" code. If you trust it, add it to lx.module_loading.INSTANTIATORS; known are {', '.join(INSTANTIATORS)}."
        )
    found = next((one for one in (cls, *_subclasses(cls)) if path in (None, f"{one.__module__}.{one.__qualname__}")), None)
    if found is None:
        raise ValueError(
            f"the checkpoint is of the class {path!r}, which is no subclass of {cls.__name__} that has been imported; import its module"
            f" first, or call load_from_checkpoint on another class."
        )
    return found, INSTANTIATORS[maker] or _make, hparams


def _make(cls: type[T], arguments: dict[str, Any]) -> T:
    return cls(**arguments)


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for one in cls.__subclasses__():
        yield one
        yield from _subclasses(one)


class LoadableFromCheckpoint:
    """Gives modules and data modules `load_from_checkpoint`."""

    load_from_checkpoint = _OnClass(_load_from_checkpoint)


def _load_module(module: Any, checkpoint: dict[str, Any], strict: bool | None) -> Any:
    module.configure_model()
    module.on_load_checkpoint(checkpoint)
    if strict is not None and module.__dict__.get("_strict_loading") not in (None, strict):
        raise ValueError(
            f"strict={strict} contradicts strict_loading={module.strict_loading} of {type(module).__name__}; leave one of the two out."
        )
    strict = module.strict_loading if strict is None else strict
    state = checkpoint["state_dict"]
    try:
        missed = module.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        raise CheckpointMismatchError(f"the weights in the checkpoint do not fit {type(module).__name__}: {error}") from error
    for what, keys in (("lacks", missed.missing_keys), ("holds, beside what the model has,", missed.unexpected_keys)) if missed else ():
        if keys:
            rank_zero_warn(f"the checkpoint {what} {', '.join(keys)}; strict=False lets this pass.")
    first = next((tensor for tensor in state.values() if isinstance(tensor, torch.Tensor)), None)
    return module if first is None else module.to(first.device)


def read_checkpoint(path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
    """A checkpoint from a path, by the checkpoint I/O that `checkpoint_io_for` finds, or from an open binary file, in the layout of today.

    Raises `ArgumentTypeError` for what is neither, or for a `weights_only` that is no bool, and what the checkpoint I/O raises.
    """
    check_weights_only(weights_only)
    if hasattr(path, "read"):
        return read(_load_open_file, path, map_location, weights_only)  # type: ignore[no-any-return]
    if not isinstance(path, str | os.PathLike):
        raise ArgumentTypeError(f"checkpoint_path={path!r}: it must be a path, or a file that was opened with mode 'rb'.")
    if not os.fspath(path):
        raise ValueError("checkpoint_path='': the path is empty, as best_model_path of a callback is while nothing has been saved.")
    return read(checkpoint_io_for(path).load_checkpoint, path, map_location, weights_only)  # type: ignore[no-any-return]


def checkpoint_io_for(path: str | os.PathLike[str]) -> Any:
    """The checkpoint I/O that recognises a local file, for programs that are given any; if none does, the one that is the default.

    Raises `NotInstalledError` if that is needed, and there is none.
    """
    formats, place = _formats(), local_or_url(path)
    found = formats.recognising(place) if isinstance(place, Path) and place.exists() else None
    return (found or formats.default())[1]


def installed_checkpoint_io(**arguments: Any) -> Any:
    """The checkpoint I/O that is used where no Trainer chooses one, made with `arguments`; raises `NotInstalledError` if there is none."""
    return _formats().default(**arguments)[1]


def _formats() -> Any:
    from lx.checkpoints.formats import Formats  # noqa: PLC0415 -- a program that trains need not pay for it

    return Formats(default_manager().registry)


def _load_open_file(file: Any, map_location: Any, weights_only: bool | None) -> Any:
    try:
        return torch.load(file, map_location=map_location, weights_only=True if weights_only is None else weights_only)
    except (AssertionError, EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        if "nsupported global" in str(error):
            raise CheckpointError(f"the open file holds more than tensors and plain values: {error}") from error
        raise CheckpointCorruptError(f"the open file {file!r} holds no checkpoint: {str(error).partition(chr(10))[0]}") from error


def _where_possible(storage: Any, location: str) -> Any:
    """Tensors go to the device on which they were saved, if this machine has it, else stay on the CPU."""
    try:
        return torch.serialization.default_restore_location(storage, location)
    except (RuntimeError, AssertionError):
        return storage


def _arguments(cls: type[Any], container: str | None, hparams: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What `__init__` is called with; `container` is the argument, if there is such a one, that takes all hyperparameters at once."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY)
    }
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if container is not None and container in parameters and parameters[container].kind is not inspect.Parameter.VAR_KEYWORD:
        inner = {name: value for name, value in kwargs.items() if name in hparams or not (open_ended or name in parameters)}
        outer = {name: value for name, value in kwargs.items() if name in parameters or name not in inner}
        if is_configuration(hparams):
            hparams.update(inner)
            return {container: hparams, **outer}
        return {container: AttributeDict({**hparams, **inner}), **outer}
    if open_ended:
        return {**hparams, **kwargs}
    strange = [name for name in kwargs if name not in parameters]
    if strange:
        rank_zero_warn(
            f"{cls.__name__}.load_from_checkpoint: __init__ takes no {', '.join(strange)}, which is left out; it takes"
            f" {', '.join(parameters) or 'no arguments'}."
        )
    return {name: value for name, value in {**hparams, **kwargs}.items() if name in parameters}


def read_hparams(path: str | Path) -> dict[str, Any]:
    """Hyperparameters from a `.csv` (columns key and value) or a `.yaml` file, as loggers write them; `ValueError` for another suffix."""
    suffix = Path(path).suffix.lower()
    if suffix in (".yaml", ".yml"):
        try:
            import yaml  # type: ignore[import-untyped]  # noqa: PLC0415 -- a dependency for this one use only
        except ImportError:
            raise ModuleNotFoundError(f"hparams_file={str(path)!r} is YAML; `pip install pyyaml` lets it be read.") from None
        return dict(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})
    if suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return {row["key"]: _literal(row["value"]) for row in csv.DictReader(file)}
    raise ValueError(f"hparams_file={str(path)!r}: it must end in .csv, .yml or .yaml.")


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)
