"""Every path of the package, with every kind of credentials, in every weather: none of the secrets is left anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.secrets.conftest import Run
from tests.secrets.paths import PATHS
from tests.secrets.planted import CREDENTIALS, Planting
from tests.support.echoing import EchoingServer, Weather
from tests.support.secret_search import Search

_SPANNED = {path for path in PATHS if not path.startswith("hook: ")} - {
    "operator: validate only",
    "sensor: poke",
    "sensor: reschedule",
} | {"hook: cancel many", "hook: wait"}
"""Paths that have a span."""


@pytest.mark.parametrize("path", PATHS)
def test_no_secret_is_left_in_any_weather(path: str, run: Run, search: Search) -> None:
    # google-auth waits seconds before it asks a broken token server again: one path does.
    weathers = [each for each in Weather if each is not Weather.TOKEN_BROKEN or path == "hook: get"]
    runs = {weather: run(path, "keyfile_dict", weather) for weather in weathers}
    found = {weather.name: search.found_in(each.left) for weather, each in runs.items()}
    assert {where: what for where, what in found.items() if what} == {}
    planted = {"the private key", "the private key's id", "the proxy's password", "the proxy's password as written"}
    sends = path != "operator: validate only"
    told = [line for each in runs.values() for line in each.told]
    assert any(line.startswith("airflow.eeops.") for line in told) == sends
    assert any('"name": "eeops.' in line for line in told) == (path in _SPANNED)
    assert search.planted == planted | ({"an access token"} if sends else set())
    assert ("oauth2.googleapis.com:443" in runs[Weather.PROXY_REFUSES].urls) == sends


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_no_secret_is_left_of_any_credentials(credentials: str, run: Run, search: Search) -> None:
    found = {
        (path, weather.name): search.found_in(run(path, credentials, weather).left)
        for path in ("hook: get", "hook: connection test", "operator: select")
        for weather in (Weather.FINE, Weather.TOKEN_REFUSED, Weather.TOKEN_PAGE, Weather.API_BROKEN)
    }
    assert {where: what for where, what in found.items() if what} == {}


@pytest.mark.parametrize("path", ["hook: get", "hook: connection test", "operator: cancel"])
def test_no_secret_is_left_of_the_environments_proxy(
    *,
    path: str,
    run: Run,
    search: Search,
    planting: Planting,
    front: EchoingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for netloc in (front.netloc, "127.0.0.1:1"):
        monkeypatch.setenv("https_proxy", planting.proxy(netloc))
        key = planting.key() | {"token_uri": "https://oauth2.googleapis.com/token"}
        left = run(path, "keyfile_dict", Weather.FINE, base_url="https://ee.example", keyfile_dict=key)
        assert search.found_in(left.left) == []
        assert ("oauth2.googleapis.com:443" in left.urls) == (netloc == front.netloc)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What a site that traces requests exports."""
    exporter, provider, tracing = InMemorySpanExporter(), TracerProvider(), RequestsInstrumentor()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.instrument(tracer_provider=provider)
    yield exporter
    tracing.uninstrument()
    provider.shutdown()


@pytest.mark.parametrize("path", ["hook: get", "hook: connection test", "operator: cancel", "trigger: run"])
@pytest.mark.parametrize("credentials", ["keyfile_dict", "user", "federation"])
def test_no_secret_is_left_in_a_trace(
    path: str, credentials: str, run: Run, search: Search, spans: InMemorySpanExporter
) -> None:
    for weather in (Weather.FINE, Weather.TOKEN_REFUSED, Weather.API_BROKEN, Weather.PROXY_REFUSES):
        run(path, credentials, weather)
    traced = [span.to_json() for span in spans.get_finished_spans()]
    assert any("/token" in each for each in traced)
    assert search.found_in(traced) == []
