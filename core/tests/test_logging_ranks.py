"""Values over two processes, which are threads here: one collective for all values of an epoch, and what happens where names differ."""

import threading
import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.rank_zero import rank_zero_only
from lx.testing import FakeLogger, FakeStrategy, fake_plugin_manager


@pytest.fixture(autouse=True)
def rank_of_the_tests() -> Any:
    """Puts back what the threads take for the rank of the whole process."""
    before = rank_zero_only.rank
    yield
    rank_zero_only.rank = before


class Exchange:
    """Where two threads meet and hand each other tensors."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=60)
        self._held: list[Any] = [None, None]

    def gather(self, rank: int, tensor: torch.Tensor) -> torch.Tensor:
        self._held[rank] = tensor.detach().clone()
        self._barrier.wait()
        both = list(self._held)
        self._barrier.wait()
        assert both[0].shape == both[1].shape, "a real collective would hang, or mix values up"
        return torch.stack(both)


class OneOfTwo(FakeStrategy):
    """One process of two, which counts its collectives."""

    def __init__(self, exchange: Exchange, rank: int) -> None:
        super().__init__(world_size=2, global_rank=rank)
        self.exchange = exchange
        self.gathered: list[tuple[torch.Size, Any]] = []
        self.reduced: list[tuple[str, Any]] = []

    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        self.gathered.append((tensor.shape, group))
        return self.exchange.gather(self.global_rank, tensor)

    def all_reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: str = "mean") -> torch.Tensor:
        self.reduced.append((reduce_op, group))
        reduced = {"mean": torch.mean, "sum": torch.sum, "min": torch.amin, "max": torch.amax}[reduce_op](
            self.exchange.gather(self.global_rank, tensor), dim=0
        )
        return tensor.copy_(reduced)  # in place, as torch does it


class Model(LightningModule):
    """One layer; a subclass logs in `validation_step`, and knows its process as `self.rank`."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches(rank: int) -> Any:
    """Two batches: of 1 and 2 rows on rank 0, of 3 and 4 on rank 1."""
    return DataLoader([torch.ones(2 * rank + size, 2) for size in (1, 2)], batch_size=None)  # type: ignore[arg-type, var-annotated]


