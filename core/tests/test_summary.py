"""The data of a model summary, and its table of text."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from lx.measures.summary import ModelSummary, format_table, human_count, summarize


class Net(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(32, width), nn.BatchNorm1d(width), nn.Dropout(), nn.Linear(width, 2))
        self.head = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.zeros(5))

    def forward(self, x, shift=0.0):
        return {"logits": self.head(self.body(x)) + shift}


def with_example(net: nn.Module, example) -> nn.Module:
    net.example_input_array = example
    return net


def column(summary: ModelSummary, heading: str) -> list[str]:
    return dict(summary.columns())[heading]


@pytest.mark.parametrize(
    ("max_depth", "names"),
    [
        (0, []),
        (1, ["body", "head"]),
        (2, ["body", "body.0", "body.1", "body.2", "body.3", "head"]),
        (-1, ["body", "body.0", "body.1", "body.2", "body.3", "head"]),
    ],
)
def test_depth_limits_the_layers_and_never_the_totals(max_depth, names):
    summary = ModelSummary(Net(), max_depth=max_depth)
    assert summary.layer_names == names
    assert summary.total_parameters == sum(parameter.numel() for parameter in Net().parameters())
    assert summary.other_parameters == (summary.total_parameters if max_depth == 0 else 5)


@pytest.mark.parametrize("max_depth", [-2, "top", None])
def test_other_depths_are_refused(max_depth):
    with pytest.raises(ValueError, match=r"max_depth=.*: give -1 for all"):
        ModelSummary(Net(), max_depth=max_depth)


def test_rows_without_example():
    summary = summarize(Net())
    assert summary.layer_types == ["Sequential", "Linear"]
    assert summary.param_nums == [32 * 64 + 64 + 128 + 130, 9]
    assert summary.total_layer_params == sum(summary.param_nums)
    assert summary.in_sizes == summary.out_sizes == ["?", "?"]
    assert [heading for heading, _ in summary.columns()] == [" ", "Name", "Type", "Params", "Mode"]
    assert column(summary, "Name")[-1] == "other params"
    assert column(summary, "Params")[-1] == "5"


def test_trainable_size_and_modes():
    net = Net()
    net.head.requires_grad_(False)
    net.body.eval()
    net.half()
    summary = ModelSummary(net)
    assert summary.total_parameters - summary.trainable_parameters == 9
    assert summary.model_size == pytest.approx(summary.total_parameters * 2 / 1e6)
    assert summary.training_modes == [False, True]
    assert summary.total_training_modes == {"train": 1, "eval": 5}


@pytest.mark.parametrize("example", [torch.zeros(4, 32), (torch.zeros(4, 32), 1.0), {"x": torch.zeros(4, 32), "shift": torch.ones(3)}])
def test_example_gives_sizes_and_flops(example):
    summary = ModelSummary(with_example(Net(), example), max_depth=2)
    sizes = dict(zip(summary.layer_names, zip(summary.in_sizes, summary.out_sizes, strict=True), strict=True))
    assert sizes["body.0"] == ([4, 32], [4, 64])
    assert sizes["head"] == ([4, 2], [4, 3])
    flops = dict(zip(summary.layer_names, (layer.flops for layer in summary.layers), strict=True))
    assert flops["body.0"] == 2 * 4 * 32 * 64
    assert flops["body"] == flops["body.0"] + flops["body.3"]
    assert summary.total_flops == flops["body"] + flops["head"]
    assert sum(summary.flop_counts["head"].values()) == flops["head"]


def test_example_leaves_the_model_as_it_was():
    net = with_example(Net(), torch.randn(4, 32))
    net.head.eval()
    modes = [module.training for module in net.modules()]
    mean = net.body[1].running_mean.clone()
    state = torch.get_rng_state()

    class Noisy(nn.Module):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return x + torch.rand(())

    net.body.append(Noisy())
    ModelSummary(net, -1)
    assert [module.training for module in net.modules()] == [*modes[:-1], True, False]
    assert torch.equal(net.body[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in net.modules())


def test_example_runs_within_the_context():
    inside = []

    @contextmanager
    def context():
        inside.append("enter")
        yield
        inside.append("exit")

    class Spy(nn.Linear):
        def forward(self, x):
            inside.append("forward")
            return super().forward(x)

    ModelSummary(Spy(2, 2), example_input=torch.zeros(1, 2), context=context())
    assert inside == ["enter", "forward", "exit"]


def test_example_that_does_not_fit_warns_and_the_rest_is_there():
    net = with_example(Net(), torch.zeros(4, 7))
    net.train()
    with pytest.warns(UserWarning, match=r"summary of Net has no sizes .* example_input_array .*RuntimeError"):
        summary = ModelSummary(net)
    assert net.training
    assert summary.in_sizes == ["?", "?"]
    assert summary.total_flops == 0
    assert summary.total_parameters > 0
    assert "FLOPs" not in dict(summary.columns())


def test_layer_called_twice_keeps_the_first_sizes():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x)[:1])

    assert ModelSummary(Twice(), example_input=torch.zeros(3, 2)).in_sizes == [[3, 2]]


def test_lazy_parameters_count_once_they_are_initialised():
    net = nn.Sequential(nn.LazyLinear(4), nn.ReLU())
    summary = ModelSummary(net)
    assert summary.total_parameters == 0
    assert summary.uninitialized == 2
    assert "2 lazy parameters are not initialised" in str(summary)
    summary = ModelSummary(net, example_input=torch.zeros(1, 3))
    assert summary.param_nums == [16, 0]
    assert summary.uninitialized == 0


def test_shared_parameters_count_once_in_the_totals():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    net[2].weight = net[0].weight
    summary = ModelSummary(net)
    assert summary.param_nums == [16, 0, 16]
    assert summary.total_parameters == summary.total_layer_params == summary.shared_parameters == 16
    assert "16 parameters are shared by several layers" in str(summary)


def test_shared_module_is_one_row():
    layer = nn.Linear(2, 2)
    net = nn.ModuleDict({"a": layer, "b": layer})
    summary = ModelSummary(net)
    assert summary.layer_names == ["a"]
    assert summary.shared_parameters == 0


def test_sharded_parameters_are_counted_per_device():
    class Shard(nn.Parameter):
        def to_local(self):
            return self.detach()[:2]

    net = nn.Sequential(nn.Linear(4, 8, bias=False))
    net[0].weight = Shard(torch.zeros(8, 4))
    summary = ModelSummary(net)
    assert summary.total_parameters == 32
    assert summary.local_parameters == 8
    assert column(summary, "Params per Device") == ["8"]


def test_a_parameter_whose_elements_deepspeed_took_away_is_counted():
    net = nn.Sequential(nn.Linear(4, 8, bias=False))
    net[0].weight = nn.Parameter(torch.empty(0))
    net[0].weight.ds_numel, net[0].weight.ds_tensor = 32, torch.zeros(16)
    summary = ModelSummary(net)
    assert (summary.total_parameters, summary.local_parameters) == (32, 16)
    assert summary.memory().parameters == 64


def test_layers_come_with_their_names():
    net = Net()
    assert ModelSummary(net).named_modules == [("body", net.body), ("head", net.head)]


def test_text_is_folded_into_a_width():
    summary = ModelSummary(with_example(nn.ModuleDict({"a_rather_long_name_of_a_layer": Net()}), None), 2)
    wide, narrow = (format_table(summary.columns(), [("1", "all")], width).splitlines() for width in (None, 50))
    assert max(map(len, wide)) > 50 >= max(map(len, narrow))
    assert len(narrow) > len(wide)
    cells = [[part.strip() for part in line.split("|")] for line in narrow if "|" in line]
    assert "".join(row[1] for row in cells if row[1]).startswith("Namea_rather_long_name_of_a_layer")
    assert all(len(line) > 10 for line in format_table(summary.columns(), [("1", "all of it")], 5).splitlines()), "as narrow as can be read"


def test_text_is_aligned():
    lines = str(ModelSummary(with_example(Net(1000), torch.zeros(4, 32)))).splitlines()
    table = lines[: lines.index(next(line for line in lines if line.endswith("trainable parameters")))]
    bars = {tuple(index for index, char in enumerate(line) if char == "|") for line in table if "|" in line}
    assert len(bars) == 1
    assert lines[2].startswith("0 | body         | Sequential | 37.0 K | train |")
    assert " 37,016  trainable parameters" in lines
    assert "  0.148  MB of parameters" in lines
    assert all(line == line.rstrip() for line in lines)


def test_depth_zero_prints_totals_only():
    assert str(ModelSummary(Net(), 0)).splitlines()[0].endswith("  trainable parameters")


def test_scripted_layers():
    with pytest.warns(DeprecationWarning, match="jit"):
        scripted = torch.jit.script(nn.Linear(3, 3))
    summary = ModelSummary(nn.Sequential(scripted, nn.ReLU()), example_input=torch.zeros(1, 3))
    assert summary.layer_types == ["Linear", "ReLU"]
    assert summary.in_sizes == ["?", [1, 3]]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1.0 K"), (999_949, "999.9 K"), (999_950, "1.0 M"), (5 * 10**15, "5,000.0 T")]
)
def test_human_counts(number, text):
    assert human_count(number) == text
