"""Compiled models train as others do, log in their steps, and lx breaks no graph."""

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx import Callback, LightningModule, Trainer
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.logging import RunLog
from lx.running.compiled import from_compiled, to_uncompiled

# torch itself imports and does what it warns of
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*isinstance.treespec.*:FutureWarning")

BATCHES = list(torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0)))
WHOLE = {"fullgraph": True, "backend": "aot_eager"}  # an error for every break of the graph
QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Model(LightningModule):
    """Logs in its steps, in every way, and looks at its trainer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1))
        self.uncompiled = 0

    def forward(self, batch: Tensor) -> Tensor:
        return self.net(batch)  # type: ignore[no-any-return]

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        self.note()
        loss = self(batch).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("epoch_so_far", float(self.current_epoch))
        self.log_dict({"a": loss.detach() * 2, "b": 3.0})
        return {"loss": loss, "rows": batch}

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.note()
        self.log("val_loss", self(batch).square().mean())

    test_step = validation_step

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.note()
        return self(batch)  # type: ignore[no-any-return]

    def note(self) -> None:
        if not torch.compiler.is_compiling():
            self.uncompiled += 1

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Values(Callback):
    """What was logged after each batch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert not outputs["rows"].requires_grad
        self.seen.append({name: value.item() for name, value in trainer.callback_metrics.items()})


def fit(model: Any, **options: Any) -> tuple[Trainer, list[dict[str, float]]]:
    values = Values()
    trainer = Trainer(max_epochs=2, callbacks=[values], **QUIET, **options)
    trainer.fit(model, BATCHES, BATCHES[:2])
    return trainer, values.seen


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in model.parameters()]


@pytest.fixture(autouse=True)
def afresh() -> None:
    """No test profits from what another one compiled."""
    torch.compiler.reset()


@pytest.fixture(scope="module")
def eager() -> tuple[list[Tensor], list[dict[str, float]]]:
    model = Model()
    _, seen = fit(model)
    assert model.uncompiled
    return weights(model), seen


@pytest.mark.parametrize("window", [1, 2])
def test_a_trainer_compiles_steps_without_a_break(eager: Any, window: int) -> None:
    model, plain = Model(), Model()
    _, seen = fit(model, compile=WHOLE, accumulate_grad_batches=window)
    _, expected = fit(plain, accumulate_grad_batches=window)
    assert not model.uncompiled
    torch.testing.assert_close(weights(model), weights(plain))
    assert seen == [pytest.approx(values) for values in expected]
    assert "training_step" not in vars(model)  # the module is as it was


def test_a_compiled_model_is_compiled_with_what_compiled_it(eager: Any) -> None:
    model = Model()
    trainer, seen = fit(torch.compile(model, **WHOLE))
    assert not model.uncompiled
    assert trainer.lightning_module is model
    torch.testing.assert_close(weights(model), eager[0])
    assert seen == [pytest.approx(values) for values in eager[1]]


def test_evaluation_and_prediction_are_compiled(eager: Any) -> None:
    model, plain = Model(), Model()
    trainer, other = Trainer(compile=WHOLE, **QUIET), Trainer(**QUIET)
    for entry in ("validate", "test"):
        assert getattr(trainer, entry)(model, BATCHES, verbose=False) == [
            pytest.approx(getattr(other, entry)(plain, BATCHES, verbose=False)[0])
        ]
    torch.testing.assert_close(trainer.predict(model, BATCHES), other.predict(plain, BATCHES))
    assert not model.uncompiled


def test_once_compiled_it_is_compiled_no_more() -> None:
    model = Model()
    torch._dynamo.utils.counters.clear()
    fit(model, compile={"backend": "eager", "fullgraph": True})
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] <= 4  # a step of training and one of validation, and once more where an epoch is a variable
    assert not counters["graph_break"]


def test_what_compiles_its_own_step_logs_too(eager: Any) -> None:
    model = Model()
    model.training_step = torch.compile(model.training_step, **WHOLE)  # type: ignore[method-assign]
    _, seen = fit(model)
    assert model.uncompiled == 2 * 2 + 2  # validation and its sanity check
    torch.testing.assert_close(weights(model), eager[0])
    assert seen == [pytest.approx(values) for values in eager[1]]


class LogsInForward(Model):
    """Logs where it is compiled in place."""

    def forward(self, batch: Tensor) -> Tensor:
        output = super().forward(batch)
        self.log("mean", output.detach().mean())
        return output


def test_a_module_compiled_in_place_logs_in_its_forward() -> None:
    model, plain = LogsInForward(), LogsInForward()
    model.compile(**WHOLE)
    _, seen = fit(model)
    _, expected = fit(plain)
    assert seen == [pytest.approx(values) for values in expected]


class ByHand(Model):
    """Steps its optimizer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def forward(self, batch: Tensor) -> Tensor:
        self.note()
        return self.net(batch)  # type: ignore[no-any-return]

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self(batch).square().mean()
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss)
        return {"loss": loss.detach(), "rows": batch}


def test_of_a_module_that_steps_by_hand_its_forward_is_compiled() -> None:
    model, plain = ByHand(), ByHand()
    fit(model, compile=WHOLE)
    fit(plain)
    assert not model.uncompiled
    assert "forward" not in vars(model)
    torch.testing.assert_close(weights(model), weights(plain))


def test_with_a_precision_and_pieces() -> None:
    model, plain = Model(), Model()
    fit(model, compile=WHOLE, precision="bf16-mixed", micro_batch_size=2)
    fit(plain, precision="bf16-mixed", micro_batch_size=2)
    torch.testing.assert_close(weights(model), weights(plain))


def test_a_failing_step_leaves_logging_as_it_was() -> None:
    model = Model()
    model.net = nn.Linear(3, 1)  # type: ignore[assignment]
    trainer = Trainer(max_epochs=1, compile={"backend": "eager"}, **QUIET)
    with pytest.raises(Exception, match="reduction dim"):
        trainer.fit(model, BATCHES, BATCHES)
    assert trainer.log.log.__func__ is RunLog.log  # type: ignore[attr-defined]


def test_there_and_back_again() -> None:
    model = Model()
    assert from_compiled(torch.compile(model, **WHOLE)) is model
    fit(model)
    assert not model.uncompiled
    assert pickle.loads(pickle.dumps(model)).compiler is None
    assert to_uncompiled(model) is model
    fit(model)
    assert model.uncompiled
    assert to_uncompiled(torch.compile(model)) is model
    for function, given in ((from_compiled, model), (from_compiled, torch.compile(nn.Linear(1, 1))), (to_uncompiled, model)):
        with pytest.raises(ValueError, match="compiled"):
            function(given)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (3, ArgumentTypeError, "compile=3: it must be True, a mode such as 'max-autotune', a mapping"),
        ({"fulgraph": True}, MisconfigurationException, "torch.compile has no argument 'fulgraph'. Did you mean 'fullgraph'?"),
        ("fastest", MisconfigurationException, "compile='fastest': torch.compile does not take that: .*fastest"),
        ({"backend": "nobodys"}, MisconfigurationException, "torch.compile does not take that: .*nobodys"),
    ],
)
def test_what_cannot_be_a_compiler(given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Trainer(compile=given, **QUIET)


def test_a_function_is_a_compiler() -> None:
    seen = []
    model = Model()
    fit(model, compile=lambda step: seen.append(step.__name__) or step)
    assert set(seen) == {"training_step", "validation_step"}


def test_the_default_backend_compiles_machine_code(eager: Any) -> None:
    model = Model()
    fit(model, compile=True)
    torch.testing.assert_close(weights(model), eager[0])
