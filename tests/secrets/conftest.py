from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_eeops import masking, telemetry, xcom
from airflow_provider_eeops.api import pace
from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from airflow_provider_eeops.hooks import operations as hooks
from airflow_provider_eeops.triggers import operations as triggers
from tests.secrets.paths import PATHS, Task
from tests.secrets.planted import CREDENTIALS, Planting
from tests.support.echoing import EchoingServer, Weather
from tests.support.masking import forget_masked_secrets
from tests.support.secret_search import RecordsOfAll, Search, left_by_error, shown_by
from tests.support.statsd import StatsdServer
from tests.support.task_instance import FakeTaskInstance
from tests.support.this_airflow import stats_with_tags

Run = Callable[..., SimpleNamespace]
SetExtras = Callable[[Any], None]


@pytest.fixture(autouse=True)
def _forget_masked_secrets() -> Iterator[None]:
    """Airflow masks what is in a connection by itself, in one pattern that grows with every test."""
    yield
    forget_masked_secrets()


@pytest.fixture
def search() -> Search:
    return Search()


@pytest.fixture
def emulator(search: Search, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """An emulator whose every access token is looked for."""
    emulator = Emulator(projects=("one",), pending_seconds=0, run_seconds=1000, cancel_seconds=0)
    issue = emulator._identities.issue

    def issue_and_plant(*arguments: Any, **keywords: Any) -> Any:
        issued = issue(*arguments, **keywords)
        search.plant("an access token", issued.token)
        return issued

    monkeypatch.setattr(emulator._identities, "issue", issue_and_plant)
    return emulator


@pytest.fixture
def server(emulator: Emulator) -> Iterator[EmulatorServer]:
    with EmulatorServer(emulator) as server:
        yield server


@pytest.fixture
def front(server: EmulatorServer) -> Iterator[EchoingServer]:
    with EchoingServer(server.base_url) as front:
        yield front


@pytest.fixture
def planting(server: EmulatorServer, front: EchoingServer, search: Search, tmp_path: Path) -> Planting:
    return Planting(server, front, search, tmp_path)


@pytest.fixture
def records() -> Iterator[RecordsOfAll]:
    """All that is logged, DEBUG too, by whatever library."""
    handler = RecordsOfAll()
    root = logging.getLogger()
    names = ("", "airflow_provider_eeops", "google", "google.auth", "urllib3", "requests", "asyncio")
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger(name).propagate = True
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for name, (level, propagate) in before.items():
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).propagate = propagate


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Airflow would be asked to mask; it masks nothing here, so that what is found was not there at all."""
    told: list[str] = []
    instead = create_autospec(masking.mask, side_effect=told.extend)
    monkeypatch.setattr(masking, "mask", instead)
    monkeypatch.setattr(hooks, "mask", instead)
    return told


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What is sent of the metrics, as StatsD has them with their tags, and of the spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with StatsdServer() as server:
        port = int(server.settings["AIRFLOW__METRICS__STATSD_PORT"])
        stats = stats_with_tags(port)
        told = telemetry.Telemetry(stats, provider.get_tracer("test"))
        told.start()
        monkeypatch.setattr(telemetry, "_telemetry", told)

        def sent_() -> list[str]:
            assert told.flush(30)
            return [*server.lines, *(span.to_json() for span in exporter.get_finished_spans())]

        yield sent_
    stats.statsd.close()
    provider.shutdown()


@pytest.fixture
def set_extras(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    def set_(extras: Any) -> None:
        connection = {"conn_type": "earthengine", "extra": extras}
        monkeypatch.setenv("AIRFLOW_CONN_EARTHENGINE_DEFAULT", json.dumps(connection))

    return set_


@pytest.fixture
def run(
    emulator: Emulator,
    front: EchoingServer,
    planting: Planting,
    records: RecordsOfAll,
    masked: list[str],
    set_extras: Callable[[Any], None],
    sent: Callable[[], list[str]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run one path with one kind of credentials in one weather; return all that is left."""
    monkeypatch.setattr(
        triggers, "task_states", create_autospec(xcom.task_states, side_effect=lambda *_: {"wait": "failed"})
    )
    monkeypatch.setattr(triggers, "pull_recorded", create_autospec(xcom.pull_recorded, side_effect=lambda *_: None))
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")

    def run_(path: str, credentials: str, weather: Weather, **more: Any) -> SimpleNamespace:
        extras = planting.extras | CREDENTIALS[credentials](planting) | more
        if weather in {Weather.PROXY_REFUSES, Weather.PROXY_FAILS}:
            there = front.netloc if weather is Weather.PROXY_REFUSES else "127.0.0.1:1"
            # Plain http goes past any proxy.
            key = planting.key() | {"token_uri": "https://oauth2.googleapis.com/token"}
            extras |= {"base_url": "https://ee.example", "keyfile_dict": key}
            extras["proxies"] = {"https": planting.proxy(there)}
        set_extras(extras)
        forget_masked_secrets()
        front.weather = weather
        pace._forget()  # a 429 of the weather before would slow this one down
        front.urls.clear()
        records.records.clear()
        names = [emulator.add_operation(description=f"{number}-export") for number in range(2)]
        task = Task(FakeTaskInstance(), names)
        left: list[str] = []
        error = None
        try:
            for thing in PATHS[path](task):
                left += shown_by(thing)
        except Exception as met:  # noqa: BLE001 - any error is what is looked into
            error = met
            left += left_by_error(met)
        out = capfd.readouterr()
        told = sent()
        left += [*records.texts(), repr(task.ti.xcoms), *front.urls, out.out, out.err, *told]
        return SimpleNamespace(left=left, error=error, urls=list(front.urls), masked=masked, told=told)

    return run_
