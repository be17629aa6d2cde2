"""What `configure_optimizers` may return, and what of it cannot work."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR, ReduceLROnPlateau, StepLR

from lx import LightningModule
from lx.kernel.errors import MisconfigurationException
from lx.optimizers import LightningOptimizer, LRSchedulerConfig, read_configuration


def sgd(lr: float = 0.1) -> SGD:
    return SGD([nn.Parameter(torch.ones(2))], lr=lr)


def read(configured: Any, automatic: bool = True, steps_schedulers: bool = False) -> tuple[list[Any], list[LRSchedulerConfig]]:
    return read_configuration(configured, automatic=automatic, steps_schedulers=steps_schedulers)


# -- forms -------------------------------------------------------------------------------------------------------------------

ONE, TWO = sgd(), sgd()
STEP, EXPONENTIAL = StepLR(ONE, 1), ExponentialLR(TWO, 0.9)

FORMS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "an optimizer": (ONE, [ONE], []),
    "a list of one": ([ONE], [ONE], []),
    "a list of two": ([ONE, TWO], [ONE, TWO], []),
    "a tuple of two": ((ONE, TWO), [ONE, TWO], []),
    "two lists": (([ONE, TWO], [STEP, EXPONENTIAL]), [ONE, TWO], [STEP, EXPONENTIAL]),
    "a list of two lists": ([[ONE], [STEP]], [ONE], [STEP]),
    "no schedulers": (([ONE], []), [ONE], []),
    "mappings of schedulers": (([ONE], [{"scheduler": STEP}]), [ONE], [STEP]),
    "a mapping": ({"optimizer": ONE}, [ONE], []),
    "a mapping with a scheduler": ({"optimizer": ONE, "lr_scheduler": STEP}, [ONE], [STEP]),
    "a mapping with None": ({"optimizer": ONE, "lr_scheduler": None}, [ONE], []),
    "a mapping of a mapping": ({"optimizer": ONE, "lr_scheduler": {"scheduler": STEP}}, [ONE], [STEP]),
    "a list of mappings": (
        [{"optimizer": ONE, "lr_scheduler": STEP}, {"optimizer": TWO, "lr_scheduler": {"scheduler": EXPONENTIAL}}],
        [ONE, TWO],
        [STEP, EXPONENTIAL],
    ),
    "a list of one mapping": ([{"optimizer": ONE, "lr_scheduler": STEP}], [ONE], [STEP]),
    "a list of two mappings, one without": (
        [{"optimizer": ONE}, {"optimizer": TWO, "lr_scheduler": EXPONENTIAL}],
        [ONE, TWO],
        [EXPONENTIAL],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    configured, optimizers, schedulers = FORMS[form]
    found, configs = read(configured)
    assert [id(one) for one in found] == [id(one) for one in optimizers]
    assert [id(config.scheduler) for config in configs] == [id(one) for one in schedulers]


def test_none_runs_without_an_optimizer() -> None:
    with pytest.warns(UserWarning, match="configure_optimizers returned None"):
        assert read(None) == ([], [])


OTHER_FORMS = [
    "adam",
    3,
    SGD,
    [],
    (),
    [ONE, "x"],
    [ONE, STEP],
    (ONE, STEP),
    (ONE, [STEP]),
    ([STEP], [ONE]),
    [ONE, {"optimizer": TWO}],
    [None],
    STEP,
    ([ONE], [STEP], []),
    ["adam", "sgd"],
]


@pytest.mark.parametrize("configured", OTHER_FORMS, ids=range(len(OTHER_FORMS)))
def test_other_forms_are_refused_with_those_that_are_accepted(configured: Any) -> None:
    with pytest.raises(
        MisconfigurationException, match=r"configure_optimizers returned .*; it must return an optimizer; a list of optimizers"
    ):
        read(configured)


@pytest.mark.parametrize("configured", [{}, {"lr_scheduler": STEP}, {"optimizer": None}, {"optimizer": "adam"}, {"optimizer": [ONE]}])
def test_a_mapping_needs_an_optimizer(configured: Any) -> None:
    with pytest.raises(MisconfigurationException, match="a mapping whose 'optimizer' is"):
        read(configured)


def test_a_scheduler_for_an_optimizer_in_a_list_of_mappings_needs_its_own() -> None:
    with pytest.raises(MisconfigurationException, match="a mapping whose 'optimizer' is None"):
        read([{"optimizer": ONE}, {"lr_scheduler": STEP}])


def test_extra_keys_of_the_outer_mapping_are_named() -> None:
    with pytest.warns(UserWarning, match=r"the keys \['scheduler', 'interval'\] mean nothing here"):
        optimizers, configs = read({"optimizer": ONE, "scheduler": STEP, "interval": "step"})
    assert (optimizers, configs) == ([ONE], [])


# -- schedulers --------------------------------------------------------------------------------------------------------------


def test_defaults_of_a_scheduler() -> None:
    _, (config,) = read(([ONE], [STEP]))
    assert config == LRSchedulerConfig(STEP, name=None, interval="epoch", frequency=1, reduce_on_plateau=False, monitor=None, strict=True)


def test_every_key_of_a_scheduler_is_taken_up() -> None:
    given = {
        "scheduler": STEP,
        "name": "mine",
        "interval": "step",
        "frequency": 3,
        "reduce_on_plateau": True,
        "monitor": "loss",
        "strict": False,
    }
    _, (config,) = read({"optimizer": ONE, "lr_scheduler": given})
    assert {name: getattr(config, name) for name in given} == given


def test_unknown_keys_of_a_scheduler_are_named_and_dropped() -> None:
    with pytest.warns(UserWarning, match=r"the keys \['intervall'\], which are left out; known are scheduler, name, interval"):
        _, (config,) = read({"optimizer": ONE, "lr_scheduler": {"scheduler": STEP, "intervall": "step"}})
    assert config.interval == "epoch"


def test_a_plateau_scheduler_is_known_as_one() -> None:
    plateau = ReduceLROnPlateau(ONE)
    _, (config,) = read({"optimizer": ONE, "lr_scheduler": plateau, "monitor": "val_loss"})
    assert (config.reduce_on_plateau, config.monitor) == (True, "val_loss")
    _, (config,) = read({"optimizer": ONE, "lr_scheduler": {"scheduler": plateau, "monitor": "inner"}, "monitor": "outer"})
    assert config.monitor == "inner"


def test_monitors_in_a_list_of_mappings_stay_with_their_schedulers() -> None:
    _, configs = read(
        [
            {"optimizer": ONE, "lr_scheduler": ReduceLROnPlateau(ONE), "monitor": "a"},
            {"optimizer": TWO, "lr_scheduler": {"scheduler": ReduceLROnPlateau(TWO)}, "monitor": "b"},
        ]
    )
    assert [config.monitor for config in configs] == ["a", "b"]


class Odd:
    """A scheduler of another kind: it steps with an argument of its own."""

    def __init__(self, optimizer: Any = None) -> None:
        self.optimizer = optimizer

    def step(self, what: int) -> None:
        """Takes a step."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""


