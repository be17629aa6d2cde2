"""What a watchdog does in a run; time passes when a test says so."""

import subprocess
import sys
import threading
from textwrap import dedent

import pytest

from lx import Callback, Trainer
from lx.kernel.errors import ArgumentTypeError, LxError, MisconfigurationException
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_watchdog import callback
from lx_plugin_watchdog.callback import EXIT_CODE, Watchdog, WatchdogTimeout

pytestmark = pytest.mark.filterwarnings("ignore:an epoch has 4 training batches")


class ByHand:
    """In the place of the thread: a test looks itself."""

    def __init__(self, look, pause):
        self.running = False

    def start(self):
        self.running = True

    def stop(self):
        self.running = False


class Clock:
    """Time that passes second by second, and has the watchdog look at each."""

    def __init__(self):
        self.now = 1000.0
        self.watchdog = None

    def __call__(self):
        return self.now

    def hang(self, seconds):
        for _ in range(round(seconds)):
            self.now += 1
            self.watchdog.look(self.now)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(callback, "monotonic", clock)
    monkeypatch.setattr(callback, "Looker", ByHand)
    return clock


@pytest.fixture
def trainer(tmp_path, clock):
    """Makes a Trainer whose first callback is a watchdog of 100 s, and 300 s for the first step."""

    def make(*callbacks, max_epochs=1, **arguments):
        watchdog = clock.watchdog = Watchdog(**{"bound": "100s", **arguments})
        quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False)
        return Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            default_root_dir=tmp_path,
            num_sanity_val_steps=0,
            callbacks=[watchdog, *callbacks],
            **quiet,
        )

    return make


class Hangs(TinyModule):
    """Takes as long for each training step, and each validation step, as it is told."""

    def __init__(self, clock, *training, validation=()):
        super().__init__()
        self.clock, self.training_seconds, self.validation_seconds = clock, list(training), list(validation)

    def this_takes_long(self, times):
        if times:
            self.clock.hang(times.pop(0))

    def training_step(self, batch, batch_idx):
        self.this_takes_long(self.training_seconds)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.this_takes_long(self.validation_seconds)
        return super().validation_step(batch, batch_idx)


class Told(Callback):
    """Notes what ended a run, and who was told."""

    def __init__(self):
        self.called = []

    def on_exception(self, trainer, pl_module, exception):
        self.called.append(type(exception).__name__)

    def teardown(self, trainer, pl_module, stage):
        self.called.append("teardown")


def lines(capsys):
    """What the watchdog said, without the stacks."""
    return [line.removeprefix("lx: watchdog: ") for line in capsys.readouterr().err.splitlines() if line.startswith("lx: watchdog: ")]


# -- reports -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def goes_on(clock, monkeypatch):
    """Lets a second pass after each batch, in which the watchdog sees that it was done."""
    monkeypatch.setattr(TinyModule, "on_train_batch_end", lambda self, *args: clock.hang(1), raising=False)


@pytest.mark.usefixtures("goes_on")
def test_a_step_that_hangs_is_reported_with_its_stack_and_the_run_goes_on(trainer, clock, capsys):
    one = trainer(on_hang="report")
    one.fit(Hangs(clock, 0, 0, 112), TinyDataModule())
    assert one.global_step == 4
    text = capsys.readouterr().err
    assert "nothing has moved for 1 min 40 s, and the bound is 1 min 40 s (process" in text
    assert "where it stands: fit, epoch 0, batch 3 of 4 in its step; 2 optimizer steps done, the last event on_train_epoch_start." in text
    assert "threads: MainThread (trains) 0x" in text
    assert "child processes: " in text
    assert "in this_takes_long\n" in text
    assert text.count("in this_takes_long\n") == 1
    assert text.endswith("lx: watchdog: the step took 1 min 52 s; the run goes on.\n")


