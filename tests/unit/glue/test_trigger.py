from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest

from airflow_provider_eeops import xcom
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.instances import Instance, Run
from airflow_provider_eeops.progress import log_poll
from airflow_provider_eeops.triggers import operations as module
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
        cancel_on_kill=False,
        source_task_ids=("export",),
        requested_at=100.5,
    )
    path, arguments = before.serialize()
    assert path == "airflow_provider_eeops.triggers.operations.EarthEngineOperationsTrigger"
    stored = json.loads(json.dumps(arguments))
    assert EarthEngineOperationsTrigger(**stored).serialize() == (path, stored)
    assert stored["impersonation_chain"] == ["a", "b"]
    assert (stored["deadline"], stored["requested_at"]) == (123.5, 100.5)
    assert (stored["cancel_on_kill"], stored["source_task_ids"]) == (False, ["export"])


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


def test_a_log_that_nobody_takes_does_not_stop_the_event_loop(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, in_time = threading.Event(), []
    logged = create_autospec(log_poll, side_effect=lambda *_: in_time.append(taken.wait(10)))
    monkeypatch.setattr(module, "log_poll", logged)
    name = emulator.add_operation(finished=True)

    async def take() -> None:
        while not logged.called:
            await asyncio.sleep(0.01)
        taken.set()

    async def run() -> None:
        taking = asyncio.create_task(take())
        assert [event.payload["verdict"] async for event in trigger(name).run()] == ["settled"]
        await taking

    asyncio.run(run())
    assert in_time == [True]


@pytest.mark.usefixtures("run")
def test_a_cancelled_trigger_cancels_no_operation(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIGGERS_HAVE_ON_KILL", True)
    name = emulator.add_operation()

    async def run() -> None:
        waiting = asyncio.ensure_future(anext(placed(trigger(name)).run()))
        while emulator.count("get") == 0:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert emulator.count("cancel") == 0


# on_kill


@dataclass
class Known:
    """What Airflow knows of the run that the trigger's task is in."""

    states: dict[str, str | None]
    recorded: list[str] | None = None
    looks: int = 0
    then: Callable[[], None] = field(default=lambda: None)
    """What happens after the first look."""

    def task_states(self, run: Run, task_ids: list[str]) -> dict[str, str | None]:
        assert run == ("dag", "run")
        assert "wait" in task_ids
        self.looks += 1
        seen = dict(self.states)
        if self.looks == 1:
            self.then()
        return seen

    def pull_recorded(self, run: Run, instance: Instance) -> list[str] | None:
        assert (run.run_id, instance.task_id) == ("run", "wait")
        return self.recorded


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Known:
    run = Known({"wait": "failed"})
    for name, instead in (("task_states", run.task_states), ("pull_recorded", run.pull_recorded)):
        monkeypatch.setattr(module, name, create_autospec(getattr(xcom, name), side_effect=instead))
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(EarthEngineOperationsTrigger, "_has_asked", True)
    return run


def test_the_first_wait_of_a_process_asks_airflow_so_that_a_kill_need_not_wait_for_its_first_answer(
    emulator: Emulator, run: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EarthEngineOperationsTrigger, "_has_asked", False)
    name = emulator.add_operation(finished=True)
    for _ in range(2):
        assert event_of(placed(trigger(name)))["verdict"] == "settled"
    assert run.looks == 1


def placed(waiting: EarthEngineOperationsTrigger, *, map_index: int = -1) -> EarthEngineOperationsTrigger:
    instance: Any = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=map_index, try_number=1)
    waiting.task_instance = instance
    return waiting


def told_to_go(waiting: EarthEngineOperationsTrigger, *, again: int = 0, after: float = 0.0) -> None:
    """Call on_kill as the triggerer does, which then cancels the very call, again and again."""

    async def go() -> None:
        call = asyncio.ensure_future(waiting.on_kill())
        for _ in range(again):
            await asyncio.sleep(after)
            call.cancel()
        await call

    asyncio.run(go())


def test_a_task_that_was_ended_has_its_operations_cancelled(emulator: Emulator, run: Known) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    told_to_go(placed(trigger(*names)))
    assert [emulator.cancel_requested(name) for name in names] == [True, True]
    assert run.looks == 1


@pytest.mark.usefixtures("run")
def test_only_what_is_not_confirmed_is_asked_to_cancel(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIGGERS_HAVE_ON_KILL", True)
    running, ended = emulator.add_operation(), emulator.add_operation(finished=True)
    waiting = placed(trigger(running, ended))

    async def go() -> None:
        polling = asyncio.ensure_future(anext(waiting.run()))
        while waiting._watch is None or ended not in waiting._watch.operations:
            await asyncio.sleep(0.01)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        await waiting.on_kill()

    asyncio.run(go())
    assert [emulator.count("cancel", name) for name in (running, ended)] == [1, 0]


def test_a_mapped_task_asks_for_its_own_state(emulator: Emulator, run: Known) -> None:
    name = emulator.add_operation()
    run.states, run.recorded = {"wait": "failed", "wait_0": "failed", "wait_1": "deferred"}, [name]
    told_to_go(placed(trigger(name), map_index=1))
    assert emulator.count("cancel") == 0


@pytest.mark.usefixtures("run")
def test_the_work_outlives_the_cancellation_of_on_kill(emulator: Emulator) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("cancel", seconds=0.5))
    told_to_go(placed(trigger(name)), again=4, after=0.1)
    assert emulator.cancel_requested(name)


def test_what_another_triggerer_waits_for_goes_on(emulator: Emulator, run: Known) -> None:
    name = emulator.add_operation()
    run.states, run.recorded = {"wait": "deferred"}, [name]
    told_to_go(placed(trigger(name)))
    assert emulator.count("cancel") == 0


def test_the_old_trys_operations_are_cancelled_and_the_new_ones_are_not(emulator: Emulator, run: Known) -> None:
    old, new = emulator.add_operation(), emulator.add_operation()
    run.states, run.recorded = {"wait": "deferred"}, [new]
    told_to_go(placed(trigger(old)))
    assert [emulator.count("cancel", name) for name in (old, new)] == [1, 0]


def test_cleared_with_its_upstream_the_operations_are_nobodys(emulator: Emulator, run: Known) -> None:
    name = emulator.add_operation()
    run.states, run.recorded = {"wait": None, "export": "running"}, [name]
    told_to_go(placed(trigger(name, source_task_ids=["export"])))
    assert emulator.cancel_requested(name)


def test_cleared_alone_it_waits_to_see_what_the_next_try_waits_for(emulator: Emulator, run: Known) -> None:
    name = emulator.add_operation()
    run.states, run.recorded = {"wait": None, "export": "success"}, [name]
    run.then = lambda: run.states.update(wait="deferred")
    told_to_go(placed(trigger(name, source_task_ids=["export"])))
    assert run.looks == 2
    assert emulator.count("cancel") == 0


def test_a_next_try_that_succeeded_between_two_looks_keeps_the_operations(emulator: Emulator, run: Known) -> None:
    name = emulator.add_operation()
    run.states, run.recorded = {"wait": "running"}, [name]
    run.then = lambda: run.states.update(wait="success")
    told_to_go(placed(trigger(name)))
    assert run.looks == 2
    assert emulator.count("cancel") == 0


def test_a_next_try_that_never_comes_keeps_the_operations(
    emulator: Emulator, run: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNDECIDED_SECONDS", 0.1)
    run.states = {"wait": "queued"}
    told_to_go(placed(trigger(emulator.add_operation())))
    assert run.looks > 2
    assert emulator.count("cancel") == 0


def test_told_not_to_it_does_not_even_ask(emulator: Emulator, run: Known) -> None:
    told_to_go(placed(trigger(emulator.add_operation(), cancel_on_kill=False)))
    assert (run.looks, emulator.count("cancel")) == (0, 0)


def test_without_a_task_it_cancels_nothing(emulator: Emulator, run: Known) -> None:
    told_to_go(trigger(emulator.add_operation()))
    assert (run.looks, emulator.count("cancel")) == (0, 0)


def test_an_airflow_that_does_not_answer_is_asked_again(
    emulator: Emulator, run: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([RuntimeError("away"), RuntimeError("away")])

    def answer(*arguments: Any) -> dict[str, str | None]:
        if (error := next(answers, None)) is not None:
            raise error
        return run.task_states(*arguments)

    monkeypatch.setattr(module, "task_states", create_autospec(xcom.task_states, side_effect=answer))
    name = emulator.add_operation()
    told_to_go(placed(trigger(name)))
    assert emulator.cancel_requested(name)


def test_a_triggerer_that_stops_before_it_is_decided_says_so(
    emulator: Emulator, run: Known, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run.states = {"wait": "queued"}
    name = emulator.add_operation()

    async def go() -> None:
        call = asyncio.ensure_future(placed(trigger(name)).on_kill())
        while run.looks < 2:
            await asyncio.sleep(0.01)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # as a loop that is closed does
            task.cancel()
        await call

    asyncio.run(go())
    out = capsys.readouterr()
    assert f"The triggerer stops before it is known whose these are; cancel them if nobody waits for them: {name}" in (
        caplog.text + out.out + out.err
    )
    assert emulator.count("cancel") == 0


@pytest.mark.usefixtures("run")
def test_before_airflow_3_3_the_cancellation_of_the_trigger_is_the_kill(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIGGERS_HAVE_ON_KILL", False)
    name = emulator.add_operation()
    waiting = placed(trigger(name))

    async def go() -> None:
        polling = asyncio.ensure_future(anext(waiting.run()))
        while emulator.count("get") == 0:
            await asyncio.sleep(0.01)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling

    asyncio.run(go())
    assert emulator.cancel_requested(name)