class Stateless:
    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        """Takes a step."""


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no scheduler": (lambda: {"interval": "step"}, MisconfigurationException, "lacks the key 'scheduler'"),
    "interval": (
        lambda: {"scheduler": STEP, "interval": "batch"},
        MisconfigurationException,
        "interval='batch' of StepLR; it must be 'step' or",
    ),
    "frequency 0": (
        lambda: {"scheduler": STEP, "frequency": 0},
        MisconfigurationException,
        "frequency=0 of StepLR; it must be an integer, 1",
    ),
    "frequency 1.5": (lambda: {"scheduler": STEP, "frequency": 1.5}, MisconfigurationException, "frequency=1.5"),
    "frequency True": (lambda: {"scheduler": STEP, "frequency": True}, MisconfigurationException, "frequency=True"),
    "plateau": (lambda: ReduceLROnPlateau(ONE), MisconfigurationException, "ReduceLROnPlateau needs the name of the metric to watch"),
    "plateau by key": (
        lambda: {"scheduler": STEP, "reduce_on_plateau": True},
        MisconfigurationException,
        "StepLR needs the name of the metric",
    ),
    "foreign": (lambda: StepLR(sgd(), 1), MisconfigurationException, "StepLR drives an optimizer that was not returned"),
    "odd": (lambda: Odd(ONE), MisconfigurationException, r"Odd is no scheduler of torch's kind; override lr_scheduler_step"),
    "stateless": (lambda: Stateless(ONE), TypeError, "Stateless must have state_dict and load_state_dict"),
    "a string": (lambda: "cosine", TypeError, "state_dict and load_state_dict"),
    "a class": (lambda: StepLR, MisconfigurationException, "StepLR"),
    "an optimizer": (lambda: TWO, MisconfigurationException, "SGD is no scheduler"),
}


