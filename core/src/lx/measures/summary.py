"""The layers, parameters, sizes and FLOPs of a model as data, and as a table of text; the summary callbacks render it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lx.kernel.errors import ArgumentValueError
from lx.measures.footprint import Footprint, footprint, kept_for_backward, local_size
from lx.rank_zero import rank_zero_warn

UNKNOWN_SIZE = "?"
OTHER_PARAMETERS = "other params"


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One row: a layer, its parameters (those of its own layers included) and, with an example input, what it computes.

    `params` counts elements over all devices, `local_params` those that this process holds; they differ under sharding. `in_size` and
    `out_size` are of the first call, as nested lists of shapes, and `"?"` for a layer that was not called. `flops` is of all calls.
    """

    name: str
    type: str
    params: int
    local_params: int
    training: bool
    in_size: Any = UNKNOWN_SIZE
    out_size: Any = UNKNOWN_SIZE
    flops: int = 0


class ModelSummary:
    """What a model is made of, down to `max_depth` levels of nesting (-1: all, 0: only the totals).

    `example_input` (default: `model.example_input_array`; a tensor, a tuple of positional or a dict of keyword arguments) is run through
    the model once, in eval mode and without gradients, inside of `context` (a precision's, say), to find sizes and FLOPs. Modes and random
    states are as before afterwards; lazy layers are initialised. Where that forward collects over processes, make the summary on all ranks.
    Parameters that several layers share count in each of them, and once in the totals; uninitialised ones count as 0.

    Raises `ValueError` for a `max_depth` below -1. An example input that does not go through the model gives a warning, and no sizes.

    >>> summary = ModelSummary(nn.Sequential(nn.Linear(8, 4), nn.ReLU()))
    >>> summary.layer_names, summary.param_nums, summary.total_parameters
    (['0', '1'], [36, 0], 36)
    """

    def __init__(
        self, model: nn.Module, max_depth: int = 1, *, example_input: Any = None, context: AbstractContextManager[Any] | None = None
    ) -> None:
        if not isinstance(max_depth, int) or max_depth < -1:
            raise ArgumentValueError(
                f"max_depth={max_depth!r}: give -1 for all layers, 0 for the totals alone, or how many levels to show."
            )
        self.max_depth = max_depth
        self.model = model
        self._shown = {name: module for name, module in model.named_modules() if name and (max_depth == -1 or name.count(".") < max_depth)}
        self.total_flops = 0
        self.flop_counts: dict[str, dict[Any, int]] = {name: {} for name in self._shown}
        self._sizes: dict[str, tuple[Any, Any]] = {}
        example = getattr(model, "example_input_array", None) if example_input is None else example_input
        self._forward: Callable[[], Any] | None = None
        if example is not None:
            self._run_example(example, context or nullcontext())
        self.has_example = self._forward is not None
        self._count()

    @property
    def named_modules(self) -> list[tuple[str, nn.Module]]:
        """The layers that are shown, each after its qualified name."""
        return list(self._shown.items())

    @property
    def layer_names(self) -> list[str]:
        """The qualified names of the layers."""
        return list(self._shown)

    @property
    def layer_types(self) -> list[str]:
        """The class names of the layers."""
        return [layer.type for layer in self.layers]

    @property
    def in_sizes(self) -> list[Any]:
        """The shapes of what went into the layers, `"?"` where that is not known."""
        return [layer.in_size for layer in self.layers]

    @property
    def out_sizes(self) -> list[Any]:
        """The shapes of what came out of the layers, `"?"` where that is not known."""
        return [layer.out_size for layer in self.layers]

    @property
    def param_nums(self) -> list[int]:
        """The numbers of parameters of the layers, their own layers included."""
        return [layer.params for layer in self.layers]

    @property
    def training_modes(self) -> list[bool]:
        """Whether each layer is in train mode."""
        return [layer.training for layer in self.layers]

    @property
    def total_training_modes(self) -> dict[str, int]:
        """How many modules of all depths, the model itself aside, are in `"train"` and in `"eval"` mode."""
        modes = [module.training for module in self.model.modules() if module is not self.model]
        return {"train": sum(modes), "eval": len(modes) - sum(modes)}

    def columns(self) -> list[tuple[str, list[str]]]:
        """The table as columns, each a heading and its cells; the last row is for parameters outside of the layers shown, if there are any.

        Params per Device is there when the model is sharded, FLOPs and the sizes when there was an example input.
        """
        layers = self.layers
        columns = [
            (" ", [str(index) for index in range(len(layers))]),
            ("Name", [layer.name for layer in layers]),
            ("Type", [layer.type for layer in layers]),
            ("Params", [human_count(layer.params) for layer in layers]),
            ("Params per Device", [human_count(layer.local_params) for layer in layers]),
            ("Mode", ["train" if layer.training else "eval" for layer in layers]),
            ("FLOPs", [human_count(layer.flops) for layer in layers]),
            ("In sizes", [str(layer.in_size) for layer in layers]),
            ("Out sizes", [str(layer.out_size) for layer in layers]),
        ]
        if self.other_parameters:
            other = {"Name": OTHER_PARAMETERS, "Params": human_count(self.other_parameters)}
            other["Params per Device"] = human_count(self.other_local_parameters)
            for heading, cells in columns:
                cells.append(other.get(heading, ""))
        hidden = {"FLOPs", "In sizes", "Out sizes"} if not self.has_example else set()
        if self.local_parameters == self.total_parameters:
            hidden.add("Params per Device")
        return [column for column in columns if column[0] not in hidden]

    def notes(self) -> list[str]:
        """Sentences about what the numbers do not say by themselves: parameters that are shared, or not initialised yet."""
        notes = []
        if self.shared_parameters:
            notes.append(f"{self.shared_parameters:,} parameters are shared by several layers; the totals count them once.")
        if self.uninitialized:
            notes.append(f"{self.uninitialized} lazy parameters are not initialised yet and count as 0.")
        return notes

    def memory(self, optimizers: Iterable[Optimizer] = (), *, context: AbstractContextManager[Any] | None = None) -> Footprint:
        """The memory that training takes on this device: of parameters, gradients, buffers and the states of `optimizers`.

        Where there is an example input, it is run through the model once more, now with what it keeps for a backward, to measure the
        activations; not of a sharded model, whose layers may wait for that backward.
        """
        activations = None
        if self._forward is not None and self.local_parameters == self.total_parameters:
            try:
                with _evaluating(self.model), _same_randomness(_device_of(self.model)), context or nullcontext():
                    activations = kept_for_backward(self.model, self._forward)
            except Exception as error:  # it may well be memory that does not suffice, for this example
                rank_zero_warn(f"the activations of {type(self.model).__name__} are not known: {type(error).__name__}: {error}")
        return footprint(self.model, optimizers, activations)

    def __str__(self) -> str:
        totals = totals_rows(self.total_parameters, self.trainable_parameters, self.model_size, self.total_training_modes, self.total_flops)
        return "\n".join([format_table(self.columns(), totals), *self.notes()])

    def _run_example(self, example: Any, context: AbstractContextManager[Any]) -> None:
        # Imported here: without an example input nothing is counted.
        from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

        device = _device_of(self.model)
        example = _to_device(example, device)
        args, kwargs = ((), example) if isinstance(example, Mapping) else (example if isinstance(example, tuple) else (example,), {})
        counter = FlopCounterMode(display=False)
        try:
            with _evaluating(self.model), _same_randomness(device), self._recorded_sizes(), torch.no_grad(), context, counter:
                self.model(*args, **kwargs)
        except Exception as error:
            rank_zero_warn(
                f"the summary of {type(self.model).__name__} has no sizes and no FLOPs, because its example_input_array does not go "
                f"through it: {type(error).__name__}: {error}",
                stacklevel=4,
            )
            self._sizes.clear()
            return
        self._forward = lambda: self.model(*args, **kwargs)
        self.total_flops = counter.get_total_flops()
        counts = counter.get_flop_counts()
        root = type(self.model).__name__
        self.flop_counts = {name: dict(counts.get(f"{root}.{name}", {})) for name in self._shown}

    @contextmanager
    def _recorded_sizes(self) -> Iterator[None]:
        handles = [
            module.register_forward_hook(self._recorder(name), with_kwargs=True)
            for name, module in self._shown.items()
            if not isinstance(module, torch.jit.ScriptModule)  # takes no hooks with keyword arguments
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = (args[0] if len(args) == 1 else args) if args else kwargs
            self._sizes.setdefault(name, (size_of(given), size_of(output)))

        return record

    def _count(self) -> None:
        parameters = list(self.model.parameters())
        shown = {id(parameter): parameter for module in self._shown.values() for parameter in module.parameters()}
        others = [parameter for parameter in parameters if id(parameter) not in shown]
        self.layers = [self._layer(name, module) for name, module in self._shown.items()]
        self.total_parameters = sum(map(whole_size, parameters))
        self.trainable_parameters = sum(whole_size(parameter) for parameter in parameters if parameter.requires_grad)
        self.local_parameters = sum(map(local_size, parameters))
        self.model_size = sum(whole_size(parameter) * parameter.dtype.itemsize for parameter in parameters) / 1e6
        self.total_layer_params = sum(map(whole_size, shown.values()))
        self.other_parameters = sum(map(whole_size, others))
        self.other_local_parameters = sum(map(local_size, others))
        tops = [layer.params for layer in self.layers if "." not in layer.name]
        self.shared_parameters = sum(tops) - self.total_layer_params if tops else 0
        self.uninitialized = sum(map(is_lazy, parameters))

    def _layer(self, name: str, module: nn.Module) -> LayerSummary:
        parameters = list(module.parameters())
        return LayerSummary(
            name,
            module.original_name if isinstance(module, torch.jit.ScriptModule) else type(module).__name__,
            sum(map(whole_size, parameters)),
            sum(map(local_size, parameters)),
            module.training,
            *self._sizes.get(name, (UNKNOWN_SIZE, UNKNOWN_SIZE)),
            flops=sum(self.flop_counts[name].values()),
        )


def summarize(model: nn.Module, max_depth: int = 1) -> ModelSummary:
    """The summary of a model; see `ModelSummary`.

    >>> summarize(nn.Linear(8, 4), max_depth=0).trainable_parameters
    36
    """
    return ModelSummary(model, max_depth=max_depth)


def totals_rows(
    total_parameters: int, trainable_parameters: int, model_size: float, total_training_modes: Mapping[str, int], total_flops: int
) -> list[tuple[str, str]]:
    """The rows under the table, each a value and what it is; `model_size` is in MB (10^6 bytes).

    >>> totals_rows(2379, 2375, 0.0095, {"train": 7, "eval": 0}, 0)[0]
    ('2,375', 'trainable parameters')
    """
    rows = [
        (f"{trainable_parameters:,}", "trainable parameters"),
        (f"{total_parameters - trainable_parameters:,}", "non-trainable parameters"),
        (f"{total_parameters:,}", "parameters in total"),
        (f"{model_size:,.3f}", "MB of parameters"),
        *((f"{number:,}", f"modules in {mode} mode") for mode, number in total_training_modes.items()),
    ]
    return [*rows, (human_count(total_flops), "FLOPs of a forward pass on the example input")] if total_flops else rows


def format_table(columns: list[tuple[str, list[str]]], totals: list[tuple[str, str]], width: int | None = None) -> str:
    """The columns side by side with the totals under them, as lines of text; numbers are aligned to the right.

    Where the lines would be longer than `width`, cells with names and sizes go on in further lines.
    """
    lines: list[str] = []
    if columns and any(columns[0][1]):  # with max_depth=0 there is no layer to show, and no table
        widths = [max(len(heading), *map(len, cells)) for heading, cells in columns]
        if width is not None:
            widths = _fitting(widths, [heading in NUMERIC for heading, _ in columns], width)
        rows = [[heading for heading, _ in columns], *map(list, zip(*(cells for _, cells in columns), strict=True))]
        blocks = [_row(row, widths, columns) for row in rows]
        rule = "-" * max(len(line) for block in blocks for line in block)
        lines = [*blocks[0], rule, *(line for block in blocks[1:] for line in block), rule]
    wide = max(len(value) for value, _ in totals)
    return "\n".join([*lines, *(f"{value:>{wide}}  {what}" for value, what in totals)])


def _fitting(widths: list[int], fixed: list[bool], width: int) -> list[int]:
    """The widths of columns, the widest of those that may be folded made narrower until all fit, or as narrow as can be read."""
    widths = list(widths)
    while sum(widths) + 3 * (len(widths) - 1) > width:
        widest = max((index for index in range(len(widths)) if not fixed[index]), key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _row(cells: list[str], widths: list[int], columns: list[tuple[str, list[str]]]) -> list[str]:
    folded = [wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
    aligned = [
        [f"{part:>{width}}" if heading in NUMERIC else f"{part:<{width}}" for part in parts]
        for parts, width, (heading, _) in zip(folded, widths, columns, strict=True)
    ]
    empty = [" " * width for width in widths]
    lines = range(max(map(len, aligned)))
    return [
        " | ".join(parts[line] if line < len(parts) else blank for parts, blank in zip(aligned, empty, strict=True)).rstrip()
        for line in lines
    ]


NARROWEST = 9
"""How narrow a column may be made."""

NUMERIC = frozenset({" ", "Params", "Params per Device", "FLOPs"})
"""The headings of the columns that are aligned to the right."""


def human_count(number: int) -> str:
    """A count with a unit of thousands.

    >>> human_count(123), human_count(1234), human_count(999_999), human_count(7_240_000_000)
    ('123', '1.2 K', '1.0 M', '7.2 B')
    """
    value = float(number)
    if number < 1000:
        return str(number)
    for unit in ("K", "M", "B", "T"):
        value /= 1000
        if value < 999.95 or unit == "T":  # 999.95 would be shown as 1000.0
            break
    return f"{value:,.1f} {unit}"


def size_of(data: Any) -> Any:
    """The shapes in what a layer takes or returns, nested as it is; `"?"` for what has no shape.

    >>> size_of(torch.zeros(2, 3)), size_of((torch.zeros(2), {"mask": torch.ones(4)}, None))
    ([2, 3], [[2], {'mask': [4]}, '?'])
    """
    if isinstance(data, Tensor):
        return list(data.shape)
    if isinstance(data, Mapping):
        return {key: size_of(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [size_of(value) for value in data]
    return UNKNOWN_SIZE


def whole_size(parameter: Tensor) -> int:
    """The number of elements of a parameter over all devices; 0 for one that is not initialised."""
    if is_lazy(parameter):
        return 0
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # DeepSpeed leaves an empty parameter where it took its elements away


def _device_of(model: nn.Module) -> torch.device:
    first = next(iter(model.parameters()), None)
    return torch.device("cpu") if first is None else first.device


def _to_device(data: Any, device: torch.device) -> Any:
    if isinstance(data, Tensor):
        return data.to(device)
    if isinstance(data, Mapping):
        return {key: _to_device(value, device) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(_to_device(value, device) for value in data))
    if isinstance(data, list | tuple):
        return type(data)(_to_device(value, device) for value in data)
    return data


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _same_randomness(device: torch.device) -> AbstractContextManager[Any]:
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
