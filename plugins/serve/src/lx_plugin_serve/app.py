"""The HTTP application of a ServableModule, and the server that runs it here."""

import json
import logging
import threading
import traceback
from typing import Any

import torch
import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import JSONResponse

from lx_plugin_serve.module import ServableModule

log = logging.getLogger("lx")


def application(model: ServableModule, *, show_errors: bool = False) -> FastAPI:
    """The FastAPI application of a model, which it puts into eval mode; for a server of your own choice.

    `GET /ping` answers `true`. `POST /serve` runs `serve_step`; it answers 422 for a request without a `body`, 500 where the step
    fails, and the traceback is logged, with `show_errors` also answered. Raises `TypeError` for what is no `ServableModule`.
    """
    require_servable(model)
    model.eval()
    deserializers, serializers = model.configure_serialization()
    one_at_a_time = threading.Lock()
    app = FastAPI(title=type(model).__name__)

    @app.get("/ping")
    def ping() -> bool:
        return True

    @app.post("/serve")
    def serve_one(payload: Any = Body()) -> JSONResponse:  # noqa: B008 -- how FastAPI declares a body
        body = payload.get("body") if isinstance(payload, dict) else None
        if not isinstance(body, dict):
            return JSONResponse({"detail": 'the request must be a mapping with the inputs, by name, under "body".'}, 422)
        try:
            inputs = {name: _converted(deserializers, name, value) for name, value in body.items()}
            with one_at_a_time, torch.no_grad():
                outputs = model.serve_step(**inputs)
            return _response(outputs, serializers)
        except Exception:
            log.exception(f"{type(model).__name__} could not serve a request.")
            return JSONResponse({"detail": traceback.format_exc() if show_errors else "the model failed; see the server's log."}, 500)

    return app


def serve(model: ServableModule, host: str = "127.0.0.1", port: int = 8080, **options: Any) -> None:
    """Serves a model until the process is interrupted, with a GET `/ping` and a POST `/serve`.

    `options` go to `uvicorn.run`. Raises `TypeError` for what is no `ServableModule`.
    """
    uvicorn.run(application(model), host=host, port=port, **options)


def require_servable(model: Any) -> None:
    """Raises `TypeError` for what is no `ServableModule`."""
    if not isinstance(model, ServableModule):
        raise TypeError(
            f"{type(model).__name__} is no ServableModule, and nothing says how it is served: class {type(model).__name__}"
            "(LightningModule, ServableModule), with `from lx_plugin_serve import ServableModule`."
        )


def _converted(converters: Any, name: str, value: Any) -> Any:
    return converters[name](value) if name in converters else value


def _response(outputs: Any, serializers: Any) -> JSONResponse:
    if not isinstance(outputs, dict):
        raise TypeError(f"serve_step must return a dictionary of outputs by name, not {type(outputs).__name__}.")
    content = {name: _converted(serializers, name, value) for name, value in outputs.items()}
    for name, value in content.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"the output {name!r} of serve_step is no JSON ({error}); give it a serializer.") from error
    return JSONResponse(content)
