"""Five thousand operations in one task: all are dealt with, and what Airflow keeps of it can be read."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import Context, TaskDeferred

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from airflow_provider_eeops.exceptions import CancellationFailedError
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.support.clock import AdvancingClock
from tests.support.task_instance import FakeTaskInstance

COUNT = 5000


@pytest.fixture
def clock() -> AdvancingClock:
    return AdvancingClock()


@pytest.fixture
def emulator(clock: AdvancingClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    emulator = Emulator(
        require_token=False, clock=clock.time, run_seconds=100_000, cancel_seconds=100_000, queue_limit=COUNT
    )
    with EmulatorServer(emulator) as server:
        extra = {"base_url": server.base_url, "is_anonymous": True, "requests_per_second": 10_000}
        monkeypatch.setenv("AIRFLOW_CONN_MANY", json.dumps({"conn_type": "earthengine", "extra": extra}))
        yield emulator


@pytest.fixture
def ti() -> FakeTaskInstance:
    return FakeTaskInstance()


@pytest.fixture
def context(ti: FakeTaskInstance) -> Context:
    return cast(Context, {"ti": ti})


@pytest.fixture
def names(emulator: Emulator) -> list[str]:
    return [emulator.add_operation() for _ in range(COUNT)]


@contextmanager
def few_lines(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """See that a log can be read: it names some operations and counts the others."""
    caplog.clear()
    capsys.readouterr()
    caplog.set_level("INFO")
    yield
    printed = capsys.readouterr()
    text = caplog.text + printed.out + printed.err
    assert len(re.findall(r"emulator-project/operations/", text)) < 100
    assert str(COUNT) in text or f"{COUNT - 10}" in text


def test_five_thousand_names(
    emulator: Emulator,
    names: list[str],
    context: Context,
    ti: FakeTaskInstance,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = EarthEngineCancelOperationsOperator(
        task_id="cancel",
        earthengine_conn_id="many",
        operations=[names[:2500], "no operation", "projects/emulator-project/operations/GONE", names[2500:]],
    )
    with few_lines(caplog, capsys), pytest.raises(CancellationFailedError) as caught:
        task.execute(context)
    assert caught.value.report.counts == {"cancel_requested": COUNT, "not_found": 1, "error": 1}
    assert ti.returned == caught.value.report.to_dict()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == [
        "- projects/emulator-project/operations/GONE",
        "- 'no operation'",
    ]
    assert emulator.count("cancel") == COUNT + 1
    assert emulator.count("list") + emulator.count("get") < COUNT / 100, "looked for on pages, not one by one"


def test_one_deferred_sensor_waits_for_them(
    emulator: Emulator,
    clock: AdvancingClock,
    names: list[str],
    context: Context,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = EarthEngineOperationsSensor(
        task_id="wait", earthengine_conn_id="many", operations=names, deferrable=True, poke_interval=0.1
    )
    with few_lines(caplog, capsys), pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    _, arguments = deferred.value.trigger.serialize()
    assert len(json.dumps(arguments)) < 30 * COUNT, "little more than the ids"
    clock.advance(200_000)

    async def wait() -> Any:
        return await anext(type(deferred.value.trigger)(**arguments).run())

    with few_lines(caplog, capsys):
        event = asyncio.run(wait())
    assert repr(event) == f"TriggerEvent<settled: {COUNT} operations: {COUNT} SUCCEEDED>"
    assert len(json.dumps(deferred.value.kwargs)) < 1000
    with few_lines(caplog, capsys):
        report = task.execute_complete(context, event.payload)
    assert report["counts"] == {"finished_first": COUNT}
    assert [entry["name"] for entry in report["operations"]] == names
    assert emulator.count("get") == 0
    assert emulator.count("list") <= 20 + 2
