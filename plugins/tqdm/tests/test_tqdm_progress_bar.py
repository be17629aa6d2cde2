"""What the tqdm bar shows, when it draws, and what it leaves on the screen."""

import itertools
import pickle
import re
import threading
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lx import Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import TinyDataModule, TinyModule, fake_plugin_manager
from lx.testing.conformance.callback import CallbackConformance
from lx_plugin_tqdm.callback import TQDMProgressBar
from lx_plugin_tqdm.line import Tqdm


class TestTQDMProgressBar(CallbackConformance):
    component = "tqdm"


class Clock:
    """A clock that goes on by `step` whenever a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


class Module(TinyModule):
    """Shows its losses in the bar; `at` holds functions to call within steps, by the step's name."""

    def __init__(self, **at) -> None:
        super().__init__()
        self.at = at

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("loss", loss, prog_bar=True)
        self.at.get("training", lambda idx: None)(batch_idx)
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("score", torch.tensor(0.25), prog_bar=True, add_dataloader_idx=False)
        self.at.get("validation", lambda idx: None)(batch_idx)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.at.get("test", lambda idx: None)(batch_idx)


def trainer(bar, **settings):
    arguments = {"max_epochs": 2, "logger": False, "manager": fake_plugin_manager(), **settings}
    return Trainer(callbacks=[bar], **arguments)


def idle_trainer(batches=10, **more):
    """As much of a trainer as the events that a test calls by hand look at."""
    known = {"is_global_zero": True, "sanity_checking": False, "max_epochs": 3, "current_epoch": 0, "lightning_module": None}
    counts = {"num_training_batches": batches, "num_eval_batches": [batches]}
    return SimpleNamespace(**{**known, **counts, "logger": None, "progress_bar_metrics": {}, **more})


def start(bar, owner):
    bar.setup(owner, None, "fit")
    bar.on_train_start(owner, None)
    bar.on_train_epoch_start(owner, None)


def test_fit_leaves_one_line(terminal):
    trainer(TQDMProgressBar()).fit(Module(), datamodule=TinyDataModule())
    (line,) = terminal.screen()
    assert re.fullmatch(r"Epoch 1/1: 100%\|█+\| 4/4 \[00:00<00:00, [\d.]+it/s, loss=\d\.\d+, score=0.250\]", line), line
    assert terminal.getvalue().endswith("\n")


def test_leave_keeps_a_line_per_epoch(terminal):
    trainer(TQDMProgressBar(leave=True), max_epochs=3).fit(Module(), datamodule=TinyDataModule())
    assert [line[:16] for line in terminal.screen()] == ["Epoch 0/2: 100%|", "Epoch 1/2: 100%|", "Epoch 2/2: 100%|"]


def test_endless_training_names_no_last_epoch(terminal):
    trainer(TQDMProgressBar(), max_epochs=-1, max_steps=6).fit(Module(), datamodule=TinyDataModule())
    (line,) = terminal.screen()
    assert line.startswith("Epoch 1:  50%|")
    assert "2/4" in line


def test_validation_is_shown_under_the_epoch(terminal):
    clock, seen = Clock(), []

    def validating(batch_idx):
        clock.now += 1
        seen.append(terminal.screen())

    bar = TQDMProgressBar()
    bar.clock = clock
    trainer(bar, max_epochs=1, num_sanity_val_steps=0).fit(Module(validation=validating), datamodule=TinyDataModule())
    above, below = seen[2]
    assert above.startswith("Epoch 0/0: 100%|")
    assert "4/4" in above
    assert below.startswith("Validation:  50%|")
    assert "2/4" in below
    assert len(terminal.screen()) == 1, "the validation's bar stays"


def test_sanity_check_is_shown_and_wiped(terminal):
    seen = []
    trainer(TQDMProgressBar(), max_epochs=1, limit_val_batches=1).fit(
        Module(validation=lambda idx: seen.append(terminal.screen())), datamodule=TinyDataModule()
    )
    assert seen[0][0].startswith("Sanity Checking:   0%|")
    assert len(terminal.screen()) == 1


def test_other_entry_points_leave_a_line_each(terminal):
    one = trainer(TQDMProgressBar())
    one.validate(Module(), datamodule=TinyDataModule(), verbose=False)
    one.test(Module(), datamodule=TinyDataModule(), verbose=False)
    one.predict(TinyModule(), datamodule=TinyDataModule())
    lines = terminal.screen()
    assert [line.split(":")[0] for line in lines] == ["Validation", "Testing", "Predicting"]
    assert all("100%" in line and "4/4" in line for line in lines)


