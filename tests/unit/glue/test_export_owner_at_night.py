"""What would be left running unknown, or cancelled though it is somebody else's, when several things go wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, AirflowTaskTimeout, Context

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.exports import Export
from airflow_provider_eeops.api.models import Operation, Report
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import NotConfirmedError, NotStartedError, TaskKilledError
from airflow_provider_eeops.exporting import ExportOwner
from airflow_provider_eeops.starts import Ledger
from tests.support.clock import AdvancingClock
from tests.support.exports import MemoryStore, image_export
from tests.support.signals import killed_when, timed_out_when
from tests.support.task_instance import FakeTaskInstance
from tests.unit.glue.conftest import SetConnection
from tests.unit.glue.test_export_operator import Exports, allow_retries, lost, next_try, operator, recorded

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def emulator(clock: AdvancingClock) -> Emulator:
    return Emulator(projects=("one", "two"), clock=clock.time, pending_seconds=0, run_seconds=1000, cancel_seconds=0)


@pytest.fixture
def context(ti: FakeTaskInstance) -> Context:
    return cast(Context, {"ti": ti, "task_state_store": MemoryStore()})


class _Policy:
    """A retry policy, of which Airflow 3.3 has some."""

    def __init__(self, action: str) -> None:
        self.action = action

    def evaluate(self, **_: Any) -> Any:
        return type("Decision", (), {"action": type("Action", (), {"value": self.action})()})()


@pytest.mark.parametrize(("action", "is_cancelled"), [("fail", True), ("retry", False), ("default", False)])
def test_a_retry_policy_that_fails_the_task_leaves_nothing_to_a_next_try(
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    set_connection: SetConnection,
    action: str,
    is_cancelled: bool,
) -> None:
    set_connection(num_retries=0)
    allow_retries(ti, 1)
    emulator.add_fault(Fault("get", status=503, times=None))
    made = operator(Exports("a"), retries=1)
    cast(Any, made).retry_policy = _Policy(action)
    with pytest.raises(NotConfirmedError, match="polls in a row failed"):
        made.execute(context)
    assert emulator.cancel_requested(emulator.names()[0]) is is_cancelled


def test_what_the_function_started_itself_does_not_run_beside_what_a_retry_starts(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_retries(ti, 1)

    def export() -> list[str]:
        return [emulator.add_operation(project="one", run_seconds=1000)]

    with monkeypatch.context() as patch:
        patch.setattr(ExportOwner, "wait", _break)
        with pytest.raises(KeyError):
            operator(export, retries=1).execute(context)
    (first,) = emulator.names()
    next_try(ti)
    with monkeypatch.context() as patch:
        patch.setattr(ExportOwner, "wait", _break)
        with pytest.raises(KeyError):
            operator(export, retries=1).execute(context)
    assert len(emulator.names()) == 2
    assert all(map(emulator.cancel_requested, emulator.names())), first


def test_what_a_retry_is_given_again_is_waited_for(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_retries(ti, 1)
    given = emulator.add_operation(project="one", run_seconds=1000)
    with monkeypatch.context() as patch:
        patch.setattr(ExportOwner, "wait", _break)
        with pytest.raises(KeyError):
            operator(lambda: given, retries=1).execute(context)
    next_try(ti)
    clock.advance(1001)
    (row,) = operator(lambda: given, retries=1).execute(context)
    assert (row["name"], row["state"]) == (given, "SUCCEEDED")
    assert cast(Any, context)["task_state_store"].values == {}


def test_a_record_that_a_timeout_interrupts_is_made_at_the_end(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_retries(ti, 1)
    push = FakeTaskInstance.xcom_push
    interrupted: list[str] = []

    def time_out(self: FakeTaskInstance, key: str, value: Any) -> None:
        if emulator.names() and not interrupted:
            interrupted.append(key)
            raise AirflowTaskTimeout("execution_timeout")
        push(self, key, value)

    monkeypatch.setattr(FakeTaskInstance, "xcom_push", time_out)
    with pytest.raises(AirflowTaskTimeout):
        operator(Exports("a"), retries=1).execute(context)
    assert interrupted
    assert recorded(ti) == emulator.names()


def _break(*_: Any) -> Any:
    raise KeyError("something of the worker's")


def test_a_mapped_instance_takes_no_operation_of_a_sibling_for_its_own(
    emulator: Emulator, set_connection: SetConnection
) -> None:
    set_connection(num_retries=0)
    first, second = FakeTaskInstance(map_index=0), FakeTaskInstance(map_index=1)
    second.xcoms = first.xcoms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExportOwner, "wait", _die)
        patch.setattr(ExportOwner, "cancel", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            operator(Exports("same for all")).execute(cast(Context, {"ti": first}))
    (of_first,) = emulator.names()
    emulator.add_fault(Fault("export", action="reset_before", times=None))
    with pytest.raises(NotStartedError):
        operator(Exports("same for all")).execute(cast(Context, {"ti": second}))
    assert not emulator.cancel_requested(of_first)


def _die(*_: Any) -> Any:
    raise SystemExit


@pytest.fixture
def of_another_run(emulator: Emulator) -> str:
    """An operation that a second run has started moments ago; its export has the same description."""
    ti = FakeTaskInstance()
    ti.run_id = "another"
    lost(operator(Exports("a")), cast(Context, {"ti": ti}))
    (name,) = emulator.names()
    return name


def test_of_two_that_cannot_be_told_from_each_other_none_is_cancelled_and_both_are_named(
    emulator: Emulator,
    context: Context,
    set_connection: SetConnection,
    of_another_run: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_connection(num_retries=0)
    emulator.add_fault(Fault("export", action="reset_after"))
    with pytest.raises(NotStartedError):
        operator(Exports("a")).execute(context)
    assert of_another_run in emulator.names()
    assert not any(map(emulator.cancel_requested, emulator.names()))
    assert all(name in caplog.text for name in emulator.names())
    assert "cancel by name what nobody waits for" in caplog.text


def test_killed_while_it_waits_for_room_it_takes_no_operation_of_another_run(
    emulator: Emulator, context: Context, of_another_run: str
) -> None:
    full = "Too many tasks already in the queue (3000). Please wait for some of them to complete."
    emulator.add_fault(Fault("export", status=400, message=full, times=None))
    before = emulator.count("export")
    made = operator(Exports("a"))
    with killed_when(lambda: emulator.count("export") > before, made.on_kill), pytest.raises(TaskKilledError):
        made.execute(context)
    assert not emulator.cancel_requested(of_another_run)


def test_a_start_that_was_refused_is_not_looked_for_when_the_task_is_killed_as_it_waits_for_room(
    emulator: Emulator, context: Context, of_another_run: str
) -> None:
    emulator.add_fault(Fault("export", status=403))
    full = "Too many tasks already in the queue (3000). Please wait for some of them to complete."
    emulator.add_fault(Fault("export", status=400, message=full, times=None))
    before = emulator.count("export")
    made = operator(Exports("a", "b"), fail_fast=False, max_concurrency=1)
    with killed_when(lambda: emulator.count("export") > before + 1, made.on_kill), pytest.raises(TaskKilledError):
        made.execute(context)
    assert not emulator.cancel_requested(of_another_run)


def test_a_start_that_is_answered_during_the_cancellation_is_cancelled_and_recorded(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_eeops.exporting._ANSWER_SECONDS", 0.0)
    cancel_open = ExportOwner._cancel_open
    made = operator(Exports("a", "b"), max_concurrency=2)
    start, answered = EarthEngineOperationsClient.start_export, threading.Event()

    def slow_for_b(self: EarthEngineOperationsClient, project_id: str, export: Export, request_id: str) -> Operation:
        operation = start(self, project_id, export, request_id)
        if export.description == "b":
            assert answered.wait(20)
        return operation

    def cancel(self: ExportOwner, because: str, *, besides: Collection[str] = ()) -> Report:
        report = cancel_open(self, because, besides=besides)
        answered.set()
        assert wait_for(lambda: len(self.ledger.names) == 2)
        return report

    monkeypatch.setattr(EarthEngineOperationsClient, "start_export", slow_for_b)
    monkeypatch.setattr(ExportOwner, "_cancel_open", cancel)
    with timed_out_when(lambda: len(emulator.names()) == 2), pytest.raises(AirflowTaskTimeout):
        made.execute(context)
    assert all(map(emulator.cancel_requested, emulator.names()))
    assert sorted(recorded(ti)) == sorted(emulator.names())


def wait_for(ready: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not ready() and time.monotonic() < until:
        time.sleep(0.01)
    return ready()


def test_what_cannot_be_cancelled_is_not_told_to_be_known_late(
    emulator: Emulator, context: Context, set_connection: SetConnection, caplog: pytest.LogCaptureFixture
) -> None:
    set_connection(num_retries=0)
    emulator.add_fault(Fault("cancel", status=403, times=None))
    started = emulator.add_operation()
    emulator.add_fault(Fault("export", action="reset_before"))
    with pytest.raises(NotStartedError):
        operator(lambda: [started, image_export("b")]).execute(context)
    assert f"{started}: permission denied" in caplog.text
    assert "Known late." not in caplog.text


def test_killed_before_it_asks_it_takes_no_operation_of_another_run(
    emulator: Emulator, context: Context, of_another_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, intend = operator(Exports("a")), Ledger.intend

    def intend_and_be_killed(self: Ledger, some: Any, *, now: float) -> None:
        intend(self, some, now=now)
        made.on_kill()

    monkeypatch.setattr(Ledger, "intend", intend_and_be_killed)
    with pytest.raises(TaskKilledError):
        made.execute(context)
    assert not emulator.cancel_requested(of_another_run)
    assert emulator.names() == [of_another_run]


def test_what_is_known_is_cancelled_before_the_listing_is_read(
    emulator: Emulator, context: Context, set_connection: SetConnection
) -> None:
    set_connection(num_retries=0)
    tasks = Exports("a", "b")
    emulator.add_fault(Fault("export", action="reset_after"))
    with pytest.raises(NotConfirmedError, match="2 operations: 2 cancel requested"):
        operator(tasks, max_concurrency=1, fail_fast=False, timeout=2).execute(context)
    methods = [record.method for record in emulator.requests]
    assert methods.index("cancel") < methods.index("list")
    assert all(map(emulator.cancel_requested, emulator.names()))


def test_a_try_without_a_connection_still_says_what_the_try_before_started(
    context: Context, ti: FakeTaskInstance
) -> None:
    allow_retries(ti, 1)
    first = lost(operator(Exports("a"), retries=1), context)
    next_try(ti)
    with pytest.raises(AirflowNotFoundException, match="does not exist"):
        operator(Exports("a"), retries=1, earthengine_conn_id="gone").execute(context)
    assert recorded(ti) == first


def test_a_start_whose_repetition_is_refused_is_not_forgotten(emulator: Emulator, context: Context) -> None:
    emulator.add_fault(Fault("export", action="reset_after"))
    emulator.add_fault(Fault("export", status=403))
    with pytest.raises(NotStartedError):
        operator(Exports("a")).execute(context)
    (name,) = emulator.names()
    assert emulator.cancel_requested(name)


def test_a_start_whose_repetition_finds_a_full_queue_is_not_forgotten(
    emulator: Emulator, context: Context, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_eeops.api.starting._FIRST_PAUSE", 0.2)
    set_connection(num_retries=1)
    emulator.add_fault(Fault("export", action="reset_after"))
    full = "Too many tasks already in the queue (3000). Please wait for some of them to complete."
    emulator.add_fault(Fault("export", status=400, message=full, times=None))
    with pytest.raises(NotConfirmedError, match="no room"):
        operator(Exports("a"), timeout=4).execute(context)
    (name,) = emulator.names()
    assert emulator.cancel_requested(name)


def test_an_earlier_start_without_an_answer_is_not_forgotten_when_the_last_try_is_refused(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    allow_retries(ti, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_eeops.exporting.ExportOwner._decide_on_repeated", _die)
        patch.setattr("airflow_provider_eeops.starts.Ledger.learn", lambda *_: None)
        patch.setattr(ExportOwner, "cancel", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            operator(Exports("a"), retries=1).execute(context)
    (name,) = emulator.names()
    next_try(ti)
    emulator.add_fault(Fault("export", status=403, times=None))
    with pytest.raises(NotStartedError):
        operator(Exports("a"), retries=1).execute(context)
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize("is_stored", [True, False])
def test_another_export_in_the_place_of_an_earlier_one_is_warned_of(
    clock: AdvancingClock, context: Context, ti: FakeTaskInstance, caplog: pytest.LogCaptureFixture, is_stored: bool
) -> None:
    if not is_stored:
        cast(dict[str, Any], context).pop("task_state_store")
    allow_retries(ti, 1)
    lost(operator(Exports("january"), retries=1), context)
    next_try(ti)
    clock.advance(1001)
    operator(Exports("february"), retries=1).execute(context)
    assert "position 0 was 'january', and is 'february' now" in caplog.text
