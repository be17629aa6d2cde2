"""What Fabric hands back: modules, optimizers and loaders that know of their strategy and precision."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lx.batch import map_tensors, move_to
from lx.data.samplers import set_epoch
from lx.dataloader_iter import takes_iterator, until_the_end
from lx.interfaces.precision import Precision
from lx.interfaces.strategy import Strategy
from lx.kernel.errors import ArgumentTypeError

STEP_METHODS = ("training_step", "validation_step", "test_step", "predict_step")


def bind(method: Callable[..., Any], module: nn.Module, wrapped: nn.Module, precision: Precision) -> Callable[..., Any]:
    """A method of a module as it must be called: through the strategy's wrapper, in the precision's forward context.

    Where neither does anything this is the method itself, so that nothing is paid for.
    """
    bound = method if wrapped is module else through_forward(method, module, wrapped)
    if type(precision).forward_context is Precision.forward_context:
        return bound

    def in_context(*args: Any, **kwargs: Any) -> Any:
        with precision.forward_context():
            return bound(*args, **kwargs)

    return in_context


def bind_step(trainer: Any, name: str) -> Callable[..., Any]:
    """A step method as it must be called in this run: in the precision's context, through the wrapper where the strategy wraps it."""
    module = trainer.lightning_module
    training_only = trainer.strategy.capabilities.wraps_training and name != "training_step"
    step = trainer.run.compilation.of_step(name)
    bound = bind(step, module, module if training_only else trainer.model, trainer.precision_plugin)
    return until_the_end(bound) if takes_iterator(getattr(module, name)) else bound


def through_forward(method: Callable[..., Any], module: nn.Module, wrapped: nn.Module) -> Callable[..., Any]:
    """Calls a method by way of `wrapped.forward`, since wrappers such as DDP prepare the backward pass only there."""

    def call(*args: Any, **kwargs: Any) -> Any:
        own = vars(module).get("forward")

        def restore() -> None:
            if own is None:
                vars(module).pop("forward", None)
            else:
                module.forward = own

        def instead(*inner_args: Any, **inner_kwargs: Any) -> Any:
            restore()  # first: what the method itself calls is the module's own forward
            return method(*inner_args, **inner_kwargs)

        module.forward = instead
        try:
            return wrapped(*args, **kwargs)
        finally:
            restore()

    return call