def test_several_loaders_are_numbered(terminal):
    seen = []
    loaders = [TinyDataModule().val_dataloader(), TinyDataModule(length=8).val_dataloader()]
    bar = TQDMProgressBar()
    bar.clock = clock = Clock()

    def testing(batch_idx):
        clock.now += 1
        seen.append(terminal.screen()[0])

    trainer(bar).test(Module(test=testing), loaders, verbose=False)
    assert [line.split("|")[0] for line in seen[1:4]] == [f"Testing DataLoader 0: {percent}%" for percent in (" 25", " 50", " 75")]
    assert terminal.screen()[0].startswith("Testing DataLoader 1: 100%|")
    assert "2/2" in terminal.screen()[0]


def test_loader_without_a_length(terminal):
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(torch.randn(12, 8))

    loaders = DataLoader(Endless(), batch_size=4), TinyDataModule().val_dataloader()
    trainer(TQDMProgressBar(), max_epochs=1, limit_val_batches=0).fit(Module(), *loaders)
    (line,) = terminal.screen()
    assert re.fullmatch(r"Epoch 0/0: 3 \[00:00, [\d.]+it/s, loss=[\d.]+\]", line), line


def test_prints_stand_above_the_bar(terminal):
    module = Module(training=lambda idx: module.print("batch", idx, sep="-") if idx == 1 else None)
    trainer(TQDMProgressBar(), max_epochs=1).fit(module, datamodule=TinyDataModule())
    assert terminal.screen()[0] == "batch-1"
    assert terminal.screen()[1].startswith("Epoch 0/0: 100%|")


def test_print_without_a_bar_is_the_builtin(capsys):
    TQDMProgressBar().print("a", 1, sep="-", end="!\n")
    assert capsys.readouterr().out == "a-1!\n"


def test_a_log_gets_one_line_per_epoch(log):
    trainer(TQDMProgressBar(), max_epochs=3).fit(Module(), datamodule=TinyDataModule())
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"Epoch 2/2: 4/4 \[00:00, [\d.]+it/s, loss=[\d.]+, score=0.250\]", lines[2]), lines[2]
    assert not set(log.getvalue()) & {"\r", "\x1b"}


def test_a_log_gets_a_line_per_minute_of_a_long_epoch(log):
    bar = TQDMProgressBar()
    bar.clock = clock = Clock()
    owner = idle_trainer(100)
    start(bar, owner)
    for batch_idx in range(100):
        clock.now += 3
        bar.on_train_batch_end(owner, None, None, None, batch_idx)
    bar.on_train_epoch_end(owner, None)
    counts = [int(re.search(r": (\d+)/100", line)[1]) for line in log.getvalue().splitlines()]
    assert counts == [20, 40, 60, 80, 100, 100]


def test_other_entry_points_in_a_log(log):
    one = trainer(TQDMProgressBar())
    one.test(Module(), datamodule=TinyDataModule(), verbose=False)
    one.predict(TinyModule(), datamodule=TinyDataModule())
    assert [line.split(" [")[0] for line in log.getvalue().splitlines()] == ["Testing: 4/4", "Predicting: 4/4"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["training", "validation"])
def test_errors_leave_the_terminal_clean(terminal, error, where):
    def fail(batch_idx):
        if batch_idx == 2:
            raise error("stop here")

    with pytest.raises(RuntimeError if error is RuntimeError else SystemExit):
        trainer(TQDMProgressBar()).fit(Module(**{where: fail}), datamodule=TinyDataModule())
    (line,) = terminal.screen()
    assert ("2/4" if where == "training" else "4/4") in line
    assert terminal.getvalue().endswith("\n"), "what is printed next would stand behind the bar"


def test_errors_read_no_metrics(terminal):
    bar, reads = TQDMProgressBar(), []
    bar.get_metrics = lambda *_: reads.append(1) or {}
    owner = idle_trainer()
    start(bar, owner)
    bar.on_train_batch_end(owner, None, None, None, 0)
    before = len(reads)
    bar.on_exception(owner, None, RuntimeError())
    bar.teardown(owner, None, "fit")
    assert len(reads) == before


