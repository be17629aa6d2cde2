"""What the guard does about a bad batch: a run that skips it, or goes back from it, ends like one that never had it, bit for bit."""

import json
import logging
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException
from lx_plugin_checkpoint.callback import ModelCheckpoint
from lx_plugin_csv.logger import CSVLogger
from lx_plugin_guard.callback import Guard
from lx_plugin_guard.trouble import LossSpikeError, NonFiniteGradientError, NonFiniteLossError

NOT_EMPTY = pytest.mark.filterwarnings("ignore:ModelCheckpoint saves to .*, which is not empty")
NAN, INF = math.nan, math.inf
BATCHES = 8


class Net(LightningModule):
    """Has running statistics, a scheduler that moves with each step, and a value that it logs."""

    def __init__(self, broken_gradients: tuple[int, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.broken_gradients = broken_gradients
        self.trained: list[tuple[int, int]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.mse_loss(self.layers(x), y)
        if batch_idx in self.broken_gradients:
            loss = loss + (next(self.parameters()) * 0).sum().sqrt()  # 0, and its gradient infinite times 0
        self.log("loss", loss.detach(), on_step=True, on_epoch=True)
        self.trained.append((self.current_epoch, batch_idx))
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), "interval": "step"}]


def batches(bad: dict[int, float] | None = None, without: tuple[int, ...] = ()) -> list[Any]:
    """Batches of four samples; the targets of bad ones have a value added."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for place in range(BATCHES):
        x, y = torch.randn(4, 3, generator=generator), torch.randn(4, 1, generator=generator)
        if place not in without:
            made.append((x, y + (bad or {}).get(place, 0.0)))
    return made


class DiesAt(Callback):
    """Ends the process, as far as the run is concerned, when so many batches have begun."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise ZeroDivisionError("dies here")


def fit(model: Any, data: Any, *callbacks: Any, path: Any = None, **options: Any) -> Trainer:
    settings = {"max_epochs": 1, "logger": False, "enable_progress_bar": False, "enable_checkpointing": bool(callbacks), **options}
    settings["enable_checkpointing"] = any(isinstance(one, ModelCheckpoint) for one in callbacks)
    trainer = Trainer(accelerator="cpu", enable_model_summary=False, callbacks=list(callbacks), **settings)
    trainer.fit(model, data, ckpt_path=path)
    return trainer


def whole_state(trainer: Trainer) -> dict[str, Any]:
    """Weights, running statistics, and the states of optimizer and scheduler, flat."""
    module = trainer.lightning_module
    found = {f"model.{name}": value.clone() for name, value in module.state_dict().items()}
    for number, state in trainer.optimizers[0].state_dict()["state"].items():
        found |= {f"optimizer.{number}.{name}": value.clone() for name, value in state.items()}
    return {**found, "lr": trainer.optimizers[0].param_groups[0]["lr"], "steps": trainer.global_step}


def assert_same(one: Trainer, other: Trainer) -> None:
    mine, yours = whole_state(one), whole_state(other)
    assert mine.keys() == yours.keys()
    different = [name for name, value in mine.items() if not torch.equal(torch.as_tensor(value), torch.as_tensor(yours[name]))]
    assert different == []


def every(folder: Path, steps: int = 2) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, every_n_train_steps=steps, save_top_k=-1, filename="{step}")


# -- stop ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF])
def test_it_stops_at_a_loss_that_is_not_finite_before_it_is_trained_on(tmp_path: Path, value: float) -> None:
    model = Net()
    with pytest.raises(
        NonFiniteLossError, match=r"batch 5 in epoch 0 is (nan|inf), after 5 optimizer steps; the mean of those before .* \d"
    ):
        fit(model, batches({5: value}), Guard())
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_the_error_has_the_newest_checkpoint_that_is_good(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"The newest good checkpoint from before it is .*step=4\.ckpt'"):
        fit(Net(), batches({5: NAN}), Guard(margin=0), every(tmp_path))
    damaged = next(tmp_path.glob("step=4.ckpt"))
    with pytest.raises(NonFiniteLossError, match="There is no good checkpoint"):
        fit(Net(), batches({1: NAN}), Guard(margin=0), every(tmp_path / "other"))
    assert damaged.exists()