class BackwardGuard:
    """Refuses `loss.backward()` on what came out of a Fabric's modules, where the precision scales losses.

    Inside of it, as in `fabric.backward`, gradients may flow.
    """

    def __init__(self, precision: Precision) -> None:
        self._precision = precision
        self._allowed = 0

    @property
    def guards(self) -> bool:
        """Whether backward must go through the precision; asked anew, since on its device a precision may turn out to scale nothing."""
        return self._precision.capabilities.scales_loss

    def __enter__(self) -> None:
        self._allowed += 1

    def __exit__(self, *error: object) -> None:
        self._allowed -= 1

    def watch(self, output: Any) -> Any:
        """The output, whose tensors ask for permission when a gradient comes to them."""
        return map_tensors(self._watched, output) if self.guards and torch.is_grad_enabled() else output

    def _watched(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.requires_grad:
            tensor.register_hook(self._check)
        return tensor

    def _check(self, gradient: torch.Tensor) -> None:
        if not self._allowed:
            raise RuntimeError(
                f"the precision {self._precision.precision!r} scales losses, and this backward pass goes past it; call"
                " fabric.backward(loss), or self.manual_backward(loss) in a LightningModule, instead of loss.backward()."
            )


class FabricModule(nn.Module):
    """A module under a strategy and a precision; attributes that it lacks are those of the original, `.module`.

    A step method of a LightningModule is called through the wrapper; of any other method, mark it with `mark_forward_method`.
    """

    def __init__(
        self, module: nn.Module, wrapped: nn.Module, strategy: Strategy, precision: Precision, guard: BackwardGuard | None = None
    ) -> None:
        super().__init__()
        self._original = module
        self._wrapped = wrapped
        self._strategy = strategy
        self._precision = precision
        self._guard = guard or BackwardGuard(Precision())
        self._forward_methods = {name for name in STEP_METHODS if hasattr(module, name)}

    @property
    def module(self) -> nn.Module:
        """The original module."""
        return self._original

    @property
    def wrapped(self) -> nn.Module:
        """The module as the strategy wrapped it."""
        return self._wrapped

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the wrapped module in this precision; inputs are converted, and outputs converted back."""
        args, kwargs = self._precision.convert_input(args), self._precision.convert_input(kwargs)
        with self._precision.forward_context():
            output = self._wrapped(*args, **kwargs)
        return self._guard.watch(
            self._precision.convert_output(output)
        )  # behind the context, which may have made another dtype the default

    def mark_forward_method(self, method: str | Callable[..., Any]) -> None:
        """Has a method run through the wrapper, like `forward`; raises `ValueError` for forward itself, `AttributeError` for none."""
        if not isinstance(method, str) and not callable(method):
            raise TypeError(f"mark_forward_method takes a method or its name, not {method!r}.")
        name = method if isinstance(method, str) else method.__name__
        if name == "forward":
            raise ValueError("forward is marked already.")
        if not callable(getattr(self._original, name, None)):
            raise AttributeError(f"{type(self._original).__name__} has no method {name!r} to mark.")
        self._forward_methods.add(name)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The original module's state, without the prefixes of wrappers."""
        return self._original.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Loads into the original module."""
        return self._original.load_state_dict(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            pass
        original: Any = super().__getattr__("_original")
        wrapped: Any = super().__getattr__("_wrapped")
        value = getattr(original, name)
        if name in self._forward_methods:
            bound = bind(value, original, wrapped, self._precision)
            return self._watching(bound) if self._guard.guards else bound
        if inspect.ismethod(value) and value.__self__ is original and self._wrapped is not original:
            return self._guarded(value)
        return value

    def _watching(self, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._guard.watch(method(*args, **kwargs))

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Refuses a method that runs submodules past the wrapper, whose gradients would not be reduced."""

        def call(*args: Any, **kwargs: Any) -> Any:
            def refuse(module: nn.Module, inputs: Any) -> None:
                raise RuntimeError(
                    f"{method.__name__}() runs {type(module).__name__} past the strategy's wrapper; call forward, or mark it first: "
                    f"model.mark_forward_method({method.__name__!r})."
                )

            handles = [child.register_forward_pre_hook(refuse) for child in self._original.modules() if child is not self._original]
            try:
                return method(*args, **kwargs)
            finally:
                for handle in handles:
                    handle.remove()

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__
        if "_forward_methods" not in held or name in held or name in held["_modules"] or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:  # the original's, also where it is new: its methods look for it there
            setattr(self._original, name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__:
            super().__delattr__(name)
        else:
            delattr(self._original, name)


def _of_original(name: str) -> property:
    """An attribute that is always the original's: loading a state replaces it there by a new object."""
    return property(
        lambda wrapper: getattr(wrapper.optimizer, name), lambda wrapper, value: setattr(wrapper.optimizer, name, value), doc=f"Its {name}."
    )


class FabricOptimizer:
    """An optimizer that steps through precision and callbacks; it is an instance of the original's class, too."""

    defaults, state, param_groups = _of_original("defaults"), _of_original("state"), _of_original("param_groups")

    def __init__(self, optimizer: Optimizer, strategy: Strategy, precision: Precision, called: Callable[..., None]) -> None:
        # Everything that the original holds is shared, so that isinstance and attribute access work as on the original.
        self.__dict__.update({name: value for name, value in vars(optimizer).items() if not hasattr(FabricOptimizer, name)})
        self.__class__ = type("Fabric" + type(optimizer).__name__, (type(self), type(optimizer)), {})
        self._optimizer = optimizer
        self._strategy = strategy
        self._precision = precision
        self._called = called

    @property
    def optimizer(self) -> Optimizer:
        """The original optimizer."""
        return self._optimizer

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps through the precision, then tells the callbacks `on_after_optimizer_step`."""
        output = self._precision.optimizer_step(self._optimizer, closure)
        self._called("on_after_optimizer_step", strategy=self._strategy, optimizer=self._optimizer)
        return output

    def state_dict(self) -> dict[str, Any]:
        """The original's state."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads into the original."""
        self._optimizer.load_state_dict(state_dict)


class FabricDataLoader:
    """A loader whose batches come on the device; `set_epoch` is called on samplers that have it, at each iteration."""

    def __init__(self, loader: Any, device: torch.device | None, non_blocking: bool = False) -> None:
        self.__dict__.update(vars(loader))
        self._loader = loader
        self._device = device
        self._non_blocking = non_blocking
        self._epoch = 0

    @property
    def loader(self) -> Any:
        """The original loader."""
        return self._loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        set_epoch(self._loader, self._epoch)
        self._epoch += 1
        for batch in self._loader:
            yield batch if self._device is None else move_to(batch, self._device, self._non_blocking)

    def __getattr__(self, name: str) -> Any:
        if "_loader" not in self.__dict__:  # while a copy is made
            raise AttributeError(name)
        return getattr(self._loader, name)


def unwrap(obj: Any) -> Any:
    """What Fabric wrapped; anything else as it is."""
    if isinstance(obj, FabricModule):
        return obj.module
    if isinstance(obj, FabricOptimizer):
        return obj.optimizer
    return obj.loader if isinstance(obj, FabricDataLoader) else obj


def is_wrapped(obj: Any) -> bool:
    """Whether an object came out of `Fabric.setup` or one of its kind.

    >>> is_wrapped(nn.Linear(1, 1))
    False
    """
    return isinstance(obj, FabricModule | FabricOptimizer | FabricDataLoader)


def require_original(obj: Any, expected: type[Any]) -> None:
    """Raises `ValueError` for what came out of `Fabric.setup` or one of its kind, and `ArgumentTypeError` for what cannot go into it.

    An optimizer need not be one of torch's: whatever has `param_groups` is one.
    """
    if is_wrapped(obj):
        raise ValueError(f"this {type(obj).__name__} was set up already; pass the original.")
    if not isinstance(obj, expected) and not (expected is Optimizer and hasattr(obj, "param_groups")):
        hint = f" Did you mean {obj.__name__}(...)?" if isinstance(obj, type) and issubclass(obj, expected) else ""
        raise ArgumentTypeError(f"{obj!r} cannot be set up as a {expected.__name__}: pass an object of {expected.__module__}.{hint}")
