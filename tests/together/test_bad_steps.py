"""What a model's own methods return or ask for, and cannot: steps, optimizers, schedulers, clipping and logging."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from lx import Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import TinyDataModule, TinyModule

CALLED: list[str] = []

Fit = Callable[..., None]


@pytest.fixture
def fit(bare_trainer: Callable[..., Trainer]) -> Fit:
    """Fits a module whose methods are replaced; further arguments are the Trainer's, `manual` switches automatic optimization off."""
    CALLED.clear()

    def run(trainer: dict[str, Any] | None = None, manual: bool = False, **methods: Any) -> None:
        model = type("Model", (TinyModule,), {"on_fit_start": lambda self: CALLED.append("on_fit_start"), **methods})()
        model.automatic_optimization = not manual
        bare_trainer(**{"max_epochs": 1, **(trainer or {})}).fit(model, TinyDataModule())

    return run


def step(result: Callable[[Any, torch.Tensor], Any]) -> Callable[..., Any]:
    """A training step that returns what a function makes of the module and its prediction."""
    return lambda self, batch, batch_idx: result(self, self(batch))


# -- what a training step returns ------------------------------------------------------------------------------------------------

FORMS = "it must return a scalar tensor, a mapping with the key 'loss', or None to skip the batch"


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda self, output: 1.0, f"training_step returned a float; {FORMS}"),
        (lambda self, output: np.float64(1.0), f"training_step returned a float64; {FORMS}"),
        (lambda self, output: np.float32(1.0), f"training_step returned a float32; {FORMS}"),
        (lambda self, output: "loss", f"training_step returned a str; {FORMS}"),
        (lambda self, output: (output.mean(), 1), f"training_step returned a tuple; {FORMS}"),
        (lambda self, output: {"los": output.mean()}, r"a mapping with the keys \['los'\]; the key 'loss' is missing"),
        (lambda self, output: {"loss": 1.0}, "training_step returned 1.0 as 'loss'; it must be a scalar tensor"),
    ],
)
def test_what_is_no_loss(fit: Fit, returned: Any, said: str) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        fit(training_step=step(returned))


@pytest.mark.parametrize(
    ("returned", "note"),
    [
        (lambda self, output: output, "training_step returned a loss of shape (4, 1); return one number, such as loss.mean()."),
        (
            lambda self, output: output.mean().detach(),
            "training_step returned a loss that depends on no parameter that is trained: it was detached",
        ),
    ],
)
def test_a_loss_without_backward_is_explained_beside_what_torch_says(fit: Fit, returned: Any, note: str) -> None:
    with pytest.raises(RuntimeError, match="grad") as caught:
        fit(training_step=step(returned))
    (added,) = caught.value.__notes__
    assert added.startswith(note)


def test_what_a_step_of_manual_optimization_cannot_return(fit: Fit) -> None:
    with pytest.raises(MisconfigurationException, match="returned a float; in manual optimization it may return a tensor, a mapping"):
        fit(manual=True, training_step=step(lambda self, output: 1.0))


# -- optimizers and schedulers -------------------------------------------------------------------------------------------------


class Foreign:
    """A scheduler that is not torch's, and can be saved."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Stateless:
    """A scheduler that cannot be saved."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer


def configured(make: Callable[[Any, Optimizer], Any]) -> Callable[[Any], Any]:
    """A `configure_optimizers` that returns what a function makes of the module and an optimizer for it."""
    return lambda self: make(self, SGD(self.parameters(), lr=0.1))


def scheduled(**scheduler: Any) -> Callable[[Any], Any]:
    """A `configure_optimizers` with a mapping for the scheduler."""
    return configured(lambda self, sgd: {"optimizer": sgd, "lr_scheduler": {"scheduler": StepLR(sgd, 1), **scheduler}})


FORMS_OF_OPTIMIZERS = "; it must return an optimizer; a list of optimizers; two lists, "
NO_OPTIMIZERS = [
    ("adam", "returned 'adam'", ""),
    (3, "returned 3", ""),
    ([], "returned []", ""),
    (SGD, "returned the class SGD", "Did you mean SGD(self.parameters(), ...)?"),
    (
        lambda sgd: (sgd, StepLR(sgd, 1)),
        "returned (SGD, StepLR)",
        "An optimizer and its scheduler are returned as ([optimizer], [scheduler]).",
    ),
    (lambda sgd: iter([sgd]), "returned list_iterator", ""),
    (lambda sgd: {"optim": sgd}, "returned a mapping whose 'optimizer' is None", ""),
    (lambda sgd: [sgd, "adam"], "returned [SGD, 'adam']", ""),
    ({}, "returned a mapping whose 'optimizer' is None", ""),
]


