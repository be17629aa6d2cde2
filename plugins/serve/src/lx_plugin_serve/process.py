"""A server in a process of its own, which ends with the block that it is for."""

import io
import multiprocessing
import pickle
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import uvicorn

from lx.kernel.errors import LxError, MisconfigurationException
from lx_plugin_serve.app import application, require_servable
from lx_plugin_serve.module import ServableModule

READY = "ready"


class ServerError(LxError, RuntimeError):
    """A server did not start, ended, or gave an answer other than the one expected."""


@contextmanager
def served(
    model: ServableModule, host: str = "127.0.0.1", port: int = 0, timeout: float = 60, *, show_errors: bool = False
) -> Iterator[str]:
    """Serves a copy of a model from a process of its own, within this block; gives the address, such as `http://127.0.0.1:8080`.

    The process is started anew, not forked: the class of the model must be importable, and a script that calls this needs
    `if __name__ == "__main__"`. The model there is on the device that it is on here. With port 0 a free one is found. Where the block
    is left, by an exception too, the process is ended, and it ends by itself if this one dies.

    Raises `TypeError` for what is no `ServableModule`, `MisconfigurationException` for a model that cannot be pickled and for a port
    that is taken, `ServerError` where the server is not up within `timeout` seconds, with what it died of.
    """
    require_servable(model)
    content = _pickled(model)
    context = multiprocessing.get_context("spawn")
    with _listening(host, port) as listener:
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(content, listener, theirs, show_errors), daemon=True, name="lx-serve")
        try:
            process.start()
            theirs.close()  # so that its end is seen when the process ends
            _await_ready(process, ours, timeout)
            address = listener.getsockname()
            yield f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}"
        finally:
            ours.close()
            _end(process)


def _pickled(model: ServableModule) -> bytes:
    """The model as bytes; handed over as it is, its weights would move into memory that both processes write to."""
    buffer = io.BytesIO()
    try:
        torch.save(model, buffer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise MisconfigurationException(
            f"{type(model).__name__} cannot be sent to the process of the server: {error}. Define its class at the top of a module, and"
            " leave out of it what cannot be pickled, such as lambdas and open files."
        ) from error
    return buffer.getvalue()


def _listening(host: str, port: int) -> socket.socket:
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise MisconfigurationException(f"port={port!r}: it must be a number from 1 to 65535, or 0 for a free one.")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise MisconfigurationException(
            f"host={host!r}, port={port!r}: no server can listen there: {error}. Pass another port; 0 finds a free one."
        ) from error


def _await_ready(process: Any, connection: Connection, timeout: float) -> None:
    if not wait([connection, process.sentinel], timeout):
        raise ServerError(f"the server was not up within {timeout} seconds; pass a larger timeout.")
    try:
        message = connection.recv() if connection.poll() else None
    except (EOFError, OSError):
        message = None
    if message is None:
        process.join()
        raise ServerError(
            f"the server's process ended with exit code {process.exitcode} before it was up; what it printed says why. A script that"
            ' starts it needs `if __name__ == "__main__":` around what it runs.'
        )
    if message != READY:
        raise ServerError(f"the server could not start:\n{message}")


def _end(process: Any) -> None:
    if process.pid is None:  # it never started
        return
    process.terminate()
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


# -- in the process of the server ------------------------------------------------------------------------------------------


class _Announced(uvicorn.Server):
    """Says when it is up."""

    def __init__(self, config: uvicorn.Config, connection: Connection) -> None:
        super().__init__(config)
        self.connection = connection

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.connection.send(READY)


def _run(content: bytes, listener: socket.socket, connection: Connection, show_errors: bool) -> None:
    try:
        model = torch.load(io.BytesIO(content), weights_only=False)  # what this very program wrote
        server = _Announced(uvicorn.Config(application(model, show_errors=show_errors), log_level="warning"), connection)
        threading.Thread(target=_end_with_the_parent, args=(server, connection), daemon=True).start()
        server.run([listener])
    except BaseException:
        connection.send(traceback.format_exc())
        raise SystemExit(1) from None


def _end_with_the_parent(server: uvicorn.Server, connection: Connection) -> None:
    wait([connection])
    server.should_exit = True
