"""Batches in pieces: the gradient, the values and the outputs are those of the whole batch; memory that runs out is no end."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD

from lx import Callback, LightningModule, Trainer
from lx.kernel import PluginManager
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.pieces import split_batch

BATCHES = [torch.randn(size, 8, generator=torch.Generator().manual_seed(size), dtype=torch.float64) for size in (10, 7, 10, 3)]
MEMORY = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000 bytes."


class Model(LightningModule):
    """Runs out of memory above `fits` samples, before or after its backward has begun."""

    def __init__(self, fits: int = 100) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        self.fits = fits
        self.sizes: list[int] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        self.sizes.append(len(batch))
        loss = self.net(batch).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("rows", float(len(batch)), reduce_fx="sum", on_step=True, on_epoch=True)
        if len(batch) > self.fits:
            loss.register_hook(self.fail)
        return {"loss": loss, "rows": batch[:, :1], "largest": batch.max(), "count": len(batch)}

    def fail(self, gradient: Tensor) -> None:
        for parameter in self.net[2].parameters():  # a part of backward is over
            parameter.grad = torch.full_like(parameter, 9.0) if parameter.grad is None else parameter.grad + 9
        raise RuntimeError(MEMORY)

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1, momentum=0.9)


class Outputs(Callback):
    """What `on_train_batch_end` is handed, and the values of the step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        values = {name: value.item() for name, value in trainer.callback_metrics.items() if name.endswith("_step")}
        self.seen.append((outputs["loss"].item(), outputs["rows"].flatten().tolist(), values, len(batch)))


def fit(manager: PluginManager, model: LightningModule, **options: Any) -> tuple[Trainer, list[Any]]:
    outputs = Outputs()
    options = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, "callbacks": [outputs], **options}
    trainer = Trainer(manager=manager, **options)
    trainer.fit(model, BATCHES)
    return trainer, outputs.seen


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_the_run_is_that_of_whole_batches(plugin_manager: PluginManager, size: int, window: int) -> None:
    whole, pieces = Model(), Model()
    expected, at = fit(plugin_manager, whole, accumulate_grad_batches=window)
    trainer, seen = fit(plugin_manager, pieces, accumulate_grad_batches=window, micro_batch_size=size)
    assert max(pieces.sizes) <= size
    assert sum(pieces.sizes) == sum(whole.sizes)
    assert_same(pieces, whole)
    for (loss, rows, values, samples), (loss_at, rows_at, values_at, samples_at) in zip(seen, at, strict=True):
        assert (loss, rows, samples) == (pytest.approx(loss_at), rows_at, samples_at)
        assert values == pytest.approx(values_at)
    assert trainer.global_step == expected.global_step
    assert trainer.callback_metrics["loss_epoch"].item() == pytest.approx(expected.callback_metrics["loss_epoch"].item())
    assert trainer.callback_metrics["rows_epoch"].item() == 30


@pytest.mark.parametrize("window", [1, 2])
def test_memory_that_runs_out_halves_the_batch(plugin_manager: PluginManager, window: int) -> None:
    whole, found = Model(), Model(fits=4)
    fit(plugin_manager, whole, accumulate_grad_batches=window)
    with pytest.warns(UserWarning, match="memory ran out; from now on batches are trained on in pieces of at most") as warned:
        trainer, _ = fit(plugin_manager, found, accumulate_grad_batches=window, micro_batch_size="auto")
    assert len(warned) == 2  # 10 and 5 are too many, and 3 is kept
    assert found.sizes[:2] == [10, 5]
    assert max(found.sizes[2:]) == 3
    assert_same(found, whole)
    assert trainer.callback_metrics["rows_epoch"].item() == 30  # what failed midway was not logged


def test_a_window_keeps_the_gradients_of_its_earlier_batches(plugin_manager: PluginManager) -> None:
    whole, found = Model(), Model(fits=8)
    for model, options in ((whole, {}), (found, {"micro_batch_size": "auto"})):
        model.train()
        trainer = Trainer(
            manager=plugin_manager, max_epochs=1, logger=False, enable_checkpointing=False, accumulate_grad_batches=3, **options
        )
        if options:
            with pytest.warns(UserWarning, match="memory ran out"):
                trainer.fit(model, [BATCHES[1], BATCHES[0], BATCHES[3]])  # the second is too large
        else:
            trainer.fit(model, [BATCHES[1], BATCHES[0], BATCHES[3]])
    assert_same(found, whole)


def test_one_sample_that_does_not_fit_is_an_error(plugin_manager: PluginManager) -> None:
    with pytest.warns(UserWarning, match="memory ran out"), pytest.raises(RuntimeError, match="can't allocate") as caught:
        fit(plugin_manager, Model(fits=0), micro_batch_size="auto")
    assert caught.value.__notes__ == ["This is a batch of one sample, which cannot be trained on in smaller pieces."]


def test_other_errors_stay(plugin_manager: PluginManager) -> None:
    model = Model()
    model.fail = None  # type: ignore[assignment, method-assign]
    model.training_step = lambda batch, batch_idx: batch @ batch  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(plugin_manager, model, micro_batch_size="auto")