def test_metrics_are_read_when_it_draws_and_it_draws_ten_times_a_second(terminal):
    bar, drawn = TQDMProgressBar(), []
    bar.clock = clock = Clock()
    bar.get_metrics = lambda *_: drawn.append(clock.now) or {}
    owner = idle_trainer(10_000)
    start(bar, owner)
    for batch_idx in range(10_000):
        clock.now += 0.001
        bar.on_train_batch_end(owner, None, None, None, batch_idx)
    assert 80 <= len(drawn) <= 100
    assert min(after - before for before, after in itertools.pairwise(drawn)) > 0.099
    assert clock.looks < 2_000, "it looks at the clock at every batch"


def test_slow_batches_are_drawn_each(terminal):
    bar, drawn = TQDMProgressBar(), []
    bar.clock = clock = Clock()
    bar.get_metrics = lambda *_: drawn.append(clock.now) or {}
    owner = idle_trainer(20)
    start(bar, owner)
    for batch_idx in range(20):
        clock.now += 5
        bar.on_train_batch_end(owner, None, None, None, batch_idx)
    assert len(drawn) == 20


def test_refresh_rate_counts_batches(terminal):
    bar, drawn = TQDMProgressBar(refresh_rate=4), []
    bar.clock = clock = Clock()
    owner = idle_trainer(10)
    bar.get_metrics = lambda *_: drawn.append(batch_idx + 1) or {}
    start(bar, owner)
    for batch_idx in range(10):
        clock.now += 5
        bar.on_train_batch_end(owner, None, None, None, batch_idx)
    assert drawn == [4, 8]
    bar.on_train_epoch_end(owner, None)
    assert drawn == [4, 8, 10], "the end of an epoch is always drawn"
    assert "10/10" in terminal.screen()[0]


def test_an_epoch_resumed_midway_goes_on_from_there(terminal):
    bar = TQDMProgressBar()
    bar.clock = clock = Clock()
    owner = idle_trainer(50)
    bar.setup(owner, None, "fit")
    bar.on_train_start(owner, None)  # and no on_train_epoch_start
    for batch_idx in range(30, 40):
        clock.now += 1
        bar.on_train_batch_end(owner, None, None, None, batch_idx)
    assert "40/50" in terminal.screen()[0]
    assert bar.train_progress_bar.initial == 30


def test_time_of_validation_does_not_count(terminal):
    bar = TQDMProgressBar()
    bar.clock = clock = Clock()
    owner = idle_trainer(4)
    start(bar, owner)
    for batch_idx in range(4):
        bar.on_train_batch_end(owner, None, None, None, batch_idx)
    began = bar.train_progress_bar.start_t
    bar.on_validation_start(owner, None)
    clock.now += 1000
    bar.on_validation_end(owner, None)
    assert bar.train_progress_bar.start_t == pytest.approx(began + 1000, abs=1)


def test_validations_in_quick_succession_are_not_drawn(terminal):
    bar = TQDMProgressBar()
    bar.clock = clock = Clock()
    owner = idle_trainer(100)
    start(bar, owner)
    made = []
    make = bar.init_validation_tqdm
    bar.init_validation_tqdm = lambda: made.append(1) or make()
    for batch_idx in range(20):
        clock.now += 0.001
        bar.on_train_batch_end(owner, None, None, None, batch_idx)
        bar.on_validation_start(owner, None)
        bar.on_validation_batch_end(owner, None, None, None, 0)
        bar.on_validation_end(owner, None)
    assert len(made) == 1


@pytest.mark.parametrize("bar", [TQDMProgressBar(refresh_rate=0), TQDMProgressBar()])
def test_disabled_bars_listen_to_nothing(bar):
    bar.disable()
    listened = [event for event in dir(bar) if event.startswith("on_") and bar.listens_to(event)]
    assert not listened
    assert bar.is_disabled
    assert bar.listens_to("setup")


def test_other_ranks_are_disabled(terminal):
    bar = TQDMProgressBar()
    owner = idle_trainer(is_global_zero=False)
    start(bar, owner)
    assert not bar.listens_to("on_train_batch_end")
    bar.on_train_batch_end(owner, None, None, None, 0)
    bar.on_validation_start(owner, None)
    bar.on_validation_batch_end(owner, None, None, None, 0)
    bar.on_validation_end(owner, None)
    assert terminal.getvalue() == ""


