"""The order in which things are written and given up, what is said meanwhile, and what becomes of errors."""

import os
import pickle
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lx.kernel.errors import ComponentTypeError, MisconfigurationException, UnknownComponentError
from lx.testing.fakes import FakeCheckpointIO
from lx_plugin_async_io import checkpoint_io as module
from lx_plugin_async_io.checkpoint_io import AsyncCheckpointIO


class FullError(OSError):
    """There is no room."""


class Held(FakeCheckpointIO):
    """Writes when it may, and fails for epochs below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()
        self.done: list[str] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        assert self.may_write.wait(30)
        if checkpoint["epoch"] < 0:
            raise FullError(f"no room for {checkpoint['epoch']}")
        self.done.append(f"wrote {Path(path).name}")
        super().save_checkpoint(checkpoint, path, storage_options)

    def remove_checkpoint(self, path: str | Path) -> None:
        self.done.append(f"removed {Path(path).name}")
        super().remove_checkpoint(path)

    def exists(self, path: str | Path) -> bool:
        return str(path) in self.stored

    def list_folder(self, path: str | Path) -> list[str]:
        return sorted(self.stored)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.may_write.set()


@pytest.fixture
def io(held: Held) -> Iterator[AsyncCheckpointIO]:
    io = AsyncCheckpointIO(held)
    yield io
    held.may_write.set()
    io.teardown()


def test_what_is_given_up_goes_after_what_takes_its_place(io: AsyncCheckpointIO, held: Held) -> None:
    held.stored["old"] = {"epoch": 0}
    io.save_checkpoint({"epoch": 1}, "new")
    io.after_writing("last", lambda: held.done.append("linked last"))
    io.remove_checkpoint("old")
    io.save_checkpoint({"epoch": 2}, "other")
    io.remove_checkpoint("new")
    assert held.done == []
    held.may_write.set()
    io.teardown()
    assert held.done == ["wrote new", "linked last", "removed old", "wrote other", "removed new"]
    assert list(held.stored) == ["other"]
    io.remove_checkpoint("other")
    assert held.done[-1] == "removed other", "with nothing to wait for it is done at once"


def test_the_options_are_handed_on(io: AsyncCheckpointIO, held: Held) -> None:
    held.may_write.set()
    io.save_checkpoint({"epoch": 1}, "a", storage_options={"key": 1})
    io.teardown()
    assert held.called("save_checkpoint")[0].args == ({"epoch": 1}, "a", {"key": 1})


def test_nothing_is_given_up_for_what_could_not_be_written(io: AsyncCheckpointIO, held: Held) -> None:
    held.stored["old"] = {"epoch": 0}
    io.save_checkpoint({"epoch": -1}, "new")
    io.after_writing("last", lambda: held.done.append("linked last"))
    io.remove_checkpoint("old")
    io.save_checkpoint({"epoch": 2}, "newer")
    held.may_write.set()
    assert io.list_folder(".") == ["newer", "old"]
    io.remove_checkpoint("old")  # after the failure, of which nobody has been told
    with pytest.raises(FullError):
        io.teardown()
    assert held.done == ["wrote newer"]
    io.remove_checkpoint("old")  # by somebody who knows
    assert sorted(held.stored) == ["newer"]


def test_what_will_be_there_is_there(io: AsyncCheckpointIO, held: Held, tmp_path: Path) -> None:
    held.stored["old"] = {"epoch": 0}
    io.save_checkpoint({"epoch": 1}, "folder/new")
    io.remove_checkpoint("old")
    assert (io.exists("folder/new"), io.exists(Path.cwd() / "folder" / "new"), io.exists("old")) == (True, True, False)
    assert not io.exists("another")
    io.save_checkpoint({"epoch": 1}, "old")
    assert io.exists("old")
    assert held.done == [], "nothing of that has waited"
    held.may_write.set()
    assert not io.exists("folder"), "this has waited, and the fake knows of no folders"
    assert held.done[0] == "wrote new"


@pytest.mark.parametrize(
    "look",
    [
        lambda io: io.load_checkpoint("a")["epoch"] == 1,
        lambda io: io.outline("a")["epoch"] == 1,
        lambda io: io.list_folder(".") == ["a"],
        lambda io: not io.recognises("a"),
        lambda io: io.modified(__file__) > 0,
    ],
)
def test_who_looks_waits(look: Callable[[AsyncCheckpointIO], bool], held: Held) -> None:
    io = AsyncCheckpointIO(held)
    io.save_checkpoint({"epoch": 1}, "a")
    opener = threading.Thread(target=held.may_write.set)
    opener.start()
    assert look(io)
    assert held.done == ["wrote a"]
    opener.join()


@pytest.mark.parametrize(("pending", "free"), [(0, 1), (1, 2), (3, 4)])
def test_saving_waits_for_room_and_says_so(held: Held, pending: int, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    io, asked = AsyncCheckpointIO(held, pending=pending), 0

    def clock() -> float:
        nonlocal asked
        asked += 1
        if asked == 2 * free + 1:  # when the next one begins to wait
            held.may_write.set()
        return 11.0 * max(0, asked - 2 * free)

    class Copied:
        def __deepcopy__(self, memo: Any) -> "Copied":
            held.done.append("copied")
            return self

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    for number in range(free):
        io.save_checkpoint({"epoch": 1}, f"{number}")
    assert held.done == []
    with pytest.warns(UserWarning, match="training has waited 11 seconds until an older one was. Save less often"):
        io.save_checkpoint({"epoch": 1, "mark": Copied()}, "beyond")
    assert "wrote 0" in held.done[: held.done.index("copied")]
    io.save_checkpoint({"epoch": 1}, "once more")  # is not said again
    io.teardown()


def test_errors_are_raised_by_who_waits_with_their_paths(io: AsyncCheckpointIO, held: Held) -> None:
    held.may_write.set()
    for epoch in (-1, -2):
        io.save_checkpoint({"epoch": 1}, "good")
        io.report_to(lambda error: True)
        io.save_checkpoint({"epoch": epoch}, f"bad{epoch}")
    with pytest.raises(FullError, match="no room for -1") as caught:
        io.teardown()
    assert caught.value.__notes__ == [
        "The checkpoint 'bad-1' was not written; what was there before is untouched.",
        "Another checkpoint failed after it: FullError: no room for -2",
    ]
    io.teardown()
    io.save_checkpoint({"epoch": 3}, "later")
    assert io.load_checkpoint("later") == {"epoch": 3}


def test_an_error_that_nobody_was_told_is_raised_by_the_next_save(io: AsyncCheckpointIO, held: Held) -> None:
    held.may_write.set()
    io.save_checkpoint({"epoch": -1}, "bad")
    assert io.list_folder(".") == []
    with pytest.raises(FullError):
        io.save_checkpoint({"epoch": 1}, "good")
    io.save_checkpoint({"epoch": 1}, "good")
    io.teardown()
    assert held.done == ["wrote good"]


@pytest.mark.parametrize("accepts", [True, False])
def test_errors_are_reported_at_once(io: AsyncCheckpointIO, held: Held, accepts: bool) -> None:
    reported: list[BaseException] = []
    io.report_to(lambda error: reported.append(error) or accepts)  # type: ignore[func-returns-value]
    held.may_write.set()
    io.save_checkpoint({"epoch": -1}, "bad")
    assert io.list_folder(".") == []
    assert [str(error) for error in reported] == ["no room for -1"]
    if accepts:
        io.save_checkpoint({"epoch": 1}, "good")  # it is raised elsewhere
    else:
        with pytest.raises(FullError):
            io.save_checkpoint({"epoch": 1}, "good")
    io.report_to(None)
    if accepts:
        with pytest.raises(FullError):  # who waits for what was saved is not told that all is well
            io.teardown()


def test_an_error_of_before_is_reported_to_who_comes(io: AsyncCheckpointIO, held: Held) -> None:
    reported: list[BaseException] = []
    held.may_write.set()
    io.save_checkpoint({"epoch": -1}, "bad")
    assert io.list_folder(".") == []
    io.report_to(lambda error: reported.append(error) or True)  # type: ignore[func-returns-value]
    assert len(reported) == 1
    with pytest.raises(FullError):
        io.teardown()


def test_a_removal_that_fails(io: AsyncCheckpointIO, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str | Path) -> None:
        raise PermissionError(f"not {path}")

    monkeypatch.setattr(held, "remove_checkpoint", refuse)
    with pytest.raises(PermissionError, match="not old"):
        io.remove_checkpoint("old")
    io.save_checkpoint({"epoch": 1}, "new")
    io.remove_checkpoint("old")
    held.may_write.set()
    with pytest.raises(PermissionError, match="not old") as caught:
        io.teardown()
    assert caught.value.__notes__ == ["This happened at 'old', once the checkpoints before it had been written."]


def test_what_cannot_be_copied_is_told_at_once(io: AsyncCheckpointIO, held: Held) -> None:
    with pytest.raises(TypeError, match="lock") as caught:
        io.save_checkpoint({"epoch": 1, "lock": threading.Lock()}, "a")
    assert "The checkpoint 'a' was not written; what was there before is untouched." in caught.value.__notes__
    assert not io.exists("a")


def test_errors_that_nobody_asks_for_are_printed(held: Held, capsys: pytest.CaptureFixture[str]) -> None:
    io = AsyncCheckpointIO(held)
    held.may_write.set()
    io.save_checkpoint({"epoch": -1}, "bad")
    io.list_folder(".")
    del io
    assert "no room for -1\nThe checkpoint 'bad' was not written" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_forked_off_writes_nothing_and_can_go_on(io: AsyncCheckpointIO, held: Held, tmp_path: Path) -> None:
    io.save_checkpoint({"epoch": 1, "weight": torch.ones(3)}, "a")
    io.save_checkpoint({"epoch": 2}, "b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            io.teardown()
            assert held.done == []
            held.may_write = threading.Event()  # its lock may have been held when the process was forked off
            held.may_write.set()
            io.save_checkpoint({"epoch": 3}, "c")
            assert io.load_checkpoint("c") == {"epoch": 3}
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.may_write.set()
    io.teardown()
    assert held.done == ["wrote a", "wrote b"]


def test_it_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(AsyncCheckpointIO("torch_io(verify=False)", pending=2)))
    assert (sent.pending, sent.checkpoint_io.verify) == (2, False)


def test_what_it_wraps() -> None:
    assert type(AsyncCheckpointIO().checkpoint_io).__name__ == "TorchCheckpointIO"
    given = FakeCheckpointIO()
    assert AsyncCheckpointIO(given).checkpoint_io is given
    assert not AsyncCheckpointIO({"torch_io": {"verify": False}}).checkpoint_io.verify  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"checkpoint_io": "async_io"}, MisconfigurationException, "writes in the background itself"),
        ({"checkpoint_io": "tarch_io"}, UnknownComponentError, "torch_io"),
        ({"checkpoint_io": 3}, ComponentTypeError, "checkpoint_io"),
        ({"pending": -1}, MisconfigurationException, r"pending=-1\): it must be the number"),
        ({"pending": True}, MisconfigurationException, r"pending=True\): it must be the number"),
        ({"pending": 1.5}, MisconfigurationException, r"pending=1.5\): it must be the number"),
    ],
)
def test_arguments_that_cannot_be(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AsyncCheckpointIO(**given)