@pytest.mark.usefixtures("goes_on")
def test_each_hang_is_told_once_and_again_after_ever_longer(trainer, clock, capsys):
    trainer(on_hang="report").fit(Hangs(clock, 10, 101, 100, 750), TinyDataModule())
    told = [line for line in lines(capsys) if "moved" in line or "took" in line]
    assert [line.partition(",")[0] for line in told] == [
        "nothing has moved for 1 min 40 s",
        "the step took 1 min 41 s; the run goes on.",
        "nothing has moved for 1 min 40 s",
        "nothing has moved for 5 min",
        "nothing has moved for 11 min 40 s",
        "the step took 12 min 30 s; the run goes on.",
    ]


@pytest.mark.usefixtures("goes_on")
def test_the_first_step_of_training_and_of_validation_may_take_longer(trainer, clock, capsys):
    trainer(on_hang="report").fit(Hangs(clock, 300, 100, validation=[300, 100, 100]), TinyDataModule())
    assert lines(capsys) == []
    trainer(on_hang="report", first="50s").fit(Hangs(clock, 100, 100), TinyDataModule())  # it is never shorter than others
    assert lines(capsys) == []
    trainer(on_hang="report", first="200s").fit(Hangs(clock, 201, validation=[201, 101]), TinyDataModule())
    told = [line for line in lines(capsys) if line.startswith(("nothing has moved", "where it stands"))]
    assert [line.partition(" and the bound")[0] for line in told[::2]] == ["nothing has moved for 3 min 20 s,"] * 2 + [
        "nothing has moved for 1 min 40 s,"
    ]
    assert told[-1] == "where it stands: fit, validate, after batch 1 of it; 4 optimizer steps done, the last event on_validation_start."


@pytest.mark.usefixtures("goes_on")
def test_the_batches_of_each_evaluation_are_counted_from_one(trainer, clock, capsys):
    trainer(on_hang="report", max_epochs=2).fit(Hangs(clock, validation=[0, 0, 0, 0, 0, 0, 0, 102]), TinyDataModule())
    assert [line.partition(";")[0] for line in lines(capsys) if "stands" in line] == ["where it stands: fit, validate, after batch 3 of it"]