def test_disable_and_enable_while_it_runs(terminal):
    bar = TQDMProgressBar()
    owner = idle_trainer()
    start(bar, owner)
    bar.disable()
    bar.on_train_batch_end(owner, None, None, None, 0)
    assert terminal.screen() == [""]
    bar.enable()
    bar.on_train_epoch_start(owner, None)
    assert terminal.screen()[0].startswith("Epoch 0/2:   0%|")
    bar.teardown(owner, None, "fit")


@pytest.mark.parametrize("rate", [-1, "x", 0.5, None])
def test_rates_that_are_no_number_of_batches_are_refused(rate):
    with pytest.raises(MisconfigurationException, match=rf"refresh_rate is {rate!r}; give .* 0 to disable"):
        TQDMProgressBar(refresh_rate=rate)


@pytest.mark.parametrize(
    ("variable", "given", "rate"),
    [("TQDM_MINITERS", 1, 7), ("TQDM_MINITERS", 9, 9), ("TQDM_MINITERS", 0, 0), ("COLAB_GPU", 1, 20), ("COLAB_GPU", 2, 2)],
)
def test_the_environment_raises_the_rate(monkeypatch, variable, given, rate):
    monkeypatch.delenv("TQDM_MINITERS", raising=False)
    monkeypatch.setenv(variable, "7")
    assert TQDMProgressBar(refresh_rate=given).refresh_rate == rate


def test_process_position_moves_the_bar_down(terminal):
    bar = TQDMProgressBar(process_position=1)
    start(bar, idle_trainer())
    lines = terminal.screen()
    assert lines[:2] == ["", ""]
    assert lines[2].startswith("Epoch 0/2:")
    bar.teardown(None, None, "fit")


def test_bars_can_be_made_otherwise(terminal):
    class Mine(TQDMProgressBar):
        train_description = "Round"

        def init_train_tqdm(self):
            bar = super().init_train_tqdm()
            bar.bar_format = "{desc} at {n_fmt}"
            return bar

        def get_metrics(self, trainer, pl_module):
            return {**super().get_metrics(trainer, pl_module), "mine": 1}

    trainer(Mine(), max_epochs=1).fit(Module(), datamodule=TinyDataModule())
    assert terminal.screen() == ["Round 0/0 at 4"]


@pytest.mark.parametrize(
    "line",
    [
        "Epoch 1/9:  24%|██████▉                      | 12/50 [00:03<00:09,  4.00it/s, loss=0.123, accuracy=0.912, v_num=3]",
        "Epoch 1/9:  24%|█▉      | 12/50 [00:03<00:09,  4.00it/s, loss=0.123, accuracy=0.912]",
        "Epoch 1/9:  24%|██▉         | 12/50 [ 4.00it/s, loss=0.123, accuracy=0.912]",
        "Epoch 1/9:  24%| 12/50 [ 4.00it/s, loss=0.123, accuracy=0.912]",
        "Epoch 1/9:  24%| 12/50 [ 4.00it/s, loss=0.123, ...]",
        "Epoch 1/9:  24%| 12/50 [ 4.00it/s, l",
    ],
)
def test_what_matters_least_makes_room_where_a_line_is_narrow(line):
    known = {"n": 12, "total": 50, "elapsed": 3.0, "prefix": "Epoch 1/9", "rate": 4.0, "bar_format": TQDMProgressBar.BAR_FORMAT}
    width = len(line) + len("^C")  # an interrupt echoes it, and must not wrap
    assert Tqdm.format_meter(ncols=width, postfix="loss=0.123, accuracy=0.912, v_num=3", **known) == line


def test_no_thread_is_started(terminal):
    before = Tqdm.monitor, set(threading.enumerate())  # another library may have had tqdm start one
    bar = TQDMProgressBar()
    start(bar, idle_trainer())
    assert (Tqdm.monitor, set(threading.enumerate())) == before
    bar.teardown(None, None, "fit")


def test_it_can_be_pickled_after_a_run(terminal):
    bar = TQDMProgressBar()
    one = trainer(bar)
    one.fit(Module(), datamodule=TinyDataModule())
    bar._trainer = None  # the trainer is no concern of this test
    assert pickle.loads(pickle.dumps(bar)).refresh_rate == 1