def run(hooks: dict[str, Any], entry: str = "validate", **options: Any) -> list[Any]:
    """What became of two processes: the trainer of each, or the error that ended it."""
    exchange, ended = Exchange(), [None, None]

    def process(rank: int) -> None:
        try:
            neutral = {"logger": FakeLogger(), "max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
            strategy = OneOfTwo(exchange, rank)
            trainer = Trainer(manager=fake_plugin_manager(), strategy=strategy, use_distributed_sampler=False, **{**neutral, **options})
            ended[rank] = trainer  # type: ignore[call-overload]
            model = type("Own", (Model,), hooks)(rank)
            loaders = [batches(rank)] * (2 if entry == "fit" else 1)
            getattr(trainer, entry)(model, *loaders, **({} if entry == "fit" else {"verbose": False}))
        except Exception as error:
            ended[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def trainers(ended: list[Any]) -> list[Any]:
    """The two trainers of a run that went well."""
    for error in ended:
        if isinstance(error, Exception):
            raise error
    return ended


def metrics(trainer: Any) -> dict[str, float]:
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def value_of(rank: int, batch_idx: int) -> float:
    """1, 2 on rank 0, and 3, 8 on rank 1."""
    return [[1.0, 2.0], [3.0, 8.0]][rank][batch_idx]


def test_the_epoch_of_both_is_reduced_with_the_weights_of_both() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for reduce in ("mean", "sum", "min", "max"):
            self.log(reduce, value_of(self.rank, batch_idx), reduce_fx=reduce, sync_dist=True)

    mean = torch.tensor((1 * 1.0 + 2 * 2.0 + 3 * 3.0 + 4 * 8.0) / 10).item()
    for trainer in trainers(run({"validation_step": step})):
        assert metrics(trainer) == {"mean": mean, "sum": 14.0, "min": 1.0, "max": 8.0}
        assert len(trainer.strategy.gathered) == 1


def test_all_names_of_an_epoch_share_one_collective() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for number in range(300):
            self.log(f"x{number}", float(number + self.rank), sync_dist=True, batch_size=1)

    def training(self: Any, batch: Any, batch_idx: int) -> Any:
        for number in range(40):
            self.log(f"t{number}", float(number + self.rank), on_step=False, on_epoch=True, sync_dist=True)
        return self.layer(batch).mean()

    for trainer in trainers(run({"validation_step": step, "training_step": training}, "fit", max_epochs=3)):
        assert len(trainer.strategy.gathered) == 6  # for each of three epochs one of validation and one of training
        assert trainer.strategy.reduced == []
        found = metrics(trainer)
        assert [found[f"x{number}"] for number in range(300)] == [number + 0.5 for number in range(300)]
        assert [found[f"t{number}"] for number in range(40)] == [torch.tensor(number + 0.7).item() for number in range(40)]


@pytest.mark.parametrize("stages", [["train", "validation"], ["train"]])
def test_what_the_hooks_of_an_epoch_log_weighs_the_same_on_each_process(stages: list[str]) -> None:
    def log(name: str) -> Any:
        return lambda self: self.log(name, float(self.rank), sync_dist=True)

    names = [f"on_{stage}_{moment}" for stage in stages for moment in ("start", "epoch_start", "epoch_end")]
    hooks = {name: log(name) for name in names}
    hooks["validation_step"] = lambda self, batch, batch_idx: self.log("weighted", 1.0, sync_dist=True)
    hooks["on_train_batch_end"] = lambda self, *_: self.log("weighted", 1.0, on_epoch=True, sync_dist=True)
    validates = {"num_sanity_val_steps": 1} if len(stages) == 2 else {"limit_val_batches": 0}
    for trainer in trainers(run(hooks, "fit", max_epochs=2, **validates)):
        assert {name: value for name, value in metrics(trainer).items() if name in names} == dict.fromkeys(names, 0.5)


def test_only_rank_0_writes() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", 1.0, sync_dist=True)

    first, second = trainers(run({"validation_step": step}))
    assert first.logger.metrics == [(0, {"x": 1.0, "epoch": 0})]
    assert second.logger.metrics == []
    assert first.logged_metrics == second.logged_metrics


@pytest.mark.parametrize("count", [1, 20, 200])
def test_processes_that_logged_different_names_are_told_so_on_both(count: int) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for number in range(count):
            self.log(f"of_rank_{self.rank}_{number}", 1.0, sync_dist=True)

    first, second = run({"validation_step": step})
    for rank, error in enumerate((first, second)):
        assert isinstance(error, RuntimeError)
        assert f"the processes logged different names with sync_dist=True; this one logged of_rank_{rank}_0" in str(error)
        assert "Log the same names on every process" in str(error)


@pytest.mark.parametrize("count", [1, 100])
def test_names_too_many_are_an_error_and_no_mixture(count: int) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for number in range(3 + count * self.rank):
            self.log(f"x{number}", 1.0, sync_dist=True)

    assert all(isinstance(error, RuntimeError) and "different names" in str(error) for error in run({"validation_step": step}))


def test_the_order_of_the_names_does_not_matter() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for name in ["a", "b"] if self.rank else ["b", "a"]:
            self.log(name, {"a": 1.0, "b": 10.0}[name] * (self.rank + 1), sync_dist=True, reduce_fx="sum")

    for trainer in trainers(run({"validation_step": step})):
        assert metrics(trainer) == {"a": 6.0, "b": 60.0}


def test_a_steps_value_is_reduced_at_every_call() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", value_of(self.rank, batch_idx), on_step=True, on_epoch=True, sync_dist=True)
        self.log("top", value_of(self.rank, batch_idx), on_step=True, on_epoch=False, sync_dist=True, reduce_fx="max")

    first, second = trainers(run({"validation_step": step}))
    assert first.logger.metrics[:2] == [(0, {"x_step": 2.0, "top": 3.0}), (1, {"x_step": 5.0, "top": 8.0})]
    assert metrics(first)["x"] == metrics(second)["x"] == torch.tensor(4.6).item()  # of what was logged, not of the reduced steps
    assert first.strategy.reduced == second.strategy.reduced == [("mean", None), ("max", None)] * 2


def test_a_group_is_handed_on() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", 1.0, on_step=True, on_epoch=True, sync_dist=True, sync_dist_group="mine")
        self.log("y", 1.0, sync_dist=True)

    for trainer in trainers(run({"validation_step": step})):
        assert [group for _, group in trainer.strategy.gathered] == ["mine", None]
        assert trainer.strategy.reduced == [("mean", "mine")] * 2


def test_without_synchronisation_each_has_its_own_and_that_is_said() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", value_of(self.rank, batch_idx), reduce_fx="sum")

    alone = Trainer(manager=fake_plugin_manager(), strategy=FakeStrategy(world_size=2), use_distributed_sampler=False, logger=False)
    with pytest.warns(UserWarning, match=r"self\.log\('x'\): the epoch's value is of rank 0 alone; pass sync_dist=True to reduce over all"):
        alone.validate(type("Own", (Model,), {"validation_step": step})(0), batches(0), verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = trainers(run({"validation_step": step}))
    assert (metrics(first), metrics(second)) == ({"x": 3.0}, {"x": 11.0})
    assert first.strategy.gathered == []


def test_a_value_of_rank_0_alone_waits_for_nobody() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        if self.rank == 0:
            self.log("first", 1.0, on_step=True, on_epoch=True, sync_dist=True, rank_zero_only=True)
        self.log("all", float(self.rank), rank_zero_only=True)

    first, second = trainers(run({"validation_step": step}))
    assert (metrics(first), metrics(second)) == ({"first": 1.0, "first_epoch": 1.0, "all": 0.0}, {})
    assert first.strategy.gathered == first.strategy.reduced == []
