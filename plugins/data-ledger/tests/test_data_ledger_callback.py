"""What the callback writes in runs of every kind, and what is read of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Sampler, TensorDataset

from lx import Callback, Trainer
from lx.data import CombinedLoader
from lx.kernel.errors import ArgumentTypeError, ArgumentValueError, MisconfigurationException, RewindRun
from lx.testing import TinyModule
from lx_plugin_data_ledger import DataLedger, Report, read, verify

pytestmark = pytest.mark.filterwarnings("ignore:.* has a validation_step", "ignore:the training loader has 2 workers")

ROWS = TensorDataset(torch.randn(26, 8, generator=torch.Generator().manual_seed(1)))
"""Seven batches of four, of which the last has two."""


class Net(TinyModule):
    """Takes what comes: a batch, or the batches of several loaders."""

    def __init__(self, skips: tuple[int, ...] = (), ends_at: int | None = None) -> None:
        super().__init__()
        self.skips, self.ends_at = skips, ends_at

    def loss(self, batch: Any) -> Any:
        rows = batch[0] if isinstance(batch, list | tuple) else batch
        return super().loss(rows.reshape(-1, 8))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == self.ends_at else None

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx in self.skips:
            return None
        batches = [each for each in (batch.values() if isinstance(batch, dict) else [batch]) if each is not None]
        return sum(self.loss(each) for each in batches)


class ByHand(Net):
    """Takes two steps a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch[0]))
            optimizer.step()


