import re

import pytest

from lx.testing.conformance.profiler import ProfilerConformance
from lx_plugin_simple_profiler import profiler as module
from lx_plugin_simple_profiler.profiler import SimpleProfiler


class TestSimple(ProfilerConformance):
    component = "simple"


class TestAlias(ProfilerConformance):
    component = "simple_profiler(extended=False)"


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [100.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])

    def pass_(seconds):
        now[0] += seconds

    return pass_


def measured(clock, **arguments):
    profiler = SimpleProfiler(**arguments)
    for seconds in (1.0, 3.0):
        with profiler.profile("epoch"):
            clock(seconds)
            with profiler.profile("batch"):
                clock(0.5)
    clock(5.0)
    return profiler


def cells(report):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines() if line.startswith("|")]


def test_calls_and_seconds_are_added_up(clock):
    profiler = measured(clock)
    assert (profiler.calls("epoch"), profiler.seconds("epoch")) == (2, 5.0)
    assert (profiler.calls("batch"), profiler.seconds("batch")) == (2, 1.0)
    assert (profiler.calls("other"), profiler.seconds("other")) == (0, 0.0)


def test_the_extended_table(clock):
    assert cells(measured(clock).summary()) == [
        ["Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %"],
        ["Total", "-", "4", "10", "100 %"],
        ["epoch", "2.5", "2", "5", "50"],
        ["batch", "0.5", "2", "1", "10"],
    ]


def test_the_short_table(clock):
    assert cells(measured(clock, extended=False).summary()) == [
        ["Action", "Mean duration (s)", "Total time (s)"],
        ["epoch", "2.5", "5"],
        ["batch", "0.5", "1"],
    ]


def test_the_table_is_aligned(clock):
    lines = measured(clock).summary().splitlines()
    assert lines[0] == "Profiler Report"
    assert len({len(line) for line in lines[1:]}) == 1


def test_a_clock_that_stands_still(clock):
    profiler = SimpleProfiler()
    with profiler.profile("nothing"):
        pass
    assert cells(profiler.summary())[2] == ["nothing", "0", "1", "0", "0"]


def test_errors_say_what_to_do():
    profiler = SimpleProfiler()
    profiler.start("a")
    with pytest.raises(ValueError, match=re.escape("'a' was started already")):
        profiler.start("a")
    with pytest.raises(ValueError, match=re.escape("'b' was not started. Running: 'a'")):
        profiler.stop("b")


def test_a_mistaken_call_leaves_the_measurement_as_it_is(clock):
    profiler = SimpleProfiler()
    profiler.start("a")
    clock(1.0)
    with pytest.raises(ValueError, match="'a' was started already"):
        profiler.start("a")
    clock(1.0)
    profiler.stop("a")
    assert profiler.seconds("a") == 2.0