@pytest.mark.parametrize("case", BAD)
def test_schedulers_that_cannot_work(case: str) -> None:
    make, error, message = BAD[case]
    with pytest.raises(error, match=message):
        read({"optimizer": ONE, "lr_scheduler": make()})
    with pytest.raises(error, match=message):
        read(([ONE], [make()]))


def test_an_odd_scheduler_is_for_who_steps_it() -> None:
    odd = Odd(ONE)
    assert read(([ONE], [odd]), steps_schedulers=True)[1][0].scheduler is odd
    assert read(([ONE], [odd]), automatic=False)[1][0].scheduler is odd


def test_one_cycle_by_epoch_is_warned_of() -> None:
    one_cycle = OneCycleLR(ONE, 0.1, total_steps=10)
    with pytest.warns(UserWarning, match="OneCycleLR moves every epoch"):
        read(([ONE], [one_cycle]))
    read(([ONE], [{"scheduler": one_cycle, "interval": "step"}]))


@pytest.mark.parametrize("key", ["reduce_on_plateau", "monitor", "strict"])
def test_manual_optimization_keeps_interval_and_frequency_and_warns_of_the_rest(key: str) -> None:
    with pytest.warns(UserWarning, match="with manual optimization you step the schedulers"):
        _, (config,) = read(([ONE], [{"scheduler": STEP, "interval": "step", "frequency": 4, key: "x"}]), automatic=False)
    assert (config.interval, config.frequency) == ("step", 4)


def test_manual_optimization_needs_no_monitor() -> None:
    _, (config,) = read(([ONE], [ReduceLROnPlateau(ONE)]), automatic=False)
    assert config.monitor is None


# -- the optimizer that a module gets ------------------------------------------------------------------------------------------


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(1, 1), nn.Linear(1, 1)


def test_it_is_of_the_class_and_shares_what_the_original_holds() -> None:
    original = Adam([nn.Parameter(torch.ones(2))], lr=0.5)
    wrapped = LightningOptimizer(original, lambda optimizer, closure, kwargs: optimizer.step(closure, **kwargs), Net())
    assert isinstance(wrapped, Adam)
    assert isinstance(wrapped, LightningOptimizer)
    assert type(wrapped).__name__ == "LightningAdam"
    assert wrapped.optimizer is original
    assert wrapped.param_groups is original.param_groups
    original.param_groups[0]["params"][0].grad = torch.ones(2)
    wrapped.step()
    assert original.param_groups[0]["params"][0][0] < 1
    assert wrapped.state_dict()["state"]


def test_the_closure_and_further_arguments_go_along() -> None:
    taken: list[Any] = []
    wrapped = LightningOptimizer(ONE, lambda *given: taken.append(given), Net())

    def closure() -> int:
        return 3

    wrapped.step(closure, speed=2)
    assert taken == [(ONE, closure, {"speed": 2})]
    with pytest.raises(MisconfigurationException, match=r"optimizer\.step takes a function as closure, not 3"):
        wrapped.step(3)  # type: ignore[arg-type]


def test_what_was_set_on_the_original_is_taken_over() -> None:
    original = sgd()
    wrapped = LightningOptimizer(original, lambda *given: None, Net())
    original.load_state_dict({**original.state_dict(), "param_groups": [{**original.state_dict()["param_groups"][0], "lr": 7.0}]})
    wrapped.refresh()
    assert wrapped.param_groups[0]["lr"] == 7.0


def test_toggling_leaves_gradients_to_one_optimizer_and_gives_the_flags_back() -> None:
    net = Net()
    net.two.bias.requires_grad = False
    first, second = SGD(net.one.parameters(), lr=0.1), SGD(net.two.parameters(), lr=0.1)
    net.trainer = SimpleNamespace(optimizers=[first, second], log=None)
    with net.toggled_optimizer(second):
        assert [parameter.requires_grad for parameter in net.parameters()] == [False, False, True, False]
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, True, True, False]