class EvaluatesAgain(Net):
    """Has its closure run within the optimizer, so that the gradients of an open window are in no checkpoint."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class At(Callback):
    """Does something when an event comes for the n-th time, the first being 0."""

    def __init__(self, event: str, call: int, action: Callable[[Trainer], Any]) -> None:
        self.call, self.calls, self.action = call, 0, action
        setattr(self, event, self._act)

    def _act(self, trainer: Trainer, *_: Any) -> None:
        self.calls += 1
        if self.calls == self.call + 1:
            self.action(trainer)


class Killed(Exception):
    """Ends a run."""


def kill(trainer: Trainer) -> None:
    """Ends the run."""
    raise Killed


def saving(batch: int, path: Path) -> At:
    """Saves after a batch, which is counted over all epochs."""
    return At("on_train_batch_end", batch, lambda trainer: trainer.save_checkpoint(path))


def loader(length: int = 26, **settings: Any) -> DataLoader[Any]:
    """A loader over the first rows."""
    if "batch_sampler" not in settings:
        settings = {"batch_size": 4, **settings}
    return DataLoader(torch.utils.data.Subset(ROWS, range(length)), **settings)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Trainer]:
    """Trains with a ledger in the folder of the test."""

    def run(loaders: Any, model: Any = None, *callbacks: Callback, ledger: Any = None, ckpt_path: Any = None, **settings: Any) -> Trainer:
        off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        given = {"accelerator": "cpu", "max_epochs": 2, "default_root_dir": tmp_path, **off, **settings}
        trainer = Trainer(callbacks=[*callbacks, ledger or DataLedger()], **given)
        trainer.fit(model or Net(), loaders, ckpt_path=ckpt_path)
        return trainer

    return run


def lines(report: Report) -> list[str]:
    """The report, line by line."""
    return str(report).splitlines()


def file_of(folder: Path) -> Path:
    """The only file of a ledger."""
    (path,) = folder.glob("data_ledger/*/rank-0.jsonl")
    return path


# -- whole runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shuffle", "settings"),
    [
        (False, {}),
        (True, {}),
        (True, {"num_workers": 2}),
        (True, {"num_workers": 2, "persistent_workers": True}),
        (False, {"num_workers": 1, "prefetch_factor": 4}),
        (True, {"batch_size": None}),
    ],
    ids=str,
)
def test_every_sample_is_seen_once(shuffle: bool, settings: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path) -> None:
    torch.manual_seed(3)
    fit(loader(shuffle=shuffle, **settings))
    report = verify(tmp_path)
    assert lines(report) == [f"epoch {epoch}: 26 of 26 samples exactly once" for epoch in (0, 1)]
    assert report.ok
    orders = [[index for entry in read(tmp_path).entries() if entry.epoch == epoch for index in entry.indices] for epoch in (0, 1)]
    assert (orders[0] != orders[1]) == shuffle


def test_what_is_noted_is_what_was_trained_on(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    trained: list[list[float]] = []

    class Notes(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            trained.append(batch[0][:, 0].tolist())
            return super().training_step(batch, batch_idx)

    fit(loader(shuffle=True, num_workers=2), Notes())
    noted = [[ROWS[index][0][0].item() for index in entry.indices] for entry in read(tmp_path).entries()]
    assert noted == trained


def test_a_line_says_what_went_into_a_step(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    fit(loader(), max_epochs=1, accumulate_grad_batches=3)
    header, declared, *batches, end = map(json.loads, file_of(tmp_path).read_text().splitlines())
    assert {key: header[key] for key in ("ledger", "rank", "world_size", "after", "from", "step")} == {
        "ledger": 1,
        "rank": 0,
        "world_size": 1,
        "after": None,
        "from": [0, 0],
        "step": 0,
    }
    assert declared == {
        "epoch": 0,
        "batches": 7,
        "mode": "min_size",
        "loaders": [{"dataset": "Subset", "samples": 26, "batches": 7, "batch_size": 4, "share": 26}],
    }
    assert [(line["batch"], line["step"]) for line in batches] == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3)]
    assert batches[1]["indices"] == ["4:8"]
    assert end == {"epoch": 0, "ends_with_step": 3}
    assert [entry.batch for entry in read(tmp_path).of_step(2)] == [3, 4, 5]
    (entry,) = read(tmp_path).of_sample(25)
    assert (entry.epoch, entry.batch, entry.step, entry.indices) == (0, 6, 3, [24, 25])


def test_lines_are_written_as_often_as_asked(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    seen = []
    look = At("on_train_batch_end", 4, lambda trainer: seen.append(file_of(tmp_path).read_text().count('"batch"')))
    fit(loader(), None, look, ledger=DataLedger(flush_every_n_steps=2), max_epochs=1)
    assert seen == [4]


def test_batches_that_a_step_skips_are_told(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    fit(loader(), Net(skips=(1, 6)), max_epochs=1)
    assert lines(verify(tmp_path)) == ["epoch 0: 26 of 26 samples exactly once, 6 of them skipped by the step"]
    entries = list(read(tmp_path).entries())
    assert [entry.step for entry in entries] == [1, None, 2, 3, 4, 5, None]
    assert [entry.skipped for entry in entries] == [entry.step is None for entry in entries]


def test_a_module_that_ends_an_epoch_has_not_seen_the_rest(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    fit(loader(), Net(ends_at=3))
    report = verify(tmp_path)
    assert not report.ok
    assert lines(report) == [
        "epoch 0: 16 of 26 samples exactly once, the epoch ended after 4 of 7 batches, 4 of them skipped by the step",
        "epoch 1: 16 of 26 samples exactly once, after 4 of 7 batches, 4 of them skipped by the step",
    ]


def test_a_window_that_is_given_up_has_no_step(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    stop = At("on_train_batch_end", 4, lambda trainer: setattr(trainer, "should_stop", True))
    fit(loader(), None, stop, accumulate_grad_batches=3)
    entries = list(read(tmp_path).entries())
    assert [(entry.step, entry.skipped) for entry in entries] == [(1, False)] * 3 + [(None, False)] * 2


def test_a_step_by_hand_may_be_one_of_several(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    fit(loader(), ByHand(), max_epochs=1)
    ledger = read(tmp_path)
    assert [entry.batch for step in (1, 2, 3, 14) for entry in ledger.of_step(step)] == [0, 0, 1, 6]
    assert not any(entry.skipped for entry in ledger.entries())


def test_fast_dev_run_leaves_nothing(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    fit(loader(), fast_dev_run=True)
    assert not list(tmp_path.rglob("data_ledger"))


# -- what loaders draw ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "limits", "verdict"),
    [
        ({"drop_last": True}, {}, "24 of 26 samples exactly once, as the loader draws 24"),
        ({}, {"limit_train_batches": 3}, "12 of 26 samples exactly once, as the loader draws 12"),
        ({}, {"limit_train_batches": 3, "overfit_batches": 2}, "8 of 26 samples exactly once, as the loader draws 8"),
        ({"sampler": RandomSampler(range(26), replacement=True)}, {}, "26 draws of 26 samples, with replacement"),
        ({"batch_sampler": BatchSampler(range(26), 5, False)}, {}, "26 of 26 samples exactly once"),
        ({"batch_size": None, "sampler": BatchSampler(range(26), 5, False)}, {}, "26 of 26 samples exactly once"),
    ],
    ids=["the last dropped", "a limit", "two limits", "with replacement", "batches", "batches as samples"],
)
@pytest.mark.filterwarnings("ignore:overfit_batches")
def test_what_a_loader_is_to_draw_is_known(
    settings: dict[str, Any], limits: dict[str, Any], verdict: str, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    fit(loader(**settings), **limits)
    report = verify(tmp_path)
    assert lines(report) == [f"epoch {epoch}: {verdict}" for epoch in (0, 1)]
    assert report.ok


class Twice(Sampler[int]):
    """Draws some samples twice, and others never."""

    def __len__(self) -> int:
        return 26

    def __iter__(self) -> Any:
        return iter([*range(20), *range(6)])


def test_a_sampler_that_draws_some_twice_is_told_with_them(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    fit(loader(sampler=Twice()), max_epochs=1)
    report = verify(tmp_path)
    assert not report.ok
    (account,) = report.accounts
    assert account.missing == tuple(range(20, 26))
    assert account.repeated == dict.fromkeys(range(6), 2)
    assert lines(report) == ["epoch 0: 14 of 26 samples exactly once, 6 never (20 to 25), 6 more than once (0 to 5)"]


def test_shorter_loaders_start_again(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    fit({"long": loader(shuffle=True), "short": loader(10, shuffle=True, num_workers=1)}, max_epochs=1)
    report = verify(tmp_path)
    assert report.ok
    assert lines(report) == [
        "epoch 0, loader 0: 26 of 26 samples exactly once",
        "epoch 0, loader 1, pass 1: 10 of 10 samples exactly once",
        "epoch 0, loader 1, pass 2: 10 of 10 samples exactly once",
        "epoch 0, loader 1, pass 3: 4 of 10 samples exactly once, as the loader draws 4",
    ]


@pytest.mark.parametrize(
    ("mode", "long"), [("max_size", "26 of 26 samples exactly once"), ("min_size", "8 of 26 samples exactly once, as the loader draws 8")]
)
def test_other_modes_of_several_loaders(mode: str, long: str, fit: Callable[..., Trainer], tmp_path: Path) -> None:
    combined = CombinedLoader({"long": loader(num_workers=1), "short": loader(10, num_workers=1)}, mode)
    combined.limits = [100, 2]
    fit(combined, max_epochs=1)
    report = verify(tmp_path)
    assert report.ok
    assert lines(report) == [f"epoch 0, loader 0: {long}", "epoch 0, loader 1: 8 of 10 samples exactly once, as the loader draws 8"]


def test_other_loaders_may_come_in_each_epoch(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    class Grows(Net):
        def train_dataloader(self) -> Any:
            return loader(10 * (self.trainer.current_epoch + 1), shuffle=True)

    fit(None, Grows(), reload_dataloaders_every_n_epochs=1)
    assert lines(verify(tmp_path)) == ["epoch 0: 10 of 10 samples exactly once", "epoch 1: 20 of 20 samples exactly once"]


@pytest.mark.parametrize("event", ["on_train_start", "on_train_epoch_start"])
def test_data_that_is_asked_for_again_in_a_hook_is_noted(event: str, fit: Callable[..., Trainer], tmp_path: Path) -> None:
    again = At(event, 0, lambda trainer: trainer.fit_loop.forget_data())
    again.phase = "first"  # type: ignore[misc]
    fit(loader(shuffle=True), None, again)
    assert lines(verify(tmp_path)) == [f"epoch {epoch}: 26 of 26 samples exactly once" for epoch in (0, 1)]


# -- runs that go on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("saved", "killed", "workers"), [(0, 0, 0), (2, 3, 0), (2, 5, 2), (6, 8, 0), (9, 10, 0), (9, 11, 2)])
def test_what_came_after_the_checkpoint_does_not_count(
    saved: int, killed: int, workers: int, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    torch.manual_seed(2)
    data = loader(shuffle=True, num_workers=workers)
    saves = saving(saved, tmp_path / "a.ckpt")
    kills = At("on_train_batch_end", killed, kill)
    with pytest.raises(Killed):
        fit(data, None, saves, kills)
    torch.manual_seed(4)
    fit(data, ckpt_path=tmp_path / "a.ckpt")
    report = verify(tmp_path)
    assert report.ok, report
    epochs = [f"epoch {epoch}: 26 of 26 samples exactly once" for epoch in (0, 1)]
    if saved != 6:  # the last batch of the epoch: there is nothing of it to go on with
        epochs[saved // 7] += ", 1 restart"
    assert lines(report) == epochs
    assert report.restarts == 1
    assert len(list(read(tmp_path).entries())) == 14
    assert len(list(read(tmp_path, "1").entries())) == killed + 1


def test_the_first_in_the_hooks_of_a_batch_may_save(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    saves = saving(2, tmp_path / "a.ckpt")
    saves.phase = "first"  # type: ignore[misc]
    fit(loader(), None, saves, max_epochs=1)
    fit(loader(), ckpt_path=tmp_path / "a.ckpt", max_epochs=1)
    assert lines(verify(tmp_path)) == ["epoch 0: 26 of 26 samples exactly once, 1 restart"]


@pytest.mark.parametrize("accumulate", [2, 3, 5])
@pytest.mark.parametrize("mode", ["max_size_cycle", "max_size"])
def test_batches_that_come_again_are_noted_once(accumulate: int, mode: str, fit: Callable[..., Trainer], tmp_path: Path) -> None:
    def data() -> Any:
        return CombinedLoader({"long": loader(shuffle=True), "short": loader(6)}, mode)

    settings = {"max_epochs": 1, "accumulate_grad_batches": accumulate}
    for batch in (0, 2, 3):
        path = tmp_path / f"{batch}.ckpt"
        saves = saving(batch, path)
        fit(data(), EvaluatesAgain(), saves, **settings)
        fit(data(), EvaluatesAgain(), ckpt_path=path, **settings)
        report = verify(tmp_path)
        assert report.ok, str(report)
        assert lines(report)[0] == "epoch 0, loader 0: 26 of 26 samples exactly once, 1 restart"


def test_it_goes_on_from_runs_that_went_on(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    for number in range(1, 5):
        path = tmp_path / f"{number}.ckpt"
        saves = saving(2, path)
        before = tmp_path / f"{number - 1}.ckpt" if number > 1 else None
        with pytest.raises(Killed):
            fit(loader(shuffle=True), None, saves, At("on_train_batch_end", 3, kill), ckpt_path=before)
    fit(loader(shuffle=True), ckpt_path=tmp_path / "4.ckpt")
    assert lines(verify(tmp_path)) == [
        "epoch 0: 26 of 26 samples exactly once, 2 restarts",
        "epoch 1: 26 of 26 samples exactly once, 2 restarts",
    ]
    fit(loader(shuffle=True), ckpt_path=tmp_path / "1.ckpt")  # on from an older one, after all
    assert [run.name[:4] for run in read(tmp_path).runs] == ["0001", "0006"]
    assert verify(tmp_path).ok
    assert verify(tmp_path, run="5").restarts == 4


@pytest.mark.parametrize(("saved", "back"), [(2, 3), (2, 5), (6, 8), (8, 12)])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_that_goes_back_in_its_process_has_one_account(
    accumulate: int, saved: int, back: int, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    def go_back(trainer: Trainer) -> None:
        raise RewindRun(torch.load(tmp_path / "a.ckpt", weights_only=True))

    callbacks = saving(saved, tmp_path / "a.ckpt"), At("on_before_backward", back, go_back)
    fit(loader(shuffle=True), None, *callbacks, accumulate_grad_batches=accumulate)
    report = verify(tmp_path)
    assert report.ok, str(report)
    assert [(account.once, account.finished) for account in report.accounts] == [(26, True)] * 2
    assert report.restarts == 1
    steps = {entry.step for entry in read(tmp_path).entries()}
    assert steps == set(range(1, len(steps) + 1))


def test_one_trainer_may_fit_again(tmp_path: Path, fit: Callable[..., Trainer]) -> None:
    trainer = fit(loader(), max_epochs=1)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(Net(), loader())
    report = verify(tmp_path)
    assert (len(report.accounts), report.restarts, report.ok) == (3, 1, True)


def test_an_evaluation_of_a_checkpoint_changes_nothing(tmp_path: Path, fit: Callable[..., Trainer]) -> None:
    trainer = fit(loader(), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = fit(loader(), max_epochs=1)
    other.test(Net(), loader(), ckpt_path=tmp_path / "a.ckpt", verbose=False)
    other.fit_loop.max_epochs = 2
    other.fit(Net(), loader())
    assert [run.name[:4] for run in read(tmp_path).runs] == ["0002", "0003"]


def test_what_is_not_there_is_said(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    saves = saving(2, tmp_path / "a.ckpt")
    fit(loader(), None, saves, max_epochs=1)
    with pytest.warns(UserWarning, match="data_ledger: the checkpoint is of the run 0001-.*, which is not in .*elsewhere"):
        fit(loader(), ledger=DataLedger(tmp_path / "elsewhere"), ckpt_path=tmp_path / "a.ckpt", max_epochs=1)
    report = verify(tmp_path / "elsewhere")
    assert not report.ok
    (problem,) = report.problems
    assert problem.startswith("the account begins with epoch 0, batch 3: it went on from the run 0001-")


# -- what cannot be -------------------------------------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    """Rows without numbers."""

    def __iter__(self) -> Any:
        return iter(ROWS)


class Endless(Sampler[int]):
    """Draws without an end."""

    def __iter__(self) -> Any:
        while True:
            yield 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataLoader(Stream(), batch_size=4), "data_ledger: the training loader: Stream is iterable, so that its samples have no numbers"),
        ([(torch.ones(4, 8),)], "data_ledger: the training loader: list has no sampler that draws indices; a torch.utils.data.DataLoader"),
        (loader(sampler=Endless()), "data_ledger: the training loader: BatchSampler has no length, so that nobody knows when an epoch"),
        (
            {"numbered": loader(), "stream": DataLoader(Stream(), batch_size=4)},
            r"data_ledger: loader 1: Stream is iterable.* The other 1 of 2 loaders would do\. Change that, or leave the callback out",
        ),
    ],
)
def test_data_without_indices_is_refused_before_a_batch(data: Any, said: str, fit: Callable[..., Trainer], tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        fit(data, max_steps=1)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_step_that_fetches_itself_is_refused(fit: Callable[..., Trainer]) -> None:
    class Fetches(TinyModule):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            return self.loss(next(dataloader_iter)[0])

    with pytest.raises(MisconfigurationException, match=r"data_ledger: training_step\(dataloader_iter\) takes its batches unseen"):
        fit(loader(), Fetches())


def test_arguments_are_judged_at_once() -> None:
    with pytest.raises(ArgumentTypeError, match="dirpath=3: it must be a path"):
        DataLedger(3)  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationException, match="dirpath='s3://bucket/runs': it is on no file system of this machine"):
        DataLedger("s3://bucket/runs")
    with pytest.raises(ArgumentTypeError, match=r"flush_every_n_steps=1\.5: it must be a number of batches"):
        DataLedger(flush_every_n_steps=1.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentValueError, match="flush_every_n_steps=0: it must be a number of batches, 1 or more"):
        DataLedger(flush_every_n_steps=0)
