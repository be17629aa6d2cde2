"""The suite of the profilers passes right ones, and each of its tests fails for a wrong one."""

import functools
import inspect
import pickle

import pytest

from lx.interfaces.profiler import PassThroughProfiler, Profiler
from lx.kernel import Entry
from lx.testing.conformance.profiler import ProfilerConformance


class Counter(Profiler):
    """Counts the calls of each action."""

    def __init__(self, dirpath=None, filename=None):
        super().__init__(dirpath, filename)
        self.running = []
        self.calls = {}

    def start(self, action_name):
        if action_name in self.running:
            raise ValueError(action_name)
        self.running.append(action_name)

    def stop(self, action_name):
        if action_name not in self.running:
            raise ValueError(action_name)
        self.running.remove(action_name)
        self.calls[action_name] = self.calls.get(action_name, 0) + 1

    def summary(self):
        return str(self.calls).replace('"', "").replace("\\", "") if self.calls else ""


class CounterSuite(ProfilerConformance):
    component = "counter"
    fake = Counter
    test_is_found_without_torch = None  # a fake is not installed

    @pytest.fixture
    def component_class(self):
        return self.fake

    @pytest.fixture
    def entry(self):
        return Entry("profiler", "counter", "this program", self.fake, summary="counts")

    def build(self, **extra):
        return self.fake(**extra)


class TestCounter(CounterSuite):
    """A right one."""


class TestPassThrough(ProfilerConformance):
    component = "passthrough"


class Silent(Counter):
    def summary(self):
        return ""


class Talkative(PassThroughProfiler):
    def start(self, action_name):
        self.name = action_name

    def summary(self):
        return getattr(self, "name", "")


class LongestOf(Counter):
    def summary(self):
        longest = max(map(len, self.calls))
        return "".join(name.ljust(longest) for name in self.calls)


class OneAtATime(Counter):
    def start(self, action_name):
        if self.running:
            raise ValueError("another action runs")
        super().start(action_name)


class ReportsTheRunning(Counter):
    def summary(self):
        return "".join(f"{name} {self.calls[name]}" for name in [*self.calls, *self.running])


class StartsTwice(Counter):
    def start(self, action_name):
        self.running.append(action_name)


class StopsAnything(Counter):
    def stop(self, action_name):
        self.calls[action_name] = 1


class Nameless(Counter):
    def start(self, action_name):
        if action_name in self.running:
            raise ValueError("it runs")
        super().start(action_name)

    def stop(self, action_name):
        if action_name not in self.running:
            raise ValueError("it does not run")
        super().stop(action_name)


class LeavesItRunning(Counter):
    def profile(self, action_name):
        class Block:
            def __enter__(block):
                self.start(action_name)

            def __exit__(block, kind, *_):
                if kind is None:
                    self.stop(action_name)

        return Block()


class OneFile(Counter):
    def setup(self, stage, local_rank=None, log_dir=None):
        super().setup(stage, None, log_dir)


class IgnoresDirpath(Counter):
    def __init__(self, dirpath=None, filename=None):
        super().__init__(None, filename)


class IgnoresTheLogFolder(Counter):
    def setup(self, stage, local_rank=None, log_dir=None):
        super().setup(stage, local_rank, None)


class PrintsEverywhere(Counter):
    def describe(self):
        print(self.summary())


class PrintsNowhere(Counter):
    def describe(self):
        """Does nothing."""


class ServesOnce(Counter):
    def teardown(self, stage=None):
        self.calls = None


class Unpickled(Counter):
    def __init__(self, dirpath=None, filename=None):
        super().__init__(dirpath, filename)
        self.clock = lambda: 0


WRONG = {
    "test_is_a_class_of_its_kind": [],  # those two are of the base of the suites
    "test_is_registered_with_a_summary": [],
    "test_reports_what_it_measured": [Silent, Talkative],
    "test_a_report_of_nothing_is_no_error": [LongestOf],
    "test_actions_may_repeat_nest_and_overlap": [OneAtATime, Silent],
    "test_a_report_while_an_action_runs": [ReportsTheRunning],
    "test_starting_twice_is_an_error": [StartsTwice, Nameless],
    "test_stopping_what_does_not_run_is_an_error": [StopsAnything, Nameless],
    "test_profile_ends_its_action_by_an_exception_too": [LeavesItRunning],
    "test_writes_a_file_for_each_rank": [OneFile, IgnoresDirpath, PrintsNowhere],
    "test_writes_to_the_log_folder_without_dirpath": [IgnoresTheLogFolder, PrintsNowhere],
    "test_prints_on_rank_0_alone_without_filename": [PrintsEverywhere, PrintsNowhere],
    "test_serves_one_run_after_another": [ServesOnce],
    "test_reaches_the_processes_of_a_launcher": [Unpickled],
}


def test_every_test_of_the_suite_is_listed():
    assert {name for name in dir(CounterSuite) if name.startswith("test_") and getattr(CounterSuite, name)} == set(WRONG)


@pytest.mark.parametrize(
    ("test", "fake"), [pytest.param(test, fake, id=f"{fake.__name__}-{test}") for test in WRONG for fake in WRONG[test]]
)
def test_the_suite_fails_for_a_wrong_profiler(test, fake, tmp_path, monkeypatch, capsys):
    suite = CounterSuite()
    monkeypatch.setattr(suite, "fake", fake, raising=False)
    monkeypatch.chdir(tmp_path)
    files = functools.partial(suite.build, filename="times")
    given = {"built": suite.build(), "files": files, "tmp_path": tmp_path, "capsys": capsys}
    method = getattr(suite, test)
    failures = (AssertionError, AttributeError, TypeError, ValueError, KeyError, pickle.PicklingError, pytest.fail.Exception)
    with pytest.raises(failures):
        method(**{name: given[name] for name in inspect.signature(method).parameters})
