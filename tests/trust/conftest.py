from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.settings import Settings
from tests.support.task_instance import FakeTaskInstance
from tests.trust.internet import Internet
from tests.unit.glue.conftest import clock, connection, context, emulator, server, set_connection

__all__ = ["clock", "connection", "context", "emulator", "server", "set_connection"]

Connected = Callable[..., EarthEngineOperationsClient]

# Whatever the machine that runs the tests has set would change where requests go.
_ENVIRONMENT = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NETRC", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"),
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ti() -> FakeTaskInstance:
    return FakeTaskInstance()


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that were asked for, other than this machine's: there is no such host."""
    names: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in {"127.0.0.1", "localhost", "::1", None}:
            return real(host, *args, **kwargs)
        names.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.fixture
def internet(tmp_path: Path, looked_up: list[str]) -> Iterator[Internet]:
    """A network that is the only way to any host, and sees every request; nothing may look for another way."""
    with Internet(tmp_path) as internet:
        yield internet
    assert looked_up == []


@pytest.fixture
def connected() -> Iterator[Connected]:
    """Make clients as the extras of a connection say; they are closed, and what they began has ended, afterwards."""
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def make(**extras: Any) -> EarthEngineOperationsClient:
            settings = Settings.from_extras({"num_retries": 0, "requests_per_second": 1e6, **extras})
            return stack.enter_context(connect(settings, load_credentials(settings).credentials))

        yield make
    end_of_threads(before)


def end_of_threads(before: set[threading.Thread]) -> None:
    """Wait for threads that began meanwhile, google-auth's too, so that nothing they send is missed."""
    for thread in set(threading.enumerate()) - before:
        if thread.name not in {"internet", "earthengine-emulator"}:
            thread.join(20)
            assert not thread.is_alive(), thread
