"""Comet without its reports of errors, its archives in a test's folder, and without the second that it waits for its writer."""

import os
import socket
from collections.abc import Iterator

import pytest

os.environ["COMET_ERROR_TRACKING_ENABLE"] = "false"  # read when Comet is imported
os.environ["COMET_DISABLE_AUTO_LOGGING"] = "1"


@pytest.fixture(autouse=True)
def quick_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that writes an archive asks every 10 ms whether there is more to come."""
    from comet_ml.streamer.offline import OfflineStreamer

    before = OfflineStreamer.__init__

    def quick(self: OfflineStreamer, *args: object, **kwargs: object) -> None:
        before(self, *args, **kwargs)
        self.queue_timeout = 0.01

    monkeypatch.setattr(OfflineStreamer, "__init__", quick)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails where anything is looked up or connected to, also by a thread."""
    tried = []

    def refuse(*args: object, **kwargs: object) -> None:
        tried.append(args)
        raise OSError(f"a test of the logger went to the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not tried


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comet is configured by nobody."""
    for name in ("COMET_EXPERIMENT_KEY", "COMET_API_KEY", "COMET_OFFLINE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