def test_a_number_of_samples_does_not_catch_anything(plugin_manager: PluginManager) -> None:
    with pytest.raises(RuntimeError, match="can't allocate"):
        fit(plugin_manager, Model(fits=2), micro_batch_size=4)


def test_an_optimizer_that_evaluates_the_loss_again(plugin_manager: PluginManager) -> None:
    whole, pieces = Model(), Model()
    for model in (whole, pieces):
        model.configure_optimizers = lambda model=model: LBFGS(model.parameters(), lr=0.5, max_iter=3)  # type: ignore[method-assign]
    fit(plugin_manager, whole, max_epochs=1)
    fit(plugin_manager, pieces, max_epochs=1, micro_batch_size=4)
    for one, two in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


def test_skipped_batches_stay_skipped(plugin_manager: PluginManager) -> None:
    model = Model()
    model.training_step = lambda batch, batch_idx: None  # type: ignore[method-assign]
    trainer, _ = fit(plugin_manager, model, micro_batch_size=2, callbacks=[])
    assert trainer.global_step == 0


class Own(Model):
    """Cuts a batch in its own way."""

    def split_batch(self, batch: Any, size: int) -> list[Any]:
        return [batch[0::2], batch[1::2]]


def test_a_module_may_cut_its_batches(plugin_manager: PluginManager) -> None:
    model = Own()
    fit(plugin_manager, model, max_epochs=1, micro_batch_size=4)
    assert model.sizes == [5, 5, 4, 3, 5, 5, 3]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (0, MisconfigurationException, "micro_batch_size=0: it must be 1 or more"),
        (2.0, ArgumentTypeError, r"micro_batch_size=2\.0: it must be an integer or None"),
        ("big", MisconfigurationException, "micro_batch_size='big': it must be 'auto', a number of samples"),
    ],
)
def test_sizes_that_are_none(plugin_manager: PluginManager, given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Trainer(manager=plugin_manager, micro_batch_size=given)


def test_manual_optimization_has_no_pieces(plugin_manager: PluginManager) -> None:
    model = Model()
    model.automatic_optimization = False
    with pytest.raises(MisconfigurationException, match=r"micro_batch_size=2.* does nothing in manual optimization"):
        fit(plugin_manager, model, micro_batch_size=2)


def test_auto_is_for_one_process(plugin_manager: PluginManager) -> None:
    from lx.testing.fakes import FakeDistributedStrategy

    with pytest.raises(MisconfigurationException, match="micro_batch_size='auto' on 2 processes: memory may run out on one"):
        fit(plugin_manager, Model(), micro_batch_size="auto", strategy=FakeDistributedStrategy(2, 0), devices=2)


def test_pieces_are_as_equal_as_they_can_be() -> None:
    assert [len(piece) for piece in split_batch(torch.zeros(10, 1), 4)] == [3, 3, 4]
    targets = [{"box": torch.zeros(2, 4)}, {"box": torch.zeros(1, 4)}, {"box": torch.zeros(3, 4)}]
    first, second = split_batch((torch.zeros(3, 1), targets), 2)
    assert ([len(part) for part in first], [len(part) for part in second]) == ([1, 1], [2, 2])
    assert second[1] == targets[1:]
    pair = split_batch([torch.zeros(2, 5), torch.ones(2)], 1)
    assert [[list(part.shape) for part in piece] for piece in pair] == [[[1, 5], [1]], [[1, 5], [1]]]


def test_a_tensor_without_a_row_for_each_sample_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"the shape \[7, 2\], which has no row for each; override split_batch"):
        split_batch({"x": torch.zeros(3, 1), "edges": torch.zeros(7, 2)}, 2)


class Counted(Model):
    """Its loss is the mean over the positive numbers of a batch, of which each row has another number."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        self.sizes.append(len(batch))
        chosen = batch > 0.8
        loss = (self.net(batch) * chosen).square().sum() / chosen.sum()  # of none, not a number
        self.log("loss", loss, on_step=True, on_epoch=True, batch_size=chosen.sum())
        if len(batch) > self.fits:
            loss.register_hook(self.fail)
        return {"loss": loss, "num_items": chosen.sum(), "rows": batch[:, :1]}


class Numbers(Outputs):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.seen[-1] = (*self.seen[-1][:1], *self.seen[-1][2].values(), outputs["num_items"].item())


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(("size", "fits"), [(1, 100), (3, 100), ("auto", 4)])
def test_pieces_weigh_as_many_items_as_they_hold(plugin_manager: PluginManager, size: Any, fits: int, window: int) -> None:
    whole, pieces, at, seen = Counted(), Counted(fits), Numbers(), Numbers()
    fit(plugin_manager, whole, accumulate_grad_batches=window, callbacks=[at])
    with pytest.warns(UserWarning, match="memory ran out") if size == "auto" else nullcontext():
        fit(plugin_manager, pieces, accumulate_grad_batches=window, micro_batch_size=size, callbacks=[seen])
    assert_same(pieces, whole)
    for found, expected in zip(seen.seen, at.seen, strict=True):
        assert found == pytest.approx(expected)
