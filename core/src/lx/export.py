"""A module as a file that runs without lx: ONNX, an exported program, a compiled package, TorchScript, TensorRT."""

import importlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lx.dispatch import overrides
from lx.hooks import DataHooks
from lx.kernel.errors import MisconfigurationException

_SWAPPED = ("_log", "_trainer", "log", "log_dict")
_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class _LxProperties:
    """The properties that lx gives a module, which TorchScript would compile with the rest of the class."""

    def __get__(self, instance: Any, cls: type[Any]) -> list[str]:
        ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "lx"]
        return sorted({name for base in ours for name, value in vars(base).items() if isinstance(value, property)})


class Exportable:
    """Gives a module `to_onnx`, `to_exported`, `to_torchscript` and `to_tensorrt`.

    Each exports what `forward` computes in eval mode without gradients. The sample that it is traced with is a tensor, a tuple of
    positional or a mapping of keyword arguments; it goes through the hooks of batch transfer to the device of the module's parameters.
    Afterwards every submodule is in the mode that it was in, and what `self.log` was called with in between is not logged. A file
    is in its place once it is whole, and its folder is made; a failing export leaves neither. Call them on one rank.
    """

    __jit_unused_properties__ = _LxProperties()

    def to_onnx(self, file_path: Any = None, input_sample: Any = None, **kwargs: Any) -> Any:
        """Exports to ONNX through `torch.export`, and returns the `torch.onnx.ONNXProgram`; writes it where a path is given.

        `file_path` may be an open binary file. The weights of a file go into `<file_path>.data` beside it, unless with
        `external_data=False`. `input_sample` defaults to `example_input_array`. `kwargs` go to `torch.onnx.export`, such as
        `dynamic_shapes`, `input_names` and `opset_version`; with `dynamo=False`, which torch deprecates, nothing is returned.

        Raises `ModuleNotFoundError` without onnx and onnxscript, `ValueError` without a sample, and what torch raises.
        """
        kwargs = {"dynamo": True, "verbose": False, **kwargs}
        _require("to_onnx", *(("onnx", "onnxscript") if kwargs["dynamo"] else ("onnx",)))
        given = _sample(self, input_sample, "to_onnx")
        _check_target(file_path)
        model: Any = self
        with _still(self, stand_in=not kwargs["dynamo"]), _torch_may_deprecate():
            args, inputs = _arguments(_transferred(self, given))
            if args and isinstance(args[-1], dict):
                args = (*args, {})  # torch.onnx takes a mapping at the end for the keyword arguments, so that there must be one more
            if not kwargs["dynamo"]:
                buffer: Any = io.BytesIO()
                torch.onnx.export(model, args, buffer, kwargs=inputs, **kwargs)
                if file_path is not None:
                    _write(file_path, lambda place: _save_bytes(buffer.getvalue(), place))
                return None
            program = torch.onnx.export(model, args, kwargs=inputs, **kwargs)
        if file_path is not None:
            _write(file_path, lambda place: _save_onnx(program, place, kwargs))
        return program

    def to_exported(
        self,
        file_path: Any = None,
        input_sample: Any = None,
        *,
        dynamic_shapes: Any = None,
        package: bool = False,
        inductor_configs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Exports with `torch.export`, and returns the `torch.export.ExportedProgram`; writes it where a path, `*.pt2`, is given.

        `dynamic_shapes` says which dimensions may differ from the sample's, as `torch.export.export` takes them. With `package`, the
        file holds machine code for this kind of device, compiled by AOTInductor with `inductor_configs`, instead of the program:
        `torch._inductor.aoti_load_package(path)` runs it. Else `torch.export.load(path).module()` does. `input_sample` defaults to
        `example_input_array`; `kwargs` go to `torch.export.export`.

        Raises `ValueError` without a sample, for a path with another suffix, and for a package without a path; and what torch raises.
        """
        if package and file_path is None:
            raise ValueError("to_exported(package=True): a compiled package is a file; pass file_path='model.pt2'.")
        if inductor_configs and not package:
            raise ValueError("to_exported(inductor_configs=...): these are for a compiled package; pass package=True, too.")
        if isinstance(file_path, str | os.PathLike) and Path(file_path).suffix != ".pt2":
            raise ValueError(f"to_exported(file_path={str(file_path)!r}): the file must end in .pt2, for torch to take it.")
        given = _sample(self, input_sample, "to_exported")
        _check_target(file_path)
        with _still(self), _torch_may_deprecate():
            args, inputs = _arguments(_transferred(self, given))
            program = torch.export.export(self, args, inputs, dynamic_shapes=dynamic_shapes, **kwargs)  # type: ignore[arg-type]
            if file_path is not None:
                _write(file_path, lambda place: _save_exported(program, place, package, inductor_configs))
        return program

    def to_torchscript(self, file_path: Any = None, method: str = "script", example_inputs: Any = None, **kwargs: Any) -> Any:
        """Compiles with TorchScript, and returns the `torch.jit.ScriptModule`; writes it where a path is given.

        torch deprecates TorchScript: `to_exported` is what comes after it. `method="script"` compiles the source of `forward`,
        `"trace"` records what it does with `example_inputs` (default: `example_input_array`). `_extra_files` go to `torch.jit.save`,
        other `kwargs` to `torch.jit.script` or `torch.jit.trace`. `self.log` in `forward` compiles to nothing.

        Raises `ValueError` for another method and for a trace without inputs, and what torch raises.
        """
        if method not in ("script", "trace"):
            raise ValueError(f"to_torchscript(method={method!r}): it must be 'script' or 'trace'.")
        given = _sample(self, example_inputs, "to_torchscript(method='trace')", "example_inputs") if method == "trace" else None
        _check_target(file_path)
        extra_files = kwargs.pop("_extra_files", None)
        with _still(self, for_torchscript=method == "script", stand_in=True), _torch_may_deprecate():
            if method == "script":
                script = torch.jit.script(self, **kwargs)
            else:
                args, inputs = _arguments(_transferred(self, given))
                how = {"example_kwarg_inputs": inputs} if inputs else {"example_inputs": args}
                script = torch.jit.trace(self, **how, **kwargs)
            if file_path is not None:
                _write(file_path, lambda place: torch.jit.save(script, place, _extra_files=extra_files))
        return script

    def to_tensorrt(
        self,
        file_path: Any = None,
        input_sample: Any = None,
        ir: str = "default",
        output_format: str = "exported_program",
        retrace: bool = False,
        default_device: torch.device | str = "cuda",
        **compile_kwargs: Any,
    ) -> Any:
        """Compiles with TensorRT, and returns what `torch_tensorrt.compile` makes; writes it where a path is given.

        A module that is not on CUDA is on `default_device` meanwhile. `ir` and `compile_kwargs` go to `torch_tensorrt.compile`,
        `output_format` (for `ir="ts"` it must be `"torchscript"`) and `retrace` to `torch_tensorrt.save`. `input_sample` defaults to
        `example_input_array`.

        Raises `ModuleNotFoundError` without torch_tensorrt, `MisconfigurationException` without CUDA, `ValueError` without a sample.
        """
        _require("to_tensorrt", "torch_tensorrt")
        if ir == "ts" and output_format != "torchscript":
            raise ValueError(f"to_tensorrt(ir='ts', output_format={output_format!r}): that ir is written as 'torchscript' alone.")
        home = _device(self)
        device = home if home.type == "cuda" else torch.device(default_device)
        if device.type != "cuda" or not torch.cuda.is_available():
            raise MisconfigurationException(
                f"to_tensorrt: TensorRT runs on CUDA; the module is on {str(home)!r}, default_device is {str(default_device)!r}, and CUDA"
                f" is {'' if torch.cuda.is_available() else 'not '}available here. to_exported(package=True) compiles for other devices."
            )
        given = _sample(self, input_sample, "to_tensorrt")
        _check_target(file_path)
        tensorrt = importlib.import_module("torch_tensorrt")
        with _still(self), _moved(self, home, device):
            sample = _transferred(self, given)
            args, inputs = _arguments(sample)
            # Keyword arguments are for the ir that goes through torch.export; the others know no such parameter.
            named = {"kwarg_inputs": inputs} if inputs else {}
            compiled = tensorrt.compile(module=self, ir=ir, inputs=list(args), **named, **compile_kwargs)
            if file_path is not None:
                how: dict[str, Any] = {"output_format": output_format, "retrace": retrace, "inputs": list(args), **named}
                _write(file_path, lambda place: tensorrt.save(compiled, place, **how))
        return compiled


# -- what every export needs ---------------------------------------------------------------------------------------------


def _require(what: str, *packages: str) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            names = " ".join(name.replace("_", "-") for name in packages)
            raise ModuleNotFoundError(f"{what} needs {package}, which is not installed: `pip install {names}`.", name=package) from error


def _sample(module: Any, given: Any, what: str, argument: str = "input_sample") -> Any:
    sample = module.example_input_array if given is None else given
    if sample is None:
        raise ValueError(
            f"{what} runs {type(module).__name__} once to see what it computes: pass {argument}=..., or set"
            " self.example_input_array in __init__."
        )
    return sample


def _arguments(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for `forward`."""
    if isinstance(sample, Mapping):
        return (), dict(sample)
    return (sample if isinstance(sample, tuple) else (sample,)), {}


def _transferred(module: Any, sample: Any) -> Any:
    """The sample on the module's device, through the hooks of batch transfer; those of the run's data module win, as in a run."""
    trainer = vars(module)["_trainer"]
    datamodule = getattr(trainer, "datamodule", None)
    before, move, after = (
        getattr(datamodule if datamodule is not None and overrides(datamodule, name, DataHooks) else module, name) for name in _TRANSFER
    )
    return after(move(before(sample, 0), _device(module), 0), 0)


def _device(module: Any) -> torch.device:
    """Where the parameters are; during a run and after it, that may be elsewhere than `module.device` says."""
    first: Tensor | None = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if first is None else first.device


@contextmanager
def _moved(module: Any, home: torch.device, device: torch.device) -> Iterator[None]:
    try:
        module.to(device)
        yield
    finally:
        module.to(home)


@contextmanager
def _still(module: Any, *, for_torchscript: bool = False, stand_in: bool = False) -> Iterator[None]:
    """Within it, a module and its parts are in eval mode, compute no gradients, and log nothing.

    `stand_in` answers where there is no trainer: torch.jit asks a module for each of its attributes, and those that need a trainer
    would raise. `for_torchscript` puts functions that TorchScript can compile in the place of the methods that log.
    """
    parts = [part for part in module.modules() if isinstance(part, Exportable)]
    modes = [(part, part.training) for part in module.modules()]
    before = [(vars(part), {name: value for name, value in vars(part).items() if name in _SWAPPED}) for part in parts]
    nowhere = _no_trainer(_device(module)) if stand_in else None
    module.eval()
    for part in parts:
        vars(part)["_log"] = _Silence
        if vars(part)["_trainer"] is None:
            vars(part)["_trainer"] = nowhere
        if for_torchscript:
            vars(part).update(log=_log_nothing, log_dict=_log_nothing_of)
    try:
        with torch.no_grad():
            yield
    finally:
        for now, then in before:
            for name in _SWAPPED:
                now.pop(name, None)
            now.update(then)
        for part, training in modes:
            part.training = training


class _Silence:
    """What a module logs to while it is exported."""

    @staticmethod
    def log(*args: Any, **kwargs: Any) -> None:
        """Logs nothing."""


def _no_trainer(device: torch.device) -> Any:
    ranks = {"global_rank": 0, "local_rank": 0}
    return SimpleNamespace(
        strategy=SimpleNamespace(root_device=device), current_epoch=0, global_step=0, logger=None, loggers=[], print=print, **ranks
    )


def _log_nothing(
    name: str,
    value: Any,
    prog_bar: bool = False,
    logger: bool | None = None,
    on_step: bool | None = None,
    on_epoch: bool | None = None,
    reduce_fx: str = "mean",
    enable_graph: bool = False,
    sync_dist: bool = False,
    sync_dist_group: Any = None,
    add_dataloader_idx: bool = True,
    batch_size: int | None = None,
    metric_attribute: str | None = None,
    rank_zero_only: bool = False,
) -> None:
    """What TorchScript compiles in the place of `self.log`; it reads the signature, and knows neither `*` nor `**`."""


def _log_nothing_of(
    dictionary: dict[str, Tensor],
    prog_bar: bool = False,
    logger: bool | None = None,
    on_step: bool | None = None,
    on_epoch: bool | None = None,
    reduce_fx: str = "mean",
    enable_graph: bool = False,
    sync_dist: bool = False,
    sync_dist_group: Any = None,
    add_dataloader_idx: bool = True,
    batch_size: int | None = None,
    metric_attribute: str | None = None,
    rank_zero_only: bool = False,
) -> None:
    """What TorchScript compiles in the place of `self.log_dict`."""


@contextmanager
def _torch_may_deprecate() -> Iterator[None]:
    """Within it, deprecations are not reported that this file and torch themselves run into, and users can do nothing about."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            # copyreg is where a warning of torch's tree specifications, while it copies them, says that it comes from.
            warnings.filterwarnings("ignore", category=category, module=rf"(torch\b|onnx|copyreg$|{re.escape(__name__)}$)")
        yield


# -- files -----------------------------------------------------------------------------------------------------------------


def _check_target(file_path: Any) -> None:
    if file_path is not None and not hasattr(file_path, "write") and Path(file_path).is_dir():
        raise IsADirectoryError(f"file_path={str(file_path)!r} is a folder; pass the path of a file.")


def _write(file_path: Any, save: Callable[[Any], None]) -> None:
    """Lets `save` write into an open file, or into a new folder beside the path, from where its files move to their places."""
    if hasattr(file_path, "write"):
        save(file_path)
        return
    target = Path(file_path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        save(Path(folder) / target.name)  # under its own name, which formats write into their files
        for written in sorted(Path(folder).iterdir(), key=lambda path: path.name == target.name):  # the file that names the others last
            os.replace(written, target.with_name(written.name))


def _save_bytes(content: bytes, place: Any) -> None:
    if hasattr(place, "write"):
        place.write(content)
    else:
        Path(place).write_bytes(content)


def _save_onnx(program: Any, place: Any, options: Mapping[str, Any]) -> None:
    if hasattr(place, "write"):
        _save_bytes(program.model_proto.SerializeToString(), place)
        return
    program.save(
        place,
        include_initializers=options.get("export_params", True),
        keep_initializers_as_inputs=options.get("keep_initializers_as_inputs", False),
        external_data=options.get("external_data", True),
    )


def _save_exported(program: Any, place: Any, package: bool, inductor_configs: Mapping[str, Any] | None) -> None:
    if not package:
        torch.export.save(program, place)
        return
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 -- compilers are for those who compile

    place = place if hasattr(place, "write") else os.fspath(place)
    aoti_compile_and_package(program, package_path=place, inductor_configs=dict(inductor_configs or {}))