def test_it_stops_at_a_spike(tmp_path: Path) -> None:
    guard = Guard(spikes="stop", warmup=3, rtol=5.0)
    with pytest.raises(LossSpikeError, match=r"batch 6 in epoch 0 is .* There is no good checkpoint"):
        fit(Net(), batches({2: 100.0, 6: 1000.0}), guard)


def test_what_is_to_be_ignored_is(tmp_path: Path) -> None:
    trainer = fit(Net(), batches({5: NAN}), Guard(nonfinite="ignore"))
    assert trainer.global_step == BATCHES


# -- skip ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{0: NAN}, {3: INF}, {3: NAN, 4: NAN}, {7: NAN}])
def test_a_run_that_skips_ends_like_one_whose_data_lacks_the_batch(bad: dict[int, float]) -> None:
    guard = Guard(nonfinite="skip")
    trainer = fit(Net(), batches(bad), guard, max_epochs=2)
    assert_same(trainer, fit(Net(), batches(without=tuple(bad)), max_epochs=2))
    assert [(one["action"], one["epoch"], one["batch_idx"]) for one in guard.actions] == [
        ("skip", epoch, place) for epoch in (0, 1) for place in bad
    ]


def test_a_spike_is_skipped(tmp_path: Path) -> None:
    trainer = fit(Net(), batches({5: 1000.0}), Guard(spikes="skip", warmup=3, rtol=5.0))
    assert_same(trainer, fit(Net(), batches(without=(5,))))


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_window_has_the_mean_of_its_other_batches(bad: int) -> None:
    class Plain(Net):
        def configure_optimizers(self) -> Any:  # Adam makes much of what rounding leaves of a gradient that is 0
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = fit(Plain(), batches({bad: NAN})[:4], Guard(nonfinite="skip"), accumulate_grad_batches=4)
    lone = fit(Plain(), batches(without=(bad,))[:3], accumulate_grad_batches=3)
    assert trainer.global_step == lone.global_step == 1
    for mine, yours in zip(trainer.lightning_module.parameters(), lone.lightning_module.parameters(), strict=True):
        torch.testing.assert_close(mine, yours)


def test_a_window_of_bad_batches_takes_no_step(tmp_path: Path) -> None:
    trainer = fit(Net(), batches({2: NAN, 3: NAN}), Guard(nonfinite="skip"), accumulate_grad_batches=2)
    assert_same(trainer, fit(Net(), batches(without=(2, 3)), accumulate_grad_batches=2))


def test_what_a_skipped_batch_logged_is_in_no_mean(tmp_path: Path) -> None:
    trainer = fit(Net(), batches({3: NAN}), Guard(nonfinite="skip"))
    other = fit(Net(), batches(without=(3,)))
    assert torch.equal(trainer.callback_metrics["loss_epoch"], other.callback_metrics["loss_epoch"])


