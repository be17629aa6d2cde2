"""When a run counts as hung, and what is told of it."""

import io
import pdb  # noqa: T100 - a prompt is what is looked for
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from lx_plugin_watchdog.report import at_a_prompt, children, tell, tell_stacks, threads
from lx_plugin_watchdog.watch import AT_MOST_LATE, Looker, Watch


def looks(watch, seconds, pulse, limit):
    """When a report is due, of so many looks, one a second."""
    due = []
    for _ in range(seconds):
        watch.look(watch.now + 1, pulse)
        if watch.is_due(limit):
            watch.reports += 1
            due.append(watch.idle)
    return due


def test_reports_come_at_the_bound_and_ever_more_rarely():
    watch = Watch(0.0, 1.0, "a")
    assert looks(watch, 40, "a", 4) == [4, 12, 28]


def test_what_moves_begins_anew_and_says_how_long_it_took_if_that_was_reported():
    watch = Watch(0.0, 1.0, "a")
    assert looks(watch, 3, "a", 4) == []
    assert watch.look(4.0, "b") is None
    assert looks(watch, 5, "b", 4) == [4]
    assert watch.look(10.0, "c") == 6
    assert (watch.idle, watch.reports) == (0, 0)


def test_time_in_which_the_process_was_stopped_does_not_count():
    watch = Watch(0.0, 1.0, "a")
    watch.look(3600.0, "a")
    assert watch.idle == 1 + AT_MOST_LATE


def test_the_thread_looks_until_it_is_stopped_also_by_itself():
    looked, itself = threading.Event(), []
    looker = Looker(looked.set, 0.001)
    looker.start()
    assert looked.wait(60)
    assert "lx-watchdog" in [thread.name for thread in threading.enumerate()]
    looker.stop()
    assert "lx-watchdog" not in [thread.name for thread in threading.enumerate()]
    stopped = threading.Event()
    other = Looker(lambda: (itself[0].stop(), stopped.set()), 0.001)
    itself.append(other)
    other.start()
    assert stopped.wait(60)
    other.stop()


# -- what is told ----------------------------------------------------------------------------------------------------------------


def test_the_thread_that_trains_is_named_first():
    done = threading.Event()
    other = threading.Thread(target=done.wait, name="busy")
    other.start()
    try:
        assert threads(other.ident).startswith(f"busy (trains) 0x{other.ident:016x}, ")
        assert "MainThread 0x" in threads(other.ident)
    finally:
        done.set()
        other.join()


def test_child_processes_are_listed_living_and_dead():
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert f"{living.pid} " in children()
    finally:
        living.communicate(b"\n")
    assert f"{living.pid} " not in children()


def test_what_the_system_tells_of_them_is_read(tmp_path, monkeypatch):
    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    write("self/task/1/children", "12 13 ")
    write("self/task/2/children", "14 ")
    write("12/stat", "12 (pt_data_worker) S 1 12")
    write("13/stat", "13 (a (b) c) Z 1 13")
    assert children(tmp_path) == "12 pt_data_worker (sleeping), 13 a (b) c (dead), 14 ? (dead)"
    started = [SimpleNamespace(pid=15, name="Process-1")]
    monkeypatch.setattr("multiprocessing.active_children", lambda: started)
    assert children(tmp_path / "nothing") == "15 Process-1 (alive)"
    started.clear()
    assert children(tmp_path / "nothing") == "none"


class Typist:
    """Somebody at a prompt, who goes on after one look."""

    def __init__(self):
        self.seen = []

    def readline(self):
        self.seen.append(at_a_prompt(threading.get_ident()))
        return "continue\n"


def test_who_sits_at_a_breakpoint_is_seen():
    typist = Typist()
    assert not at_a_prompt(threading.get_ident())
    pdb.Pdb(stdin=typist, stdout=io.StringIO(), nosigint=True, readrc=False).set_trace()
    assert typist.seen == [True]
    assert not at_a_prompt(0)


def test_a_debugger_that_started_the_program_is_no_breakpoint():
    """As with `python -m pdb train.py`: its frames stand below those of lx."""

    def in_module(name):
        """A function of such a module that calls another."""
        exec("def call(function, *args):\n    return function(*args)", names := {"__name__": name})
        return names["call"]

    lx, debugger, me = in_module("lx.loops.x"), in_module("pdb"), threading.get_ident()
    assert not debugger(lx, at_a_prompt, me)
    assert lx(debugger, at_a_prompt, me)


def test_the_error_stream_may_be_a_file_or_none(capfd, monkeypatch):
    tell("to a file\n")
    tell_stacks()
    text = capfd.readouterr().err
    assert text.startswith("to a file\n")
    assert "test_the_error_stream_may_be_a_file_or_none" in text
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    tell("to a cell\n")
    tell_stacks()
    text = sys.stderr.getvalue()
    assert text.startswith("to a cell\n")
    assert "test_the_error_stream_may_be_a_file_or_none" in text
    monkeypatch.setattr(sys, "stderr", None)
    tell("to nobody\n")
    tell_stacks()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("lines", [1, 3])
def test_a_text_arrives_whole(capfd, lines):
    tell("x" * 5000 * lines + "\n")
    assert len(capfd.readouterr().err) == 5000 * lines + 1
