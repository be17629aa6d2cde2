"""The application without a server, and `lx serve`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from lx import Trainer
from lx.cli import main
from lx.testing.models import TinyDataModule, TinyModule
from lx_plugin_serve import ServableModule, application, serve

Serve = Callable[[Any], AbstractContextManager[str]]
Ask = Callable[..., tuple[int, Any]]


def test_it_answers(models: Any, in_a_thread: Serve, ask: Ask) -> None:
    model = models.Good()
    with in_a_thread(application(model)) as url:
        assert not model.training
        assert ask(f"{url}/ping") == (200, True)
        assert ask(f"{url}/serve", model.payload) == (200, model.expected)
        for strange in ([1], {"x": 1}, {"body": [1]}):
            assert ask(f"{url}/serve", strange)[0] == 422


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Failing", "ArithmeticError: no such number"),
        ("Listing", "serve_step must return a dictionary of outputs by name, not list"),
        ("Unserialized", "the output 'y' of serve_step is no JSON"),
    ],
)
def test_errors_are_logged_and_answered_to_those_who_may_see_them(
    name: str, message: str, models: Any, in_a_thread: Serve, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    model = getattr(models, name)()
    for show_errors in (True, False):
        with in_a_thread(application(model, show_errors=show_errors)) as url:
            status, answer = ask(f"{url}/serve", model.payload)
        assert status == 500
        assert (message in answer["detail"]) is show_errors
        assert message in caplog.text
        caplog.clear()


def test_a_model_must_say_how_it_is_served(models: Any) -> None:
    with pytest.raises(TypeError, match="TinyModule is no ServableModule"):
        application(TinyModule())

    class Half(TinyModule, ServableModule):
        def configure_payload(self) -> Any:
            return {"body": {}}

    with pytest.raises(TypeError, match=r"abstract methods? .*configure_response"):
        Half()


def test_serve_runs_uvicorn(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append((app.title, options)))
    serve(models.Good(), port=9000, log_level="warning")
    assert calls == [("Good", {"host": "127.0.0.1", "port": 9000, "log_level": "warning"})]


def test_the_command_serves_a_checkpoint(
    models: Any, in_a_thread: Serve, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    trainer.fit(models.Good(), datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    served: list[Any] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: served.append((app, options)))
    assert main(["serve", "served_models:Good", str(tmp_path / "it.ckpt"), "--port", "9001"]) == 0
    ((app, options),) = served
    with in_a_thread(app) as url:
        assert ask(f"{url}/serve", models.Good.payload) == (200, models.Good.expected)
    assert options == {"host": "127.0.0.1", "port": 9001}
    assert main(["serve", "served_models:Goof", str(tmp_path / "it.ckpt")]) == 2
    assert "'served_models:Goof': the class of the model is given as MODULE:CLASS" in capsys.readouterr().err
