"""ServableModuleValidator: whether a model can be served is found out before it is trained."""

import importlib
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_info, rank_zero_warn


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered."""

    status_code: int
    text: str

    def json(self) -> Any:
        """The answer, read as JSON; raises `ValueError` if it is none."""
        return json.loads(self.text)


class ServableModuleValidator(Callback):
    """Serves the model when training starts, sends it `configure_payload()`, and compares the answer with `configure_response()`.

    The model must be a `ServableModule`. A copy of it is served from a process of its own, which has ended before the first batch;
    see `served` for what that takes. It happens on rank 0.

    Args:
        optimization: None; nothing else is there yet.
        server: `"fastapi"`; nothing else is there yet.
        host: Where the server listens.
        port: Where the server listens; 0 finds a free port.
        timeout: So many seconds may pass until the server is up, and until it answers.
        exit_on_failure: Whether a model that cannot answer ends the run; else there is a warning.

    Attributes:
        successful: Whether the answer was the expected one; None before there was one.
        resp: The answer, with `status_code`, `text` and `json()`.

    Raises:
        NotImplementedError: for another optimization or server.
        ModuleNotFoundError: without fastapi and uvicorn.
        TypeError: when training starts with what is no `ServableModule`.
        MisconfigurationException: then, for a sharded model, a payload without `"body"`, a port that is taken, and a model that fails.
        ServerError: then, if the server is not up in time, or the answer is another one.

    >>> ServableModuleValidator(server="torchserve")
    Traceback (most recent call last):
    ...
    NotImplementedError: server='torchserve': only 'fastapi' is there.
    """

    def __init__(
        self,
        optimization: str | None = None,
        server: str = "fastapi",
        host: str = "127.0.0.1",
        port: int = 8080,
        timeout: int = 20,
        exit_on_failure: bool = True,
    ) -> None:
        if optimization is not None:
            raise NotImplementedError(f"optimization={optimization!r}: only None is there; export the model to optimize it.")
        if server != "fastapi":
            raise NotImplementedError(f"server={server!r}: only 'fastapi' is there.")
        for package in ("fastapi", "uvicorn"):
            _require(package)
        self.optimization = optimization
        self.server = server
        self.host = host
        self.port = port
        self.timeout = timeout
        self.exit_on_failure = exit_on_failure
        self.successful: bool | None = None
        self.resp: Answer | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Serves the model and asks it; on rank 0."""
        if not trainer.is_global_zero:
            return
        from lx_plugin_serve.app import require_servable  # noqa: PLC0415 -- FastAPI is there, as the constructor made sure
        from lx_plugin_serve.process import ServerError, served  # noqa: PLC0415

        require_servable(pl_module)
        _require_whole(trainer.strategy, pl_module)
        payload = _payload(pl_module)
        expected = json.loads(json.dumps(pl_module.configure_response()))  # as it would arrive, with lists for tuples
        self.successful, self.resp = False, None
        with served(pl_module, self.host, self.port, self.timeout, show_errors=True) as url:
            try:
                _ask(f"{url}/ping", None, self.timeout)
                self.resp = _ask(f"{url}/serve", payload, self.timeout)
            except (OSError, HTTPException) as error:
                raise ServerError(f"{url}/serve was not answered within {self.timeout} seconds: {error}.") from error
        if self.resp.status_code != 200:
            self._fail(f"{type(pl_module).__name__} cannot be served, it answers {self.resp.status_code}:\n{_reason(self.resp)}")
        elif self.resp.json() != expected:
            raise ServerError(
                f"{type(pl_module).__name__} answers {self.resp.json()!r} to configure_payload(), and configure_response() expects"
                f" {expected!r}."
            )
        else:
            self.successful = True
            rank_zero_info(f"{type(pl_module).__name__} can be served; it answers {self.resp.text}.")

    def _fail(self, message: str) -> None:
        if self.exit_on_failure:
            raise MisconfigurationException(message)
        rank_zero_warn(message)

    def state_dict(self) -> dict[str, Any]:
        """Whether the model could be served, and how it was."""
        return {"successful": self.successful, "optimization": self.optimization, "server": self.server}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what the run before found, until this one has asked, too."""
        self.successful = state_dict["successful"]


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"ServableModuleValidator needs {package}, which is not installed: `pip install fastapi uvicorn`.", name=package
        ) from error


def _require_whole(strategy: Any, model: Any) -> None:
    """Raises where this process holds a part of the weights only, so that its copy could not answer."""
    sharded = strategy.capabilities.restores_after_setup or any(hasattr(weight, "to_local") for weight in model.parameters())
    if sharded:
        raise MisconfigurationException(
            f"ServableModuleValidator: {type(strategy).__name__} shards the weights of {type(model).__name__}, and no process has all of"
            " them to serve; validate with a strategy that does not."
        )


def _payload(model: Any) -> bytes:
    payload = model.configure_payload()
    if not isinstance(payload, dict) or "body" not in payload:
        raise MisconfigurationException(
            f'configure_payload() of {type(model).__name__} must return a mapping with the inputs under "body", not {payload!r}.'
        )
    try:
        return json.dumps(payload).encode()
    except (TypeError, ValueError) as error:
        raise MisconfigurationException(
            f"configure_payload() of {type(model).__name__} must return what JSON knows, as a client sends it: {error}."
        ) from error


def _ask(url: str, content: bytes | None, timeout: float) -> Answer:
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    try:
        # Without proxies: the server is on this machine.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as response:
            return Answer(response.status, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def _reason(answer: Answer) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return answer.text
