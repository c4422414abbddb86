"""Metrics and spans are sent by a thread of their own, and whatever becomes of them changes nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import create_autospec

import pytest
from airflow.providers.common.compat.sdk import Context, Stats
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_eeops import telemetry as telemetries
from airflow_provider_eeops.api.observing import OUTCOMES, POLLS, RATE_LIMIT_WAITS
from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.exceptions import CancellationFailedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.killing import KillCanceller
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.telemetry import Telemetry, telemetry
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.signals import killed_when

pytestmark = pytest.mark.usefixtures("connection")

_LONG = 30.0


class Sink:
    """Stands in for Airflow's Stats."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, dict[str, str]]] = []
        self.threads: set[str] = set()
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self._take(stat, count, tags)

    def timing(self, stat: str, dt: timedelta, *, tags: dict[str, str]) -> None:
        self._take(stat, dt, tags)

    def _take(self, stat: str, value: Any, tags: dict[str, str]) -> None:
        self.threads.add(threading.current_thread().name)
        self.gate.wait(_LONG)
        if self.error is not None:
            raise self.error
        self.sent.append((stat, value, tags))


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.gate.set()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def told(sink: Sink, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Telemetry:
    """The process's own, with a stand-in for Stats."""
    told = Telemetry(sink, provider.get_tracer("airflow_provider_eeops"))
    monkeypatch.setattr(telemetries, "_telemetry", told)
    return told


def cancel(*names: str, **parameters: Any) -> EarthEngineCancelOperationsOperator:
    return EarthEngineCancelOperationsOperator(
        task_id="cancel", operations=list(names), **{"deferrable": False, "poll_interval": 0.02} | parameters
    )


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_task_sends_its_metrics_from_one_thread(
    told: Telemetry, sink: Sink, emulator: Emulator, context: Context
) -> None:
    names = [emulator.add_operation(project=project, cancel_seconds=1) for project in ("one", "two")]
    cancel(*names, wait_for_completion=True).execute(context)
    assert told.flush(_LONG)
    assert sink.threads == {"eeops-telemetry"}
    sums: dict[tuple[str, str], int] = {}
    for name, value, tags in sink.sent:
        if name == "eeops.outcomes":
            sums[tags["project"], tags["outcome"]] = value
    assert sums[("one", "cancelled")] == sums[("two", "cancelled")] == 1
    assert [value for name, value, _ in sink.sent if name == "eeops.cancels_requested"] == [1, 1]
    took = [value for name, value, _ in sink.sent if name == "eeops.time_to_confirmation"]
    assert len(took) == 2
    assert all(timedelta() <= value < timedelta(seconds=_LONG) for value in took)


def test_what_cannot_be_sent_changes_nothing_and_is_said_once(
    told: Telemetry, sink: Sink, emulator: Emulator, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    sink.error = OSError("ya29.secret")
    with caplog.at_level(logging.INFO, logger="airflow_provider_eeops"):
        report = cancel(emulator.add_operation(), wait_for_completion=True).execute(context)
        assert told.flush(_LONG)
    assert report["counts"] == {"cancelled": 1}
    said = [record.getMessage() for record in caplog.records if record.name == "airflow_provider_eeops.telemetry"]
    assert said == ["A metric or a span could not be sent, nor may others be: OSError"]


@pytest.mark.usefixtures("told")
def test_what_is_sent_late_delays_no_request(sink: Sink, emulator: Emulator, context: Context) -> None:
    sink.gate.clear()
    report = cancel(*(emulator.add_operation() for _ in range(20)), wait_for_completion=True).execute(context)
    assert report["counts"] == {"cancelled": 20}
    assert sink.sent == []


def test_what_waits_to_be_sent_has_a_limit(told: Telemetry, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetries, "_MOST_WAITING", 50)
    sink.gate.clear()
    for _ in range(200):
        told.count(POLLS, method="get", project="one")
    sink.gate.set()
    assert told.flush(_LONG)
    assert 50 <= len(sink.sent) <= 51


@pytest.mark.usefixtures("told")
def test_a_kill_waits_for_no_lock_of_who_sends(sink: Sink, emulator: Emulator) -> None:
    """The thread that the signal interrupts may hold it, and goes on only when the handler has returned."""
    name, seen = emulator.add_operation(), []
    with EarthEngineOperationsHook() as hook:
        killing = KillCanceller(hook)

        def on_kill() -> None:
            began = time.monotonic()
            killing.cancel([name])
            seen.append((emulator.cancel_requested(name), time.monotonic() - began))

        sink.gate.clear()
        with killed_when(lambda: True, on_kill):
            deadline = time.monotonic() + _LONG
            while not seen and time.monotonic() < deadline:
                time.sleep(0.01)
        killing.close()
    (requested, seconds) = seen[0]
    assert requested
    assert seconds < 2.0, "it waited as long as a handler waits at most"


def test_a_kill_makes_nothing_ready_that_was_not(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    made = create_autospec(telemetries._stats, return_value=None)
    monkeypatch.setattr(telemetries, "_telemetry", None)
    monkeypatch.setattr(telemetries, "_stats", made)
    with EarthEngineOperationsHook() as hook:
        killing = KillCanceller(hook)
        assert made.call_count == 1
        killing.cancel([emulator.add_operation()])
        killing.close()
    assert made.call_count == 1


def test_the_event_loop_sends_nothing(told: Telemetry, sink: Sink, emulator: Emulator) -> None:
    names = [emulator.add_operation(cancelled=True) for _ in range(3)]
    sink.gate.clear()

    async def run() -> list[Any]:
        trigger = EarthEngineOperationsTrigger(operations=names, poll_interval=0.02, requested_at=time.time())
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(run())
    assert event.payload["report"]["counts"] == {"cancelled": 3}
    sink.gate.set()
    assert told.flush(_LONG)
    assert sink.threads == {"eeops-telemetry"}
    assert [value for name, value, _ in sink.sent if name == OUTCOMES.name] == [3]
    assert len([name for name, _, _ in sink.sent if name == "eeops.time_to_confirmation"]) == 3


def test_a_tag_has_no_character_that_ends_it(told: Telemetry, sink: Sink) -> None:
    told.time(RATE_LIMIT_WAITS, 1.5, project="example.com:one")
    assert told.flush(_LONG)
    assert sink.sent == [("eeops.rate_limit_waits", timedelta(seconds=1.5), {"project": "example.com_one"})]


def test_a_forked_process_sends_its_own(told: Telemetry, sink: Sink) -> None:
    sink.gate.clear()
    told.count(POLLS, method="get", project="parent")
    told.count(POLLS, method="get", project="parent")
    known, tell = os.pipe()
    child = os.fork()
    if child == 0:
        sink.gate.set()
        told.count(POLLS, method="get", project="child")
        told.flush(_LONG)
        os.write(tell, ",".join(tags["project"] for _, _, tags in sink.sent).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(known, 100) == b"child"
    os.close(known)
    os.close(tell)
    sink.gate.set()
    assert told.flush(_LONG)
    assert [tags["project"] for _, _, tags in sink.sent] == ["parent", "parent"]


def test_without_stats_and_tracer_all_goes_on(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    told = Telemetry(None, None)
    monkeypatch.setattr(telemetries, "_telemetry", told)
    assert cancel(emulator.add_operation()).execute(context)["counts"] == {"cancel_requested": 1}


def test_stats_that_cannot_be_made_are_none(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(Stats, "timer", create_autospec(Stats.timer, side_effect=ValueError("statsd_port")))
    with caplog.at_level(logging.WARNING, logger="airflow_provider_eeops"):
        assert telemetries._stats() is None
    assert caplog.messages == ["No metric is sent: ValueError"]


def test_there_is_one_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetries, "_telemetry", None)
    assert telemetry() is telemetry()


@pytest.fixture
def finished(told: Telemetry, exporter: InMemorySpanExporter) -> Callable[[], list[ReadableSpan]]:
    def finished_() -> list[ReadableSpan]:
        assert told.flush(_LONG)
        return list(exporter.get_finished_spans())

    return finished_


def test_a_task_has_two_spans_below_its_own(
    finished: Callable[[], list[ReadableSpan]], provider: TracerProvider, emulator: Emulator, context: Context
) -> None:
    names = [emulator.add_operation(cancel_seconds=1) for _ in range(3)]
    with provider.get_tracer("airflow").start_as_current_span("task") as parent:
        cancel(*names, wait_for_completion=True).execute(context)
    requesting, waiting, _ = sorted(finished(), key=lambda span: span.name)
    assert (requesting.name, waiting.name) == ("eeops.cancel", "eeops.wait")
    for span in (requesting, waiting):
        assert span.parent is not None
        assert span.parent.span_id == parent.get_span_context().span_id
        assert span.status.status_code is trace.StatusCode.UNSET
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time < span.end_time
    assert attributes(waiting) == {
        "eeops.operations": 3,
        "eeops.projects": ("one",),
        "eeops.outcomes.cancelled": 3,
    }


def test_a_span_of_what_failed(
    finished: Callable[[], list[ReadableSpan]], emulator: Emulator, context: Context
) -> None:
    name = emulator.add_operation(cancel_seconds=1000)
    with pytest.raises(CancellationFailedError):
        cancel(name, wait_for_completion=True, timeout=0.1).execute(context)
    (waiting,) = [span for span in finished() if span.name == "eeops.wait"]
    assert waiting.status.status_code is trace.StatusCode.ERROR
    assert not waiting.status.description
    assert not waiting.events
    assert attributes(waiting) == {
        "eeops.operations": 1,
        "eeops.operation": name,
        "eeops.projects": ("one",),
        "eeops.outcomes.not_confirmed_in_time": 1,
        "error.type": "timed_out",
    }


def test_a_kills_span_belongs_to_the_task(
    finished: Callable[[], list[ReadableSpan]], provider: TracerProvider, emulator: Emulator
) -> None:
    with EarthEngineOperationsHook() as hook, provider.get_tracer("airflow").start_as_current_span("task") as parent:
        killing = KillCanceller(hook)
        killing.cancel([emulator.add_operation()])
        killing.close()
    (requesting,) = [span for span in finished() if span.name == "eeops.cancel"]
    assert requesting.parent is not None
    assert requesting.parent.span_id == parent.get_span_context().span_id


def test_the_wait_of_a_trigger_has_a_span(finished: Callable[[], list[ReadableSpan]], emulator: Emulator) -> None:
    name = emulator.add_operation(cancelled=True)

    async def run() -> None:
        trigger = EarthEngineOperationsTrigger(operations=[name], poll_interval=0.02)
        assert [event async for event in trigger.run()]

    asyncio.run(run())
    (waiting,) = finished()
    assert waiting.name == "eeops.wait"
    assert attributes(waiting)["eeops.outcomes.cancelled"] == 1
