"""Many triggers in one event loop, as in a triggerer: they share a client and one poll for each project."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_eeops.api.polling import observe
from airflow_provider_eeops.api.watching import Watch
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.exceptions import CredentialsError, InvalidInputError, InvalidSettingsError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.triggers import sharing
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.clock import AdvancingClock
from tests.unit.glue.conftest import SetConnection

SHORT = 100.0
"""How long an operation runs that a test ends by putting the clock forward; the others run 1000 s."""

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def _settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_SETTLING_SECONDS", 0.02)
    monkeypatch.setattr(sharing, "_REREAD_LEAST_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert not any(connections for connections in sharing._connections.values())
    until = time.monotonic() + 10
    of_the_process = "eeops-telemetry"
    while threads := {each.name for each in threading.enumerate() if each.name.startswith("eeops-")} - {of_the_process}:
        assert time.monotonic() < until, threads
        time.sleep(0.01)


def trigger(*operations: str, **parameters: Any) -> EarthEngineOperationsTrigger:
    return EarthEngineOperationsTrigger(operations=operations, **({"poll_interval": 0.1} | parameters))


async def payload(waiting: EarthEngineOperationsTrigger) -> dict[str, Any]:
    (event,) = [event async for event in waiting.run()]
    found: dict[str, Any] = json.loads(json.dumps(event.payload))
    return found


async def until(true: Callable[[], object]) -> None:
    while not true():
        await asyncio.sleep(0.005)


def followed() -> bool:
    """Whether somebody follows a poll in this event loop."""
    connections = sharing._connections.get(asyncio.get_running_loop(), {})
    return any(poller.followers for connection in connections.values() for poller in connection._pollers.values())


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


async def end(*waits: asyncio.Task[Any]) -> None:
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


def test_however_many_wait_there_is_one_poll_and_one_token(emulator: Emulator, clock: AdvancingClock) -> None:
    names = [emulator.add_operation(run_seconds=SHORT) for _ in range(600)]

    async def go() -> list[dict[str, Any]]:
        waits = [asyncio.create_task(payload(trigger(name, poll_interval=0.3))) for name in names]
        await until(lambda: emulator.count("list") >= 4)
        assert emulator.count("get") == 0
        assert not any(wait.done() for wait in waits)
        clock.advance(2 * SHORT)
        return await asyncio.gather(*waits)

    events = run(go())
    assert [event["report"]["operations"][0]["name"] for event in events] == names
    assert {event["verdict"] for event in events} == {"settled"}
    assert emulator.count("list") < 20, "two pages a poll, and a poll or two more"
    assert (emulator.count("get"), emulator.count("token")) == (0, 1)


def test_who_asks_most_often_asks_for_all(emulator: Emulator, clock: AdvancingClock) -> None:
    slow, quick = emulator.add_operation(run_seconds=SHORT), emulator.add_operation()

    async def go() -> None:
        patient = asyncio.create_task(payload(trigger(slow, poll_interval=3600)))
        await until(followed)
        await asyncio.sleep(0.05)  # the poller sleeps by now
        hasty = asyncio.create_task(payload(trigger(quick, poll_interval=0.05)))
        await until(lambda: emulator.count("get", slow) >= 3)
        clock.advance(2 * SHORT)
        assert (await patient)["verdict"] == "settled"
        await end(hasty)

    run(go())


def test_who_has_just_come_is_told_nothing_before_airflow_knows_that_it_waits(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_SETTLING_SECONDS", 3600)
    name, finished = emulator.add_operation(), emulator.add_operation(finished=True)

    async def go() -> None:
        hasty = asyncio.create_task(payload(trigger(name, poll_interval=0.02)))
        new = asyncio.create_task(payload(trigger(finished, poll_interval=3600)))
        await until(lambda: emulator.count("get", finished) and emulator.count("get", name) >= 5)
        assert not new.done()
        await end(hasty, new)

    run(go())


def test_who_comes_later_adds_no_poll(emulator: Emulator) -> None:
    names = [emulator.add_operation() for _ in range(5)]

    async def go() -> float:
        began = time.monotonic()
        waits = []
        for name in names:
            waits.append(asyncio.create_task(payload(trigger(name, poll_interval=0.4))))
            await asyncio.sleep(0.1)
        await until(lambda: emulator.count("get", names[0]) >= 4)
        await end(*waits)
        return time.monotonic() - began

    seconds = run(go())
    assert emulator.count("get", names[0]) <= seconds / 0.4 + 1


def test_a_project_that_answers_late_delays_no_other(emulator: Emulator) -> None:
    stuck, quick = emulator.add_operation(), emulator.add_operation(project="two", finished=True)
    emulator.add_fault(Fault("get", name=stuck, seconds=2, times=None))

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(stuck)))
        await until(lambda: emulator.count("get", stuck))
        began = time.monotonic()
        assert (await payload(trigger(quick)))["verdict"] == "settled"
        assert time.monotonic() - began < 1.9, "before the other was answered"
        await end(waits)

    run(go())


def test_who_comes_while_a_poll_is_under_way_is_in_the_next(emulator: Emulator) -> None:
    slow, new = emulator.add_operation(), emulator.add_operation(finished=True)
    emulator.add_fault(Fault("get", name=slow, seconds=0.5, times=1))

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(slow, poll_interval=0.05)))
        await until(lambda: emulator.count("get", slow))
        assert (await payload(trigger(new, poll_interval=0.05)))["verdict"] == "settled"
        await end(waits)

    run(go())


def test_who_goes_takes_nobody_along(emulator: Emulator, clock: AdvancingClock) -> None:
    left, stays = emulator.add_operation(), emulator.add_operation(run_seconds=SHORT)

    async def go() -> None:
        leaving = asyncio.create_task(payload(trigger(left)))
        staying = asyncio.create_task(payload(trigger(stays)))
        await until(lambda: emulator.count("get", left))
        await end(leaving)
        asked = emulator.count("get", left)
        clock.advance(2 * SHORT)
        assert (await staying)["verdict"] == "settled"
        assert emulator.count("get", left) <= asked + 1, "one poll may have been under way"

    run(go())


def test_a_bad_name_harms_nobody_else(emulator: Emulator) -> None:
    gone = "projects/one/operations/GONE"
    good = [emulator.add_operation(run_seconds=0.2) for _ in range(3)]

    async def go() -> list[dict[str, Any]]:
        return await asyncio.gather(*(payload(trigger(name)) for name in [good[0], gone, *good[1:]]))

    events = run(go())
    assert [event["report"]["counts"] for event in events] == [
        {"finished_first": 1},
        {"not_found": 1},
        {"finished_first": 1},
        {"finished_first": 1},
    ]


def test_a_watch_that_cannot_learn_fails_alone(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = emulator.add_operation(finished=True), emulator.add_operation(finished=True)
    learn = Watch.learn

    def learn_or_fail(self: Watch, *observed: Any) -> Any:
        if bad in self.names:
            raise ZeroDivisionError
        return learn(self, *observed)

    monkeypatch.setattr(Watch, "learn", learn_or_fail)

    async def go() -> Any:
        return await asyncio.gather(*(payload(trigger(name)) for name in (bad, good)), return_exceptions=True)

    failed, event = run(go())
    assert isinstance(failed, ZeroDivisionError)
    assert event["verdict"] == "settled"


def test_a_poll_that_nobody_foresaw_is_a_failed_one(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sharing, "observe", fail)
    event = run(payload(trigger(emulator.add_operation(), poll_failure_limit=2)))
    assert event["verdict"] == "polls_failed"
    assert "an error that was not expected: ZeroDivisionError" in event["message"]
    assert "Operations of one could not be asked for." in caplog.text


def test_a_listing_that_is_refused_is_tried_and_told_once(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    emulator.deny("earthengine.operations.list")
    names = [emulator.add_operation() for _ in range(20)]

    async def go() -> None:
        waits = [asyncio.create_task(payload(trigger(name))) for name in names]
        await until(lambda: all(emulator.count("get", name) >= 2 for name in names))
        await end(*waits)

    run(go())
    assert emulator.count("list") == 1
    assert caplog.text.count("cannot be listed") == 1


def test_operations_of_two_projects_fail_and_end_each_for_itself(emulator: Emulator) -> None:
    refused, finished = emulator.add_operation(), emulator.add_operation(project="two", finished=True)
    emulator.add_fault(Fault("get", name=refused, status=409, message="Busy.", times=None))
    event = run(payload(trigger(refused, finished, poll_failure_limit=3)))
    assert event["verdict"] == "polls_failed"
    assert "3 polls in a row failed, the last with: " in event["message"]
    assert emulator.count("get", finished) == 1, "each project's poll asks for its own"
    assert "Busy." in event["message"]
    assert event["report"]["counts"] == {"not_confirmed_in_time": 1, "finished_first": 1}


def test_a_deadline_is_kept_while_a_poll_hangs(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_LAST_LOOK", 0.2)
    name = emulator.add_operation()
    emulator.add_fault(Fault("get", seconds=3, times=None))
    began = time.monotonic()
    event = run(payload(trigger(name, deadline=time.time() + 0.5)))
    assert event["verdict"] == "timed_out"
    assert time.monotonic() - began < 3


def test_at_its_deadline_it_looks_once_more(emulator: Emulator) -> None:
    name = emulator.add_operation(finished=True)
    event = run(payload(trigger(name, poll_interval=3600, deadline=time.time() + 0.3)))
    assert event["verdict"] == "settled"


def test_a_connection_that_does_not_exist_is_an_error_of_each(emulator: Emulator) -> None:
    async def go() -> Any:
        waits = [payload(trigger(emulator.add_operation(), earthengine_conn_id="nobodys")) for _ in range(3)]
        return await asyncio.gather(*waits, return_exceptions=True)

    assert [type(error) for error in run(go())] == [AirflowNotFoundException] * 3


def test_the_last_one_out_closes_the_connections(
    emulator: Emulator, clock: AdvancingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = create_autospec(EarthEngineOperationsHook.close, side_effect=EarthEngineOperationsHook.close)
    monkeypatch.setattr(EarthEngineOperationsHook, "close", close)
    first, last = emulator.add_operation(run_seconds=SHORT), emulator.add_operation(run_seconds=4 * SHORT)

    async def go() -> None:
        waits = [asyncio.create_task(payload(trigger(name))) for name in (first, last)]
        await until(lambda: emulator.count("get", last))
        clock.advance(2 * SHORT)
        await waits[0]
        close.assert_not_called()
        clock.advance(4 * SHORT)
        await waits[1]
        close.assert_called_once()

    run(go())


def test_a_connection_that_has_changed_is_noticed(
    emulator: Emulator, clock: AdvancingClock, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_REREAD_SECONDS", 0.1)
    name = emulator.add_operation(run_seconds=SHORT)

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(name)))
        await until(lambda: emulator.count("get", name))
        assert emulator.count("token") == 1
        set_connection(keyfile_dict=None, is_anonymous=True)
        emulator.require_token = False
        await until(lambda: "authorization" not in emulator.requests_since(0)[-1].headers)
        clock.advance(2 * SHORT)
        assert (await waits)["verdict"] == "settled"

    run(go())


def test_after_refused_credentials_the_connection_is_read_again(
    emulator: Emulator, clock: AdvancingClock, set_connection: SetConnection
) -> None:
    name = emulator.add_operation(run_seconds=SHORT)
    emulator.add_fault(Fault("token", status=400, rpc_status="invalid_grant", times=None))

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(name, poll_failure_limit=100)))
        await until(lambda: emulator.count("token"))
        set_connection(keyfile_dict=None, is_anonymous=True)
        emulator.require_token = False
        clock.advance(2 * SHORT)
        assert (await waits)["verdict"] == "settled"

    run(go())


def test_while_a_connection_cannot_be_read_again_what_was_read_before_serves(
    emulator: Emulator,
    clock: AdvancingClock,
    set_connection: SetConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sharing, "_REREAD_SECONDS", 0.1)
    name = emulator.add_operation(run_seconds=SHORT)

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(name, poll_failure_limit=1)))
        await until(lambda: emulator.count("get", name))
        set_connection(requests_per_second="many")
        await until(lambda: "cannot be read again" in caplog.text)
        asked = emulator.count("get", name)
        await until(lambda: emulator.count("get", name) > asked)
        clock.advance(2 * SHORT)
        event = await waits
        assert (event["verdict"], event["report"]["counts"]) == ("settled", {"finished_first": 1})

    run(go())
    set_connection(requests_per_second="many")
    with pytest.raises(InvalidSettingsError):
        run(payload(trigger(name)))


def test_a_key_file_that_was_replaced_is_read(
    emulator: Emulator, clock: AdvancingClock, server: EmulatorServer, set_connection: SetConnection, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps(server.service_account_info("old@one.example")))
    set_connection(keyfile_dict=None, key_path=str(key))
    name = emulator.add_operation(run_seconds=SHORT)

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(name, poll_failure_limit=1000)))
        await until(lambda: emulator.count("get", name))
        emulator.revoke_tokens()
        emulator.add_fault(Fault("token", status=400, rpc_status="invalid_grant", times=1))
        key.write_text(json.dumps(server.service_account_info("new@one.example")))
        await until(lambda: emulator.requests_since(0)[-1].principal == "new@one.example")
        clock.advance(2 * SHORT)
        assert (await waits)["verdict"] == "settled"

    run(go())


def test_an_operation_that_is_answered_late_delays_no_other_of_its_project(emulator: Emulator) -> None:
    stuck, quick = emulator.add_operation(), emulator.add_operation(finished=True)
    emulator.add_fault(Fault("get", name=stuck, seconds=3, times=None))

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(stuck)))
        assert (await payload(trigger(quick)))["verdict"] == "settled"
        assert not any(record.status for record in emulator.requests_since(0) if record.name == stuck)
        await end(waits)

    run(go())


def test_a_poll_counts_once_for_a_wait_whose_answers_come_one_by_one(emulator: Emulator) -> None:
    good, bad = emulator.add_operation(), emulator.add_operation()
    emulator.add_fault(Fault("get", name=bad, seconds=0.2, status=409, times=None))
    event = run(payload(trigger(good, bad, poll_failure_limit=3)))
    assert event["verdict"] == "polls_failed"
    assert emulator.count("get", bad) == 3


def test_credentials_that_cannot_be_had_are_asked_for_once_for_all(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: EarthEngineOperationsHook) -> None:
        time.sleep(0.3)
        raise CredentialsError("none to be had")

    get_conn = create_autospec(EarthEngineOperationsHook.get_conn, side_effect=fail)
    monkeypatch.setattr(EarthEngineOperationsHook, "get_conn", get_conn)

    async def go() -> Any:
        waits = [payload(trigger(emulator.add_operation())) for _ in range(20)]
        return await asyncio.gather(*waits, return_exceptions=True)

    assert {type(error) for error in run(go())} == {CredentialsError}
    get_conn.assert_called_once()


def test_a_listing_that_was_refused_is_tried_again_after_some_minutes(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_REREAD_SECONDS", 0.5)
    emulator.deny("earthengine.operations.list")
    names = [emulator.add_operation() for _ in range(10)]

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(*names)))
        await until(lambda: emulator.count("get") >= 20)
        emulator.allow_all()
        await until(lambda: emulator.requests_since(0)[-1].method == "list" and emulator.count("list") >= 3)
        await end(waits)

    run(go())


def test_when_polls_stop_for_good_nobody_goes_on_waiting(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sharing, "_Asked", fail)
    with pytest.raises(ZeroDivisionError):
        run(payload(trigger(emulator.add_operation())))


def test_a_kill_says_what_it_did_in_the_log_of_its_task() -> None:
    """Airflow tells by a context variable in which log a line belongs."""
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose")

    async def go() -> str:
        whose.set("mine")
        async with sharing.shared_connection("earthengine_default", None) as connection:
            return await connection.cancel(lambda _client: whose.get("nobody's"))

    assert run(go()) == "mine"


def test_a_kill_is_sent_while_the_polls_are_held(emulator: Emulator) -> None:
    name = emulator.add_operation()

    async def go() -> None:
        async with sharing.shared_connection("earthengine_default", None) as connection:
            polling = await connection.client()
            emulator.add_fault(Fault("get", status=429, headers={"Retry-After": "8"}))
            held = threading.Thread(target=lambda: observe(polling, [name], until=time.monotonic() + 12), daemon=True)
            held.start()
            await until(lambda: emulator.count("get", name))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            await connection.cancel(lambda client: client.cancel_operation(name))
            assert time.monotonic() - began < 4, "half of the hold"

    run(go())
    assert emulator.cancel_requested(name)


def test_refused_credentials_of_a_connection_that_cannot_be_read_are_failed_polls(
    emulator: Emulator, set_connection: SetConnection
) -> None:
    name = emulator.add_operation()

    async def go() -> Any:
        waits = asyncio.create_task(payload(trigger(name, poll_failure_limit=4)))
        await until(lambda: emulator.count("get", name))
        emulator.revoke_tokens()
        emulator.add_fault(Fault("token", status=400, rpc_status="invalid_grant", times=None))
        set_connection(requests_per_second="many")
        return await waits

    event = run(go())
    assert event["verdict"] == "polls_failed"
    assert "the connection cannot be used: connection extra requests_per_second is 'many'" in event["message"]


def test_an_operation_that_is_given_twice_is_one(emulator: Emulator) -> None:
    name = emulator.add_operation(finished=True)
    event = run(payload(trigger(name, name)))
    assert [entry["name"] for entry in event["report"]["operations"]] == [name]


def test_a_quota_that_is_spent_is_waited_for_and_is_no_failed_poll(emulator: Emulator) -> None:
    name = emulator.add_operation(finished=True)
    emulator.add_fault(Fault("get", status=429, headers={"Retry-After": "2"}))
    began = time.monotonic()
    event = run(payload(trigger(name, poll_failure_limit=1)))
    assert event["verdict"] == "settled"
    assert time.monotonic() - began >= 2
    assert emulator.count("get") == 2


def test_a_deadline_that_passes_before_airflow_knows_that_it_waits_is_told_at_once(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_SETTLING_SECONDS", 3600)
    name = emulator.add_operation()
    assert run(payload(trigger(name, poll_interval=3600, deadline=time.time() - 5)))["verdict"] == "timed_out"
    assert emulator.count("get") == 1


def test_who_asks_rarely_counts_the_polls_that_fail_at_its_own_interval(emulator: Emulator) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    emulator.add_fault(Fault("get", status=409, times=None))

    async def go() -> None:
        rare = trigger(names[0], poll_interval=3600, poll_failure_limit=2)
        waits = asyncio.create_task(payload(rare))
        await until(followed)
        assert (await payload(trigger(names[1], poll_failure_limit=5)))["verdict"] == "polls_failed"
        assert rare._watch is not None
        assert (waits.done(), rare._watch.failed_polls) == (False, 0)
        await end(waits)

    run(go())


def test_who_asks_rarely_is_told_of_its_errors_though_others_ask_more_often(emulator: Emulator) -> None:
    async def go() -> Any:
        hasty = asyncio.create_task(payload(trigger(emulator.add_operation(), poll_interval=0.05)))
        event = await payload(trigger("projects/one/operations/GONE", poll_interval=0.5))
        await end(hasty)
        return event

    assert run(go())["report"]["counts"] == {"not_found": 1}


def test_a_listing_is_read_to_its_end_however_long_that_takes(emulator: Emulator) -> None:
    names = [emulator.add_operation() for _ in range(12)]
    emulator.page_size_limit = 2
    emulator.add_fault(Fault("list", seconds=0.2, times=None))

    async def go() -> None:
        waits = asyncio.create_task(payload(trigger(*names, poll_failure_limit=1)))
        await until(lambda: emulator.count("list") >= 8)
        assert not waits.done()
        await end(waits)

    run(go())


@pytest.mark.parametrize("parameters", [{"poll_interval": 0}, {"max_concurrency": 0}])
def test_a_parameter_out_of_its_range_is_an_error_before_it_waits(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(parameters))):
        trigger("projects/one/operations/A", **parameters)