def test_validation_batches_and_checkpoints_are_signs_of_life(trainer, clock, capsys, tmp_path):
    class Saves(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            clock.hang(60)
            trainer.save_checkpoint(tmp_path / "it.ckpt")
            clock.hang(60)

    trainer(Saves(), on_hang="report").fit(Hangs(clock, validation=[60] * 4), TinyDataModule())
    assert lines(capsys) == []


@pytest.mark.parametrize(
    ("entry", "hook"), [("validate", "validation_step"), ("test", "test_step"), ("predict", "predict_step"), ("fit", "training_step")]
)
def test_all_loops_are_watched_and_nothing_else_is(trainer, clock, capsys, entry, hook):
    class Slow(TinyModule):
        def setup(self, stage):
            clock.hang(1000)

    setattr(Slow, hook, lambda self, batch, batch_idx: (clock.hang(102), getattr(TinyModule, hook)(self, batch, batch_idx))[1])
    one = trainer(on_hang="report")
    getattr(one, entry)(Slow(), datamodule=TinyDataModule())
    places = [line for line in lines(capsys) if line.startswith("where it stands")]
    assert len(places) == 3  # the first of the four may take longer
    assert all(place.startswith(f"where it stands: {entry}, ") for place in places)


def test_waiting_for_data_and_for_hooks_is_told_apart(trainer, clock, capsys):
    class Slow(list):
        def __iter__(self):
            for index, batch in enumerate(super().__iter__()):
                clock.hang(102 if index == 2 else 0)
                yield batch

    class Data(TinyDataModule):
        def train_dataloader(self):
            return Slow(super().train_dataloader())

    class Late(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            clock.hang(102 if batch_idx == 3 else 0)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            clock.hang(102 if batch_idx == 3 else 0)

    trainer(Late(), on_hang="report").fit(TinyModule(), Data())
    places = [line.partition("epoch 0, ")[2].partition(";")[0] for line in lines(capsys) if line.startswith("where it stands")]
    assert places == [
        "waiting for batch 3 of 4, or at what follows batch 2",
        "batch 4 of 4 on its way to the device, or in the hooks of its start",
        "batch 4 of 4 in the hooks of its end",
    ]


def test_time_at_a_breakpoint_does_not_count(trainer, clock, capsys, monkeypatch):
    monkeypatch.setattr(callback, "at_a_prompt", lambda thread: thread == threading.get_ident())
    trainer().fit(Hangs(clock, 0, 5000), TinyDataModule())
    assert lines(capsys) == []


def test_each_rank_says_which_it_is(trainer, clock, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "world_size", 4)
    watchdog = Watchdog()
    watchdog._tell(trainer(), "it hangs.")
    assert lines(capsys) == ["rank 0: it hangs."]


# -- the end -----------------------------------------------------------------------------------------------------------------------


def test_a_step_that_hangs_is_broken_off_by_an_error_of_its_own(trainer, clock, capsys):
    told = Told()
    one = trainer(told)
    with pytest.raises(
        WatchdogTimeout, match=r"a step took longer than 1 min 40 s, .* epoch 0, batch 2 of 4 in its step.*on_hang="
    ) as caught:
        one.fit(Hangs(clock, 0, 5000), TinyDataModule())
    assert isinstance(caught.value, LxError | TimeoutError)
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)  # which says where it hung
    assert caught.value is clock.watchdog.error
    assert told.called == ["WatchdogTimeout", "teardown"]
    assert (one.global_step, one.interrupted, one.received_sigterm) == (1, True, False)
    said = capsys.readouterr().err
    assert "the run is asked to end, and what hangs is broken off." in said
    assert "Ctrl-C" not in said
    assert clock.now < 1000 + 110


def test_a_step_that_comes_back_by_itself_ends_at_its_boundary(trainer, clock):
    one = trainer()
    with pytest.raises(WatchdogTimeout) as caught:
        one.fit(Hangs(clock, 0, 101), TinyDataModule())
    assert (one.global_step, caught.value.__cause__) == (2, None)


def test_the_same_trainer_trains_again(trainer, clock):
    one = trainer()
    with pytest.raises(WatchdogTimeout):
        one.fit(Hangs(clock, 0, 5000), TinyDataModule())
    one.fit(TinyModule(), TinyDataModule())
    assert one.state.status == "finished"
    assert clock.watchdog.error is None


class Ended(BaseException):
    """In the place of the end of the process."""


@pytest.fixture
def ended(monkeypatch):
    def end(trainer):
        raise Ended

    monkeypatch.setattr(callback, "end_process", end)


@pytest.mark.usefixtures("ended")
def test_what_cannot_be_broken_off_ends_the_process_after_the_grace(trainer, clock, capsys, monkeypatch):
    one = trainer(grace="20s")
    monkeypatch.setattr("lx.running.interruption._press", lambda thread: None)  # as a call of C that never comes back
    with pytest.raises(Ended):
        one.fit(Hangs(clock, 0, 5000), TinyDataModule())
    assert lines(capsys)[-1] == f"it has not ended for 2 min; the process ends with the exit code {EXIT_CODE}."


@pytest.mark.usefixtures("ended")
def test_a_clean_up_has_the_bound_for_each_of_its_steps(trainer, clock, capsys):
    class Slow(Told):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def on_exception(self, trainer, pl_module, exception):
            super().on_exception(trainer, pl_module, exception)
            clock.hang(self.seconds)

    with pytest.raises(WatchdogTimeout):
        trainer(Slow(95)).fit(Hangs(clock, 0, 5000), TinyDataModule())
    with pytest.raises(Ended):
        trainer(Slow(5000)).fit(Hangs(clock, 0, 5000), TinyDataModule())


def test_another_exception_is_no_concern_of_it(trainer, clock, capsys):
    class Fails(Hangs):
        def training_step(self, batch, batch_idx):
            raise ArithmeticError

    class Slow(Callback):
        def on_exception(self, trainer, pl_module, exception):
            clock.hang(5000)

    one = trainer(Slow())
    with pytest.raises(ArithmeticError):
        one.fit(Fails(clock), TinyDataModule())
    assert lines(capsys) == []


# -- its thread --------------------------------------------------------------------------------------------------------------------


def watches():
    """How many threads watch."""
    return [thread.name for thread in threading.enumerate()].count("lx-watchdog")


class Seen(Callback):
    """Notes how many threads watch in the hooks of a run."""

    def __init__(self):
        self.there = []

    def setup(self, trainer, pl_module, stage):
        self.there.append(watches())

    def on_train_batch_end(self, *args):
        self.there.append(watches())

    on_fit_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_train_batch_end


@pytest.mark.filterwarnings("ignore:self.log does nothing")
@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_there_is_one_thread_within_a_run_and_none_outside(entry):
    seen = Seen()
    one = Trainer(accelerator="cpu", barebones=True, max_epochs=1, callbacks=[Watchdog(), seen])
    for _ in range(2):
        seen.there.clear()
        one.fit_loop.progress.epoch["completed"] = 0
        getattr(one, entry)(TinyModule(), datamodule=TinyDataModule())
        assert seen.there[0] == 0
        assert set(seen.there[1:]) == {1}
        assert watches() == 0


@pytest.mark.filterwarnings("ignore:self.log does nothing")
def test_an_exception_ends_the_thread_too():
    class Fails(TinyModule):
        def training_step(self, batch, batch_idx):
            assert watches() == 1
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        Trainer(accelerator="cpu", barebones=True, max_epochs=1, callbacks=[Watchdog()]).fit(Fails(), TinyDataModule())
    assert watches() == 0


def test_steps_of_training_are_not_listened_to():
    assert [event for event in vars(Callback) if "train_batch" in event and Watchdog().listens_to(event)] == []
    within = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad", "on_before_batch_transfer")
    assert not any(Watchdog().listens_to(event) for event in within)


PROGRAM = """
    import threading
    from lx import Trainer
    from lx.testing import TinyDataModule, TinyModule

    class Model(TinyModule):
        def training_step(self, batch, batch_idx):
            if batch_idx == 2:
                self.waits_for_nobody()
            return super().training_step(batch, batch_idx)

        def waits_for_nobody(self):
            threading.Event().wait()

    class Stubborn(Model):
        def waits_for_nobody(self):
            while True:
                try:
                    super().waits_for_nobody()
                except KeyboardInterrupt:
                    pass

    def fit(model):
        watchdog = "watchdog(bound='1s', first='30s', grace='2s')"
        trainer = Trainer(accelerator="cpu", barebones=True, max_epochs=1, callbacks=[watchdog])
        trainer.fit(model, TinyDataModule())

    try:
        fit(Model())
    except TimeoutError as error:
        print(type(error).__name__, threading.active_count())
    fit(Stubborn())
    print("never")
"""


def test_a_program_that_hangs_tells_where_and_ends():
    """With a thread and time that are real: first broken off and caught, then ended with all that is left."""
    done = subprocess.run([sys.executable, "-c", dedent(PROGRAM)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == EXIT_CODE == 124, done.stderr
    assert done.stdout.splitlines() == ["WatchdogTimeout 1"]
    first, _, second = done.stderr.partition("the run is asked to end")
    for told in (first, second):
        assert "MainThread (trains)" in told
        assert 'in waits_for_nobody\n  File "<string>", line' in told
    assert done.stderr.endswith("the process ends with the exit code 124.\n")


# -- arguments ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"bound": 600}, ArgumentTypeError, "bound=600: a duration is '90min'"),
        ({"bound": "600"}, MisconfigurationException, "bound='600': 600 has no unit; it takes a duration"),
        ({"bound": "10ba"}, MisconfigurationException, "bound='10ba': batches cannot be given here; it takes a duration"),
        ({"bound": "0s"}, MisconfigurationException, "bound='0s': it must be longer than nothing"),
        ({"first": {"minute": 1}}, ArgumentTypeError, "first={'minute': 1}: a duration is"),
        ({"grace": {"seconds": -1}}, MisconfigurationException, "it must not be negative"),
        ({"on_hang": "stop"}, MisconfigurationException, "on_hang='stop': it must be 'end' or 'report'"),
    ],
)
def test_arguments_are_checked_at_once(arguments, error, said):
    with pytest.raises(error, match=said.replace("(", r"\(")):
        Watchdog(**arguments)
