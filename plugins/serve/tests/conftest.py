"""Models that the process of a server can import, which gets this process's `sys.path`; a server in a thread; and a client."""

import copy
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import lx_plugin_serve.process
from lx_plugin_serve import application


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `served_models`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import served_models

    return served_models


@pytest.fixture
def in_a_thread() -> Callable[[Any], AbstractContextManager[str]]:
    """Serves an application within a block, from a thread of this process."""

    @contextmanager
    def serve(app: Any) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()

    return serve


@pytest.fixture
def ask() -> Callable[..., tuple[int, Any]]:
    """Status and content of the answer to a request; with content it is a POST."""

    def ask(url: str, content: Any = None) -> tuple[int, Any]:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return ask


@pytest.fixture
def served_in_a_thread(in_a_thread: Callable[[Any], AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the validator serve a copy of the model from a thread, which takes no seconds to start."""

    def served(model: Any, host: str, port: int, timeout: float, *, show_errors: bool) -> AbstractContextManager[str]:
        return in_a_thread(application(copy.deepcopy(model), show_errors=show_errors))

    monkeypatch.setattr(lx_plugin_serve.process, "served", served)
