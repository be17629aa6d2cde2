"""Steps that `torch.compile` made faster: what is compiled in a run, with `self.log` in it, and back again."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.logging.deferred import DeferredLog
from lx.module import LightningModule

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


def read_compile(given: Any) -> Compiler | None:
    """The compiler that `Trainer(compile=...)` asks for: None, or a function that compiles a function.

    True is `torch.compile` as it is, a string its `mode`, a mapping its arguments; a function is the compiler itself.

    Raises `MisconfigurationException` for an argument that `torch.compile` does not have, `ArgumentTypeError` for anything else.

    >>> read_compile(False), read_compile({"backend": "eager"})(abs)(-1)
    (None, 1)
    """
    if given is None or given is False:
        return None
    if callable(given):
        return given  # type: ignore[no-any-return]
    options = {} if given is True else {"mode": given} if isinstance(given, str) else given
    if not isinstance(options, Mapping):
        raise ArgumentTypeError(
            f"compile={given!r}: it must be True, a mode such as 'max-autotune', a mapping of the arguments of torch.compile, or a function"
            " that compiles a function."
        )
    known = [name for name in inspect.signature(torch.compile).parameters if name != "model"]
    for name in options:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            raise MisconfigurationException(
                f"compile={given!r}: torch.compile has no argument {name!r}. "
                + (f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(known)}.")
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # which torch earns by what it imports here
            torch.compile(lambda: None, **options)  # nothing is compiled before the first call, but modes and backends are looked up
    except Exception as error:
        raise MisconfigurationException(f"compile={given!r}: torch.compile does not take that: {error}") from error
    return lambda function: torch.compile(function, **options)  # type: ignore[no-any-return, unused-ignore]


class Compilation:
    """What is compiled in one run: the steps; in training by hand, where the step runs backward, `forward` in its place.

    The compiler is that of the compiled model that was passed, or the module's own, or else the Trainer's.
    """

    def __init__(self, trainer: Any, module: LightningModule, model: Any) -> None:
        passed = model.dynamo_ctx if model is not module and inner(model) is module else None
        self._compiler: Compiler | None = passed or module.compiler or trainer.compile
        self._trainer = trainer
        self._module = module

    def of_step(self, name: str) -> Callable[..., Any]:
        """A step method as this run calls it: compiled where that is asked for, and with values logged after it if anything in it is.

        A compiler could not follow what logging does; the append of a value to a list it can, without a break in its graph.
        """
        step = getattr(self._module, name)
        compiler = None if name == "training_step" and not self._module.automatic_optimization else self._compiler
        if compiler is None and not compiles_itself(step, self._module):
            return step  # type: ignore[no-any-return]
        function = step if compiler is None else compiler(step)
        deferred = DeferredLog(self._trainer.log)

        def logged_after(*args: Any, **kwargs: Any) -> Any:
            try:
                with deferred:
                    output = function(*args, **kwargs)
            finally:
                calls = deferred.take()
            for call in calls:
                deferred.play(call)
            return output

        return logged_after

    @contextmanager
    def of_forward(self) -> Iterator[None]:
        """Within it `forward` is compiled, where the step cannot be."""
        module = self._module
        if self._compiler is None or module.automatic_optimization:
            yield
            return
        own = vars(module).get("forward")
        module.forward = self._compiler(module.forward)  # type: ignore[method-assign]
        try:
            yield
        finally:
            vars(module).pop("forward")
            if own is not None:
                module.forward = own  # type: ignore[method-assign]


def compiles_itself(step: Callable[..., Any], module: nn.Module) -> bool:
    """Whether somebody has compiled the step, or a module that may log in its forward."""
    if hasattr(step, "_torchdynamo_orig_callable"):
        return True
    return any(getattr(part, "_compiled_call_impl", None) is not None for part in module.modules() if isinstance(part, LightningModule))


def inner(model: Any) -> Any:
    """What `torch.compile` wrapped in a compiled module; anything else itself."""
    return getattr(model, "_orig_mod", model)  # it has no other name


def from_compiled(model: Any) -> LightningModule:
    """The LightningModule in what `torch.compile` made of it, with the compiler noted, so that a Trainer compiles its steps.

    `trainer.fit(torch.compile(model))` does this by itself. Raises `ValueError` for anything but a compiled LightningModule.

    >>> class Model(LightningModule):
    ...     pass
    >>> model = Model()
    >>> from_compiled(torch.compile(model, backend="eager")) is model, model.compiler is None
    (True, False)
    """
    module = inner(model)
    if module is model or not isinstance(module, LightningModule):
        raise ValueError(f"from_compiled takes a LightningModule that torch.compile compiled, not a {type(model).__name__}.")
    module.compiler = model.dynamo_ctx
    return module


def to_uncompiled(model: Any) -> LightningModule:
    """The LightningModule without its compiler, of one that was compiled or came from `from_compiled`.

    Raises `ValueError` for anything else.
    """
    module = inner(model)
    if not isinstance(module, LightningModule) or (module is model and module.compiler is None):
        raise ValueError(f"to_uncompiled takes a compiled LightningModule, and this {type(model).__name__} is not compiled.")
    module.compiler = None
    return module