def test_a_module_that_wraps_the_step_of_its_optimizer(tmp_path: Path) -> None:
    class Wrapping(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    assert_same(fit(Wrapping(), batches({3: NAN}), Guard(nonfinite="skip")), fit(Wrapping(), batches(without=(3,))))


@pytest.mark.parametrize("kind", [Net, "wrapping"])
def test_a_step_with_gradients_that_are_not_finite_is_skipped(kind: Any) -> None:
    class Wrapping(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    model = (Net if kind is Net else Wrapping)(broken_gradients=(2,))
    trainer = fit(model, batches(), Guard(nonfinite="skip", gradients=True))
    other = fit(Net(), batches(without=(2,)))
    assert trainer.global_step == other.global_step == BATCHES - 1
    for mine, yours in zip(model.parameters(), other.lightning_module.parameters(), strict=True):
        assert torch.equal(mine, yours)
    assert trainer.optimizers[0].param_groups[0]["lr"] == other.optimizers[0].param_groups[0]["lr"]


def test_gradients_can_stop_a_run(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteGradientError, match="the gradients of batch 2 in epoch 0 are not finite"):
        fit(Net(broken_gradients=(2,)), batches(), Guard(gradients=True))


@pytest.mark.parametrize("nonfinite", ["skip", "rewind"])
def test_a_run_does_not_go_on_forever(nonfinite: str, tmp_path: Path) -> None:
    guard = Guard(nonfinite=nonfinite, limit=(2, 6), margin=0)
    with pytest.raises(NonFiniteLossError, match=r"batch 6 in epoch 0 .*acted 2 times within 6 batches, and limit=\(2, 6\)"):
        fit(Net(), batches({2: NAN, 5: NAN, 6: NAN}), guard, every(tmp_path, 1))
    assert [one["batch_idx"] for one in guard.actions] == [2, 5]


def test_actions_that_lie_far_apart_go_on(tmp_path: Path) -> None:
    guard = Guard(nonfinite="skip", limit=(1, 4))
    fit(Net(), batches({0: NAN, 5: NAN}), guard)
    assert len(guard.actions) == 2


def test_a_killed_run_that_skipped_goes_on_as_it_would_have(tmp_path: Path) -> None:
    data = batches({1: NAN, 6: NAN})
    whole = fit(Net(), data, first := Guard(nonfinite="skip"))
    with pytest.raises(ZeroDivisionError):
        fit(Net(), data, Guard(nonfinite="skip"), every(tmp_path), DiesAt(5))
    second = Guard(nonfinite="skip")
    resumed = fit(Net(), data, second, every(tmp_path), path=tmp_path / "step=2.ckpt")
    assert_same(resumed, whole)
    assert second.state_dict() == first.state_dict()


# -- rewind --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "margin", "gone", "expected"),
    [
        ({5: NAN}, 0, (5,), [0, 1, 2, 3, 4, 5, 4, 6, 7]),
        ({5: NAN}, 2, (3, 4, 5), [0, 1, 2, 3, 4, 5, 2, 6, 7]),
        ({5: NAN}, None, (4, 5), [0, 1, 2, 3, 4, 5, 6, 7]),
        ({7: INF}, 1, (6, 7), [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_run_that_goes_back_ends_like_one_that_never_saw_the_range(
    tmp_path: Path, bad: dict[int, float], margin: int | None, gone: tuple[int, ...], expected: list[int]
) -> None:
    model = Net()
    trainer = fit(model, batches(bad), Guard(nonfinite="rewind", margin=margin), every(tmp_path))
    assert_same(trainer, fit(Net(), batches(without=gone)))
    assert [batch_idx for _, batch_idx in model.trained] == expected


class Without(Net):
    """Skips batches by itself."""

    def __init__(self, gone: set[tuple[int, int]]) -> None:
        super().__init__()
        self.gone = gone

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if (self.current_epoch, batch_idx) in self.gone else super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Spoilt(Without):
    """Has losses that are not finite."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output = Net.training_step(self, batch, batch_idx)
        return {"loss": output["loss"] * (NAN if (self.current_epoch, batch_idx) in self.gone else 1)}


def shuffled(workers: int = 0) -> DataLoader[Any]:
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(3)
    data = torch.utils.data.TensorDataset(torch.randn(32, 3, generator=generator), torch.randn(32, 1, generator=generator))
    return DataLoader(data, batch_size=4, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_back_over_the_end_of_an_epoch_in_the_same_order(tmp_path: Path, workers: int) -> None:
    model, guard = Spoilt({(2, 1)}), Guard(nonfinite="rewind", margin=0)
    trainer = fit(model, shuffled(workers), guard, every(tmp_path, 6), max_epochs=3)
    # The newest checkpoint from before is that of step 12, in the midst of epoch 1.
    assert [one for one in model.trained if one[0]] == [
        *[(1, place) for place in range(8)],
        (2, 0),
        (2, 1),
        *[(1, place) for place in range(4, 8)],
        (2, 0),
        *[(2, place) for place in range(2, 8)],
    ]
    assert_same(trainer, fit(Without({(2, 1)}), shuffled(workers), max_epochs=3))
    assert guard.actions[0]["back_to"] == [1, 4]


def test_it_goes_back_within_an_accumulation_window(tmp_path: Path) -> None:
    bad = {(0, 6)}
    trainer = fit(Spoilt(bad), shuffled(), Guard(nonfinite="rewind", margin=0), every(tmp_path, 1), accumulate_grad_batches=3)
    assert_same(trainer, fit(Without(bad), shuffled(), accumulate_grad_batches=3))


def test_it_goes_back_as_often_as_it_must(tmp_path: Path) -> None:
    bad = {(0, 3), (0, 6), (1, 2)}
    guard = Guard(nonfinite="rewind", margin=0)
    trainer = fit(Spoilt(bad), shuffled(), guard, every(tmp_path), max_epochs=2)
    assert_same(trainer, fit(Without(bad), shuffled(), max_epochs=2))
    assert [(one["epoch"], one["batch_idx"]) for one in guard.actions] == sorted(bad)


def test_a_damaged_checkpoint_is_not_gone_back_to(tmp_path: Path) -> None:
    class Damages(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            newest = tmp_path / "step=4.ckpt"
            if batch_idx == 5 and newest.exists():
                newest.write_bytes(newest.read_bytes()[:-100])

    guard = Guard(nonfinite="rewind", margin=0)
    fit(Net(), batches({5: NAN}), guard, every(tmp_path), Damages())
    assert guard.actions[0]["checkpoint"] == "step=2.ckpt"


def test_a_checkpoint_whose_weights_are_spoilt_is_not_gone_back_to(tmp_path: Path) -> None:
    """The gradients of batch 2 spoil the weights, which the loss of batch 3 shows: both are passed over."""
    guard = Guard(nonfinite="rewind", margin=0)
    model = Net(broken_gradients=(2,))
    trainer = fit(model, batches(), guard, every(tmp_path, 1))
    assert [(one["checkpoint"], one["range"]) for one in guard.actions] == [("step=2.ckpt", [2, 3])]
    assert_same(trainer, fit(Net(), batches(without=(2, 3))))


@NOT_EMPTY
def test_without_a_checkpoint_it_stops_and_says_so(tmp_path: Path) -> None:
    fit(Net(), batches(), every(tmp_path))  # those of an earlier run are none of this one
    with pytest.raises(NonFiniteLossError, match="There is no good checkpoint from before it"):
        fit(Net(), batches({1: NAN}), Guard(nonfinite="rewind", margin=0), every(tmp_path))


@pytest.mark.parametrize("dies", [7, 8, 9, 10, 12])
def test_a_run_that_is_killed_after_it_went_back_goes_on_as_it_would_have(tmp_path: Path, dies: int) -> None:
    """At 7 it has just gone back, from batch 5 to 2, and there is no checkpoint since then; the newest had been left behind."""
    bad = {(0, 5), (1, 3)}
    whole = fit(Spoilt(bad), shuffled(), first := Guard(nonfinite="rewind", margin=2), every(tmp_path / "whole"), max_epochs=2)
    assert_same(whole, fit(Without({(0, 3), (0, 4), (0, 5), (1, 1), (1, 2), (1, 3)}), shuffled(), max_epochs=2))
    folder = tmp_path / "killed"
    with pytest.raises(ZeroDivisionError):
        fit(Spoilt(bad), shuffled(), Guard(nonfinite="rewind", margin=2), every(folder), DiesAt(dies), max_epochs=2)
    second = Guard(nonfinite="rewind", margin=2)
    resumed = fit(Spoilt(bad), shuffled(), second, every(folder), path="auto", max_epochs=2)
    assert_same(resumed, whole)
    assert [one["batch_idx"] for one in second.actions] == [one["batch_idx"] for one in first.actions] == [5, 3]


@NOT_EMPTY
def test_what_an_earlier_run_decided_does_not_count_in_the_same_folder(tmp_path: Path) -> None:
    fit(Net(), batches({5: NAN}), Guard(nonfinite="rewind", margin=0), every(tmp_path))
    assert json.loads((tmp_path / "guard.json").read_text())["actions"][0]["range"] == [5, 5]
    with pytest.raises(ZeroDivisionError):
        fit(Net(), batches(), Guard(nonfinite="rewind"), every(tmp_path), DiesAt(5))
    guard = Guard(nonfinite="rewind")
    trainer = fit(Net(), batches(), guard, every(tmp_path), path="auto")
    assert guard.actions == []
    assert trainer.global_step == BATCHES


# -- around it -----------------------------------------------------------------------------------------------------------------


def test_each_action_is_logged_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = CSVLogger(tmp_path / "logs")
    guard = Guard(nonfinite="rewind", spikes="skip", rtol=5.0, warmup=2, margin=0)
    with caplog.at_level(logging.INFO, "lx"):
        fit(Net(), batches({3: 1000.0, 6: NAN}), guard, every(tmp_path), logger=logger, log_every_n_steps=1)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("guard: ")]
    assert re.fullmatch("guard: the loss of batch 3 in epoch 0 is .*: the batch is skipped.", lines[0])
    assert re.fullmatch(
        "guard: .* the run goes back to '.*step=4.ckpt', to batch 5 of epoch 0, and passes over the batches 6 to 6 of epoch 0.", lines[1]
    )
    header, *rows = [line.split(",") for line in Path(logger.log_dir, "metrics.csv").read_text().splitlines()]
    values = {name: [row[place] for row in rows if row[place]] for place, name in enumerate(header)}
    assert [float(value) for value in values["guard/skipped_batches"]] == [1.0, 2.0]
    assert [float(value) for value in values["guard/rewinds"]] == [1.0]
    assert [one["action"] for one in guard.actions] == ["skip", "rewind"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"nonfinite": "halt"}, "nonfinite='halt': it must be one of 'stop', 'skip', 'rewind', 'ignore'"),
        ({"spikes": True}, "spikes=True"),
        ({"gradients": "yes"}, "gradients='yes'"),
        ({"rtol": -1}, "rtol=-1"),
        ({"rtol": None}, "rtol=None"),
        ({"window": 0}, "window=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"margin": -1}, "margin=-1"),
        ({"limit": 3}, "limit=3: it must be two numbers"),
        ({"limit": (1, 0)}, "limit=0"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(MisconfigurationException, match=said.replace("(", r"\(")):
        Guard(**arguments)


class Manual(Net):
    """Steps by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


@pytest.mark.parametrize("arguments", [{"nonfinite": "skip"}, {"spikes": "rewind"}])
def test_manual_optimization_can_only_be_stopped(arguments: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationException, match=r"guard\(.*\) does not work with automatic_optimization=False"):
        fit(Manual(), batches(), Guard(**arguments))
    with pytest.raises(NonFiniteLossError, match="batch 2 in epoch 0"):
        fit(Manual(), batches({2: NAN}), Guard())


def test_a_part_of_a_batch_cannot_be_skipped(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="micro_batch_size"):
        fit(Net(), batches(), Guard(nonfinite="skip"), micro_batch_size=2)
    with pytest.raises(NonFiniteLossError):
        fit(Net(), batches({2: NAN}), Guard(), micro_batch_size=2)


def test_after_a_run_nothing_is_around_the_step(tmp_path: Path) -> None:
    assert fit(Net(), batches(), Guard()).fit_loop.around_step is None
