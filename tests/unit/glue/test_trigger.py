from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger

pytestmark = pytest.mark.usefixtures("connection")


def trigger(*operations: str, **parameters: Any) -> EarthEngineOperationsTrigger:
    return EarthEngineOperationsTrigger(operations=operations, **({"poll_interval": 0.02} | parameters))


def event_of(waiting: EarthEngineOperationsTrigger) -> dict[str, Any]:
    """Run it to its one event; the payload as Airflow stores it."""

    async def run() -> list[Any]:
        return [event async for event in waiting.run()]

    (event,) = asyncio.run(run())
    payload: dict[str, Any] = json.loads(json.dumps(event.payload))
    return payload


def test_survives_serialisation() -> None:
    before = trigger(
        "projects/one/operations/A",
        earthengine_conn_id="other",
        impersonation_chain=["a", "b"],
        deadline=123.5,
        accepted_states={"SUCCEEDED"},
        poll_failure_limit=3,
        max_concurrency=2,
    )
    path, arguments = before.serialize()
    assert path == "airflow_provider_eeops.triggers.operations.EarthEngineOperationsTrigger"
    stored = json.loads(json.dumps(arguments))
    assert EarthEngineOperationsTrigger(**stored).serialize() == (path, stored)
    assert stored["impersonation_chain"] == ["a", "b"]
    assert stored["deadline"] == 123.5


def test_a_chain_of_one_survives_serialisation() -> None:
    assert trigger(impersonation_chain="a@one.example").serialize()[1]["impersonation_chain"] == "a@one.example"


def test_ends_when_every_operation_is_confirmed(emulator: Emulator) -> None:
    names = [emulator.add_operation(run_seconds=0.2), emulator.add_operation(ends="FAILED", finished=True)]
    event = event_of(trigger(*names))
    assert (event["verdict"], event["message"]) == ("settled", "2 operations: 1 SUCCEEDED, 1 FAILED")
    assert [op["state"] for op in event["report"]["operations"]] == ["SUCCEEDED", "FAILED"]


def test_ends_at_a_state_that_is_not_accepted(emulator: Emulator) -> None:
    running, cancelled = emulator.add_operation(), emulator.add_operation(cancelled=True)
    event = event_of(trigger(running, cancelled, accepted_states=["SUCCEEDED"]))
    assert event["verdict"] == "not_accepted"
    assert cancelled in event["message"]


def test_ends_at_its_deadline_also_when_that_has_passed(emulator: Emulator) -> None:
    name = emulator.add_operation()
    for deadline in (time.time() - 10, time.time() + 0.1):
        event = event_of(trigger(name, deadline=deadline))
        assert event["verdict"] == "timed_out"
        assert event["report"]["counts"] == {"not_confirmed_in_time": 1}
    assert emulator.count("cancel") == 0, "waiting never cancels"


def test_tolerates_failed_polls_up_to_its_limit(emulator: Emulator) -> None:
    name = emulator.add_operation(finished=True)
    emulator.add_fault(Fault("get", status=409, times=2))
    assert event_of(trigger(name, poll_failure_limit=3))["verdict"] == "settled"
    emulator.add_fault(Fault("get", status=409, message="Busy.", times=2))
    event = event_of(trigger(name, poll_failure_limit=2))
    assert event["verdict"] == "polls_failed"
    assert "Busy." in event["message"]
    assert emulator.count("cancel") == 0, "a failed poll never cancels"


def test_http_runs_off_the_event_loop(emulator: Emulator) -> None:
    name = emulator.add_operation(finished=True)
    emulator.add_fault(Fault("get", seconds=0.3))
    ticks = 0

    async def run() -> int:
        nonlocal ticks

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        async for _ in trigger(name).run():
            pass
        ticking.cancel()
        return ticks

    assert asyncio.run(run()) > 10, "the loop went on while the answer was awaited"


def test_a_cancelled_trigger_cancels_no_operation(emulator: Emulator) -> None:
    name = emulator.add_operation()

    async def run() -> None:
        waiting = asyncio.ensure_future(anext(trigger(name, poll_interval=100).run()))
        while emulator.count("get") == 0:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert emulator.count("cancel") == 0
