"""The conformance of the callback, with the server in a thread: the suite runs a dozen fits."""

from typing import Any

import pytest

import lx.testing.conformance.callback as suite
from lx.testing.conformance.callback import CallbackConformance


@pytest.mark.usefixtures("served_in_a_thread")
class TestServableModuleValidator(CallbackConformance):
    component = "servable_module_validator(port=0)"

    @pytest.fixture(autouse=True)
    def _servable(self, models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        failing = type("FailingGood", (suite.FailingModule, models.Good), {})
        monkeypatch.setattr(suite, "TinyModule", models.Good)
        monkeypatch.setattr(suite, "FailingModule", failing)