@pytest.mark.parametrize(("returned", "said", "hint"), NO_OPTIMIZERS)
def test_what_is_no_optimizer_is_told_with_the_forms(fit: Fit, returned: Any, said: str, hint: str) -> None:
    with pytest.raises(MisconfigurationException) as caught:
        fit(configure_optimizers=configured(lambda self, sgd: returned(sgd) if callable(returned) and returned is not SGD else returned))
    message = str(caught.value)
    assert message.startswith(f"configure_optimizers {said}")
    assert FORMS_OF_OPTIMIZERS in message
    assert message.endswith(hint)
    assert CALLED == []


@pytest.mark.parametrize(
    ("configure", "error", "said"),
    [
        (scheduled(interval="batch"), MisconfigurationException, "interval='batch' of StepLR; it must be 'step' or 'epoch'"),
        (scheduled(frequency=0), MisconfigurationException, "frequency=0 of StepLR; it must be an integer, 1 or more"),
        (
            configured(lambda self, sgd: {"optimizer": sgd, "lr_scheduler": {"interval": "step"}}),
            MisconfigurationException,
            "lacks the key 'scheduler'; put the scheduler there",
        ),
        (
            configured(lambda self, sgd: {"optimizer": sgd, "lr_scheduler": ReduceLROnPlateau(sgd)}),
            MisconfigurationException,
            "ReduceLROnPlateau needs the name of the metric to watch: .*'monitor': 'val_loss'",
        ),
        (
            configured(lambda self, sgd: ([sgd], [StepLR(SGD(self.parameters(), lr=0.1), 1)])),
            MisconfigurationException,
            "the scheduler StepLR drives an optimizer that was not returned; return that one too",
        ),
        (
            configured(lambda self, sgd: ([sgd], [Stateless(sgd)])),
            TypeError,
            "the scheduler Stateless must have state_dict and load_state_dict",
        ),
        (scheduled(scheduler="cosine"), TypeError, "the scheduler 'cosine' must have state_dict and load_state_dict, as those of torch"),
        (scheduled(scheduler=None), TypeError, "the scheduler None must have state_dict"),
        (
            configured(lambda self, sgd: ([sgd], [Foreign(sgd)])),
            MisconfigurationException,
            r"Foreign is no scheduler of torch's kind; override lr_scheduler_step\(scheduler, metric\) to step it",
        ),
        (
            configured(lambda self, sgd: [sgd, SGD(self.parameters(), lr=0.1)]),
            MisconfigurationException,
            "returned 2 optimizers, and SGD holds parameters that one before it holds, too",
        ),
    ],
)
def test_optimizers_and_schedulers_that_cannot_work(fit: Fit, configure: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fit(configure_optimizers=configure)
    assert CALLED == []


@pytest.mark.parametrize("returned", [[], ()])
def test_no_optimizers_are_enough_for_manual_optimization(fit: Fit, returned: Any) -> None:
    fit(manual=True, configure_optimizers=lambda self: returned, training_step=lambda self, batch, batch_idx: None)


def test_one_scheduler_needs_no_list(fit: Fit) -> None:
    seen: list[Any] = []
    fit(
        configure_optimizers=configured(lambda self, sgd: ([sgd], {"scheduler": StepLR(sgd, 1), "interval": "step"})),
        on_train_start=lambda self: seen.extend(self.trainer.lr_scheduler_configs),
    )
    assert [(type(config.scheduler), config.interval) for config in seen] == [(StepLR, "step")]


def test_a_plateau_scheduler_that_watches_what_is_not_logged(fit: Fit) -> None:
    def configure(self: Any) -> Any:
        sgd = SGD(self.parameters(), lr=0.1)
        return {"optimizer": sgd, "lr_scheduler": {"scheduler": ReduceLROnPlateau(sgd), "monitor": "nope"}}

    with pytest.raises(MisconfigurationException, match=r"ReduceLROnPlateau watches 'nope', which was not logged; logged were .*val_loss"):
        fit(configure_optimizers=configure)


def test_a_closure_that_cannot_be_called(fit: Fit) -> None:
    with pytest.raises(MisconfigurationException, match=r"optimizer\.step takes a function as closure, not 3"):
        fit(manual=True, training_step=lambda self, batch, batch_idx: self.optimizers().step(closure=3))


def test_manual_backward_belongs_to_manual_optimization(fit: Fit) -> None:
    with pytest.raises(MisconfigurationException, match=r"manual_backward .*: set self\.automatic_optimization = False in __init__"):
        fit(training_step=step(lambda self, output: self.manual_backward(output.mean())))


# -- clipping ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (
            {"gradient_clip_val": 2.0},
            MisconfigurationException,
            r"gradients\(gradient_clip_val=2\.0\) differs from Trainer\(.*=1\.0\)",
        ),
        (
            {"gradient_clip_algorithm": "value"},
            MisconfigurationException,
            r"gradients\(gradient_clip_algorithm='value'\) differs from",
        ),
    ],
)
def test_clipping_that_differs_from_the_trainers(fit: Fit, asked: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fit(
            {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm"},
            configure_gradient_clipping=lambda self, optimizer, **told: self.clip_gradients(optimizer, **asked),
        )


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"gradient_clip_val": "2"}, TypeError, "gradient_clip_val='2': it must be a number"),
        ({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "l2"}, MisconfigurationException, "'l2': it must be 'norm' or 'value'"),
    ],
)
def test_clipping_that_cannot_be(fit: Fit, asked: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fit(configure_gradient_clipping=lambda self, optimizer, **told: self.clip_gradients(optimizer, **asked))


# -- logging -------------------------------------------------------------------------------------------------------------------


def logging(name: Any, value: Any, **options: Any) -> Callable[..., Any]:
    """A training step that logs once; a function as the value is called with the prediction."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        output = self(batch)
        self.log(name, value(output) if callable(value) else value, **options)
        return output.mean()

    return training_step


@pytest.mark.parametrize(
    ("training_step", "error", "said"),
    [
        (
            logging("x", {"a": 1}),
            ValueError,
            r"self\.log\('x', \{'a': 1\}\): a dict cannot be logged; pass a number, a tensor of one",
        ),
        (logging("x", "much"), ValueError, "a str cannot be logged; pass a number"),
        (logging("x", None), ValueError, "a NoneType cannot be logged; pass a number"),
        (logging("x", [1]), ValueError, "a list cannot be logged; pass a number"),
        (logging("x", lambda output: output), ValueError, r"self\.log\('x'\): a tensor of 4 elements cannot be logged; reduce it to one"),
        (logging(3, 1.0), MisconfigurationException, r"self\.log: the name must be a string, not 3"),
        (logging("x", 1.0, on_step=False, on_epoch=False), MisconfigurationException, r"on_step and on_epoch are both False, so nothing"),
        (
            logging("x/dataloader_idx_0", 1.0),
            MisconfigurationException,
            "'/dataloader_idx_' is added by lx itself; pass the name without",
        ),
        (logging("x", 1.0, reduce_fx="median"), MisconfigurationException, "reduce_fx='median'.*'mean', 'sum', 'min' or 'max'; .*a metric"),
        (logging("x", 1.0, on_epoch=True, reduce_fx=torch.median), MisconfigurationException, "'mean', 'sum', 'min' or 'max'"),
    ],
)
def test_what_cannot_be_logged(fit: Fit, training_step: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fit(training_step=training_step)


def test_one_name_is_logged_in_one_way(fit: Fit) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("x", 1.0)
        self.log("x", 1.0, prog_bar=True)

    with pytest.raises(MisconfigurationException, match=r"self\.log\('x'\) is called twice in training_step with different arguments; use"):
        fit(training_step=training_step)


@pytest.mark.parametrize(
    ("hook", "options", "said"),
    [
        ("on_fit_start", {}, "was called in on_fit_start, where nothing can be logged; call it in a step or in a hook of training"),
        ("on_train_end", {}, "was called in on_train_end, where nothing can be logged"),
        ("on_train_epoch_end", {"on_step": True}, "on_step=True.* in on_train_epoch_end: this hook runs once an epoch, so only on_epoch"),
    ],
)
def test_where_nothing_can_be_logged(fit: Fit, hook: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        fit(**{hook: lambda self: self.log("x", 1.0, **options)})


def test_in_prediction_nothing_can_be_logged(bare_trainer: Callable[..., Trainer]) -> None:
    model = type("Model", (TinyModule,), {"predict_step": lambda self, batch, batch_idx: self.log("x", 1.0)})()
    with pytest.raises(MisconfigurationException, match="was called in predict_step, where nothing can be logged"):
        bare_trainer().predict(model, TinyDataModule())


class Words(nn.Module):
    """A metric object, as torchmetrics has them, whose value is no number."""

    def update(self, value: Any) -> None:
        """Takes nothing up."""

    def compute(self) -> Any:
        return {"a": 1}

    def reset(self) -> None:
        """Has nothing to forget."""


def test_a_metric_object_is_an_attribute_of_the_module(fit: Fit) -> None:
    with pytest.raises(MisconfigurationException, match="Words is no attribute of the module; assign it in __init__, or pass metric_attr"):
        fit(training_step=logging("x", lambda output: Words()))


def test_the_value_of_a_metric_object_is_a_tensor(fit: Fit) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.words = getattr(self, "words", None) or Words()
        self.log("x", self.words, on_step=False, on_epoch=True)
        return self(batch).mean()

    with pytest.raises(ValueError, match=r"'x'\): the metric's compute\(\) returned a dict, and a tensor of one element is needed"):
        fit(training_step=training_step)
