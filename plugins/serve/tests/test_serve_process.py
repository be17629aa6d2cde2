"""A server in a process of its own: how it starts, how it ends, and what is said when it does not start."""

import multiprocessing
import os
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lx.kernel.errors import MisconfigurationException
from lx.testing.models import TinyModule
from lx_plugin_serve import ServerError, served


def test_a_model_is_served_within_a_block(models: Any, ask: Callable[..., tuple[int, Any]]) -> None:
    model = models.Good()
    with suppress(ZeroDivisionError), served(model, timeout=120) as url:
        assert ask(f"{url}/ping") == (200, True)
        assert ask(f"{url}/serve", model.payload) == (200, model.expected)
        assert ask(f"{url}/serve", {"body": {"y": 1}}) == (500, {"detail": "the model failed; see the server's log."})
        (process,) = multiprocessing.active_children()
        1 / 0
    with pytest.raises(ValueError, match="closed"):
        process.is_alive()
    with pytest.raises(urllib.error.URLError):
        ask(f"{url}/ping")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Unloadable", r"(?s)the server could not start:.*ArithmeticError: not here"),
        ("DyingEarly", r"ended with exit code 4 before it was up; .*__name__ == \"__main__\""),
    ],
)
def test_a_server_that_does_not_start_says_why(name: str, message: str, models: Any) -> None:
    with pytest.raises(ServerError, match=message), served(getattr(models, name)(), timeout=120):
        pytest.fail("it is up")
    assert multiprocessing.active_children() == []


def test_a_server_that_takes_too_long_is_ended(models: Any) -> None:
    with pytest.raises(ServerError, match=r"was not up within 0.1 seconds"), served(models.Slow(), timeout=0.1):
        pytest.fail("it is up")
    assert multiprocessing.active_children() == []


def test_a_model_that_cannot_be_sent(models: Any) -> None:
    class Local(models.Good):
        pass

    with (
        pytest.raises(MisconfigurationException, match=r"Local cannot be sent to the process of the server: .*at the top of a module"),
        served(Local()),
    ):
        pytest.fail("it is up")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (("127.0.0.1", 70000), r"port=70000: it must be a number from 1 to 65535, or 0"),
        (("127.0.0.1", "auto"), r"port='auto': it must be a number"),
        (("192.0.2.1", 0), r"host='192.0.2.1', port=0: no server can listen there"),
    ],
)
def test_an_address_that_is_none(address: Any, message: str, models: Any) -> None:
    with pytest.raises(MisconfigurationException, match=message), served(models.Good(), *address):
        pytest.fail("it is up")


def test_what_is_not_servable() -> None:
    with pytest.raises(TypeError, match="TinyModule is no ServableModule"), served(TinyModule()):
        pytest.fail("it is up")


ORPHANS = """
import multiprocessing, os
from lx_plugin_serve import served
from served_models import Good

if __name__ == "__main__":
    with served(Good(), timeout=120) as url:
        print(url, multiprocessing.active_children()[0].pid, flush=True)
        os._exit(1)
"""


def test_a_server_does_not_outlive_its_program(tmp_path: Path) -> None:
    (tmp_path / "orphans.py").write_text(ORPHANS)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    # Its pipe is closed when the last process that writes to it is gone, and the server is one.
    done = subprocess.run(
        [sys.executable, "orphans.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")
