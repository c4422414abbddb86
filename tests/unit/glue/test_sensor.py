from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    Context,
    TaskDeferred,
)

from airflow_provider_eeops._compat import AirflowRescheduleException, is_ended_before_it_resumes
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import InvalidOperationNameError, NotConfirmedError
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.support.clock import AdvancingClock
from tests.support.signals import killed_when, timed_out_when
from tests.support.task_instance import FakeTaskInstance
from tests.support.this_airflow import DEFERRAL_TIMED_OUT, TRIGGER_TIMEOUT
from tests.support.versions import IS_AIRFLOW_2, RESCHEDULE_ASKS_DATABASE

pytestmark = pytest.mark.usefixtures("connection")

GONE = "projects/one/operations/GONE"
SUCCEEDED = {"SUCCEEDED"}


def sensor(**parameters: Any) -> EarthEngineOperationsSensor:
    return EarthEngineOperationsSensor(
        task_id="task", **({"poke_interval": 0.02, "timeout": 20, "deferrable": False} | parameters)
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"accepted_states": {"DONE"}}, "'DONE'"),
        ({"accepted_states": "RUNNING"}, "'RUNNING'"),
        ({"accepted_states": []}, "empty"),
        ({"if_not_found": "skip"}, "if_not_found is 'skip'"),
        ({"if_empty": "?"}, "if_empty"),
        ({"poll_failure_limit": 0}, "poll_failure_limit is 0"),
        ({"max_concurrency": -1}, "max_concurrency is -1"),
        ({"timeout": -5}, "timeout"),
    ],
)
def test_a_wrong_parameter_is_named_at_parse_time(parameters: dict[str, Any], message: str) -> None:
    # Airflow 2 refuses a timeout itself, with an error of its own.
    with pytest.raises((ValueError, AirflowException), match=message):
        sensor(operations="A", **parameters)


def test_template_fields_are_attributes() -> None:
    made = sensor(operations="A")
    assert [hasattr(made, name) for name in made.template_fields] == [True] * len(made.template_fields)


def test_waits_until_every_operation_is_confirmed(emulator: Emulator, clock: AdvancingClock, context: Context) -> None:
    names = [emulator.add_operation(), emulator.add_operation(cancelled=True)]
    waiting = sensor(operations=names)
    assert not waiting.poke(context)
    clock.advance(1000)
    report = waiting.execute(context)
    assert [op["outcome"] for op in report["operations"]] == ["finished_first", "cancelled"]
    assert emulator.count("get", names[0]) == 2
    assert emulator.count("get", names[1]) == 1, "what is confirmed is not asked about again"


def test_takes_the_report_of_the_cancel_operator(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(finished=True)
    report = sensor(operations={"counts": {"cancel_requested": 1}, "operations": [{"name": name}]}).execute(context)
    assert report["counts"] == {"finished_first": 1}


def test_a_state_that_is_not_accepted_fails_at_once_without_retries(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    running = emulator.add_operation()
    failed = emulator.add_operation(ends="FAILED", finished=True, error_message="Export too large.")
    with pytest.raises(AirflowFailException, match=f"{failed}: finished first .FAILED.: Export too large"):
        sensor(operations=[running, failed], accepted_states=SUCCEEDED).execute(context)
    assert ti.returned["counts"] == {"finished_first": 1, "not_confirmed_in_time": 1}


def test_a_cancelled_export_is_not_a_success(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(cancelled=True)
    with pytest.raises(AirflowFailException, match=f"{name}: cancelled"):
        sensor(operations=name, accepted_states=SUCCEEDED).execute(context)


def test_soft_fail_skips_instead(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation(cancelled=True)
    for deferrable in (False, True):
        with pytest.raises(AirflowSkipException):
            sensor(operations=name, accepted_states=SUCCEEDED, soft_fail=True, deferrable=deferrable).execute(context)
        assert ti.returned["counts"] == {"cancelled": 1}


def test_the_report_is_there_after_a_timeout(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    with pytest.raises(AirflowSensorTimeout):
        sensor(operations=name, timeout=0.1).execute(context)
    assert ti.returned["operations"][0]["state"] == "RUNNING"
    assert ti.returned["counts"] == {"not_confirmed_in_time": 1}


def test_an_operation_that_is_not_found_fails_or_is_ignored(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(finished=True)
    with pytest.raises(NotConfirmedError, match=f"{GONE}: not found"):
        sensor(operations=[name, GONE]).execute(context)
    report = sensor(operations=[name, GONE], if_not_found="ignore").execute(context)
    assert report["counts"] == {"finished_first": 1, "not_found": 1}


def test_an_operation_that_may_not_be_read_fails(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    emulator.deny("earthengine.operations.get", name=name)
    with pytest.raises(NotConfirmedError, match=f"{name}: permission denied"):
        sensor(operations=name, if_not_found="ignore").execute(context)


def test_failed_polls_are_tolerated_up_to_the_limit(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(finished=True)
    emulator.add_fault(Fault("get", status=409, times=2))
    assert sensor(operations=name, poll_failure_limit=3).execute(context)["counts"] == {"finished_first": 1}


def test_a_run_of_failed_polls_fails_the_task_saying_what_was_last_seen(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    name = emulator.add_operation()
    waiting = sensor(operations=name, poll_failure_limit=2)
    assert not waiting.poke(context)
    emulator.add_fault(Fault("get", status=409, message="Busy.", times=None))
    with pytest.raises(NotConfirmedError, match=r"2 polls in a row failed(.|\n)*Busy(.|\n)*RUNNING"):
        waiting.execute(context)
    assert ti.returned["counts"] == {"not_confirmed_in_time": 1}


def test_an_empty_list_fails_unless_told_otherwise(emulator: Emulator, context: Context) -> None:
    with pytest.raises(AirflowFailException, match="empty"):
        sensor(operations=[]).execute(context)
    with pytest.raises(AirflowSkipException, match="empty"):
        sensor(operations="None", if_empty="skip").execute(context)
    assert sensor(operations=[None], if_empty="ignore").execute(context) == {"counts": {}, "operations": []}
    assert emulator.requests == []


def test_one_bad_value_is_refused_before_a_request(emulator: Emulator, context: Context) -> None:
    with pytest.raises(InvalidOperationNameError, match="a b"):
        sensor(operations=[emulator.add_operation(), "a b"]).execute(context)
    assert emulator.requests == []


def test_progress_is_logged_only_when_something_changed(
    emulator: Emulator, context: Context, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    name = emulator.add_operation()
    waiting = sensor(operations=name)
    for _ in range(3):
        waiting.poke(context)
    waiting._get_hook().close()
    out = capsys.readouterr()
    told = [text.count(f"{name}: RUNNING") for text in (caplog.text, out.out + out.err)]
    assert max(told) == 1  # Airflow 2 tells both


def pending(waiting: EarthEngineOperationsSensor) -> list[str]:
    """What it still waits for, after it has taken in an answer and not only sent the request."""
    return [] if waiting._watch is None else list(waiting._watch.pending)


@pytest.mark.parametrize("silent_fail", [False, True])
def test_a_kill_ends_the_wait_and_requests_cancellation(
    silent_fail: bool, emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    names = [emulator.add_operation(), emulator.add_operation(), emulator.add_operation(finished=True)]
    waiting = sensor(operations=names, poke_interval=3600, timeout=7200, silent_fail=silent_fail)
    killed = killed_when(lambda: pending(waiting) == names[:2], waiting.on_kill)
    with killed, pytest.raises(NotConfirmedError, match="killed"):
        waiting.execute(context)
    assert [emulator.count("cancel", name) for name in names] == [1, 1, 0], "what is confirmed is left alone"
    assert ti.returned["counts"] == {"cancel_requested": 2, "finished_first": 1}


def test_a_kill_cancels_nothing_if_told_so(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    waiting = sensor(operations=name, poke_interval=3600, timeout=7200, cancel_on_kill=False)
    killed = killed_when(lambda: emulator.count("get") > 0, waiting.on_kill)
    with killed, pytest.raises(NotConfirmedError, match="killed"):
        waiting.execute(context)
    assert emulator.count("cancel") == 0
    assert ti.returned["operations"][0]["state"] == "RUNNING"
    assert "earthengine_operations" not in {key for _, _, key in ti.xcoms}, "what it does not own it does not record"


def test_a_kill_before_the_deferral_ends_the_task(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    waiting = sensor(operations=name, deferrable=True)
    emulator.add_fault(Fault("get", seconds=0.5))
    killed = killed_when(lambda: emulator.count("get") > 0, waiting.on_kill)
    with killed, pytest.raises(NotConfirmedError, match="killed"):
        waiting.execute(context)
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_kill_before_it_executes_is_not_forgotten(deferrable: bool, emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    waiting = sensor(operations=name, deferrable=deferrable)
    waiting.on_kill()
    with pytest.raises(NotConfirmedError, match="killed"):
        waiting.execute(context)
    assert emulator.count("cancel", name) == 1


def test_a_kill_names_each_operation_even_if_the_requests_take_longer_than_the_handler(
    emulator: Emulator,
    context: Context,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO")
    names = [emulator.add_operation() for _ in range(3)]
    waiting = sensor(operations=names, poke_interval=3600, timeout=7200)
    emulator.add_fault(Fault("cancel", seconds=2.9, times=None))
    killed = killed_when(lambda: emulator.count("get") >= 3, waiting.on_kill)
    with killed, pytest.raises(NotConfirmedError, match="killed"):
        waiting.execute(context)
    out = capsys.readouterr()
    told = caplog.text + out.out + out.err
    assert [f"{name}: cancel requested" in told for name in names] == [True] * 3


@pytest.mark.parametrize("deferrable", [False, True])
def test_it_records_what_it_owns(deferrable: bool, emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    with pytest.raises((TaskDeferred, AirflowSensorTimeout)):
        sensor(operations=name, deferrable=deferrable, timeout=0.1).execute(context)
    assert ti.xcom_pull(key="earthengine_operations") == [name]


def test_its_timeout_cancels_only_if_told_so(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    with pytest.raises(AirflowSensorTimeout):
        sensor(operations=name, timeout=0.1).execute(context)
    assert emulator.count("cancel") == 0
    with pytest.raises(AirflowSensorTimeout, match="Cancellation was requested: 1 operation: 1 cancel requested"):
        sensor(operations=name, timeout=0.1, cancel_on_timeout=True).execute(context)
    assert emulator.cancel_requested(name)
    assert ti.returned["counts"] == {"cancel_requested": 1}


def test_failed_polls_cancel_only_if_told_so(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("get", status=409, message="Busy.", times=None))
    with pytest.raises(NotConfirmedError, match="Busy"):
        sensor(operations=name, poll_failure_limit=2).execute(context)
    assert emulator.count("cancel") == 0
    with pytest.raises(NotConfirmedError, match=r"Busy(.|\n)*Cancellation was requested: 1 operation"):
        sensor(operations=name, poll_failure_limit=2, cancel_on_timeout=True).execute(context)
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize(("cancel_on_timeout", "requests"), [(True, 1), (False, 0)])
def test_a_timeout_that_skips_cancels_as_one_that_fails(
    cancel_on_timeout: bool, requests: int, emulator: Emulator, context: Context
) -> None:
    name = emulator.add_operation()
    with pytest.raises(AirflowSkipException):
        sensor(operations=name, timeout=0.1, cancel_on_timeout=cancel_on_timeout, soft_fail=True).execute(context)
    assert emulator.count("cancel") == requests


def test_failed_polls_that_skip_cancel_as_those_that_fail(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    emulator.add_fault(Fault("get", status=409, times=None))
    with pytest.raises(AirflowSkipException, match="Cancellation was requested"):
        sensor(operations=name, poll_failure_limit=2, never_fail=True, cancel_on_timeout=True).execute(context)
    assert emulator.cancel_requested(name)


def test_a_state_that_is_not_accepted_and_skips_cancels_nothing(emulator: Emulator, context: Context) -> None:
    names = [emulator.add_operation(), emulator.add_operation(cancelled=True)]
    waiting = sensor(operations=names, accepted_states=SUCCEEDED, cancel_on_timeout=True, soft_fail=True)
    with pytest.raises(AirflowSkipException):
        waiting.execute(context)
    assert emulator.count("cancel") == 0


def test_a_state_that_is_not_accepted_cancels_nothing(emulator: Emulator, context: Context) -> None:
    names = [emulator.add_operation(), emulator.add_operation(cancelled=True)]
    with pytest.raises(AirflowFailException):
        sensor(operations=names, accepted_states=SUCCEEDED, cancel_on_timeout=True).execute(context)
    assert emulator.count("cancel") == 0


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_airflow_2_ends_a_deferred_task_before_it_resumes(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, *, cancel_on_kill: bool
) -> None:
    monkeypatch.setattr("airflow_provider_eeops.sensors.operations.is_ended_before_it_resumes", lambda: True)
    name = emulator.add_operation()
    sensor(operations=name, deferrable=True, cancel_on_kill=cancel_on_kill).on_kill()
    assert emulator.cancel_requested(name) == cancel_on_kill


@pytest.mark.parametrize(("next_method", "ended"), [(None, False), ("execute_complete", True)])
def test_a_task_of_airflow_2_that_was_deferred_is_known(
    monkeypatch: pytest.MonkeyPatch, next_method: str | None, *, ended: bool
) -> None:
    context = {"ti": SimpleNamespace(next_method=next_method)}
    monkeypatch.setattr("airflow_provider_eeops._compat.STATE_FOLLOWS_CALLBACK", True)
    assert not is_ended_before_it_resumes()  # no task runs
    monkeypatch.setattr("airflow.providers.common.compat.sdk.get_current_context", lambda: context)
    assert is_ended_before_it_resumes() == ended


def test_on_kill_before_execute_is_harmless() -> None:
    sensor(operations="A").on_kill()


def test_an_executed_sensor_can_be_copied(emulator: Emulator, context: Context) -> None:
    waiting = sensor(operations=emulator.add_operation(finished=True))
    waiting.execute(context)
    assert copy.deepcopy(waiting).operations == waiting.operations


@pytest.mark.skipif(IS_AIRFLOW_2, reason=RESCHEDULE_ASKS_DATABASE)
def test_reschedule_mode_leaves_the_wait_to_airflow(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    ti.get_first_reschedule_date = lambda _context: None  # type: ignore[attr-defined]
    name = emulator.add_operation()
    with pytest.raises(AirflowRescheduleException) as caught:
        sensor(operations=name, mode="reschedule", poke_interval=60).execute(context)
    assert caught.value.reschedule_date > datetime.now(UTC) + timedelta(seconds=30)
    assert ti.returned is None


def test_an_execution_timeout_is_a_kill(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    name = emulator.add_operation()
    with pytest.raises(AirflowTaskTimeout), timed_out_when(lambda: emulator.count("get") > 1):
        sensor(operations=name, cancel_on_kill=False, poke_interval=0.05).execute(context)
    assert ti.returned["operations"][0]["state"] == "RUNNING"
    assert emulator.count("cancel") == 0
    asked = emulator.count("get")
    timed_out = timed_out_when(lambda: emulator.count("get") > asked + 1)
    with pytest.raises(AirflowTaskTimeout, match="Cancellation was requested"), timed_out:
        sensor(operations=name, poke_interval=0.05).execute(context)
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(("flag", "operations"), [("never_fail", GONE), ("never_fail", "[]"), ("soft_fail", "[]")])
def test_the_flags_mean_the_same_in_every_mode(flag: str, operations: str, deferrable: bool, context: Context) -> None:
    with pytest.raises(AirflowSkipException):
        sensor(operations=operations, deferrable=deferrable, **{flag: True}).execute(context)


@pytest.mark.parametrize("flag", ["never_fail", "soft_fail"])
def test_the_flags_hold_after_a_deferral(flag: str, context: Context) -> None:
    with pytest.raises(AirflowSkipException):
        sensor(operations="A", **{flag: True}).execute_complete(context, event("timed_out", "error", "RUNNING"))


# Deferred


def deferred(task: EarthEngineOperationsSensor, context: Context) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    return caught.value


def test_defers_with_all_it_was_told(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    waiting = sensor(
        operations=name,
        deferrable=True,
        accepted_states=SUCCEEDED,
        poke_interval=7,
        poll_failure_limit=4,
        max_concurrency=2,
        impersonation_chain=("sa@one.example",),
    )
    _, arguments = deferred(waiting, context).trigger.serialize()
    deadline = arguments.pop("deadline")
    assert arguments == {
        "operations": {"projects/one/operations": [name.rpartition("/")[2]]},
        "earthengine_conn_id": "earthengine_default",
        "impersonation_chain": ["sa@one.example"],
        "poll_interval": 7,
        "accepted_states": ["SUCCEEDED"],
        "poll_failure_limit": 4,
        "max_concurrency": 2,
        "cancel_on_kill": True,
        "source_task_ids": [],
        "requested_at": None,
    }
    assert deadline == pytest.approx(datetime.now(UTC).timestamp() + 20, abs=10)


def test_what_is_confirmed_already_needs_no_trigger(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(finished=True)
    assert sensor(operations=name, deferrable=True).execute(context)["counts"] == {"finished_first": 1}


def test_a_failure_seen_before_deferring_fails_at_once(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(cancelled=True)
    with pytest.raises(AirflowFailException):
        sensor(operations=name, deferrable=True, accepted_states=SUCCEEDED).execute(context)


def event(verdict: str, outcome: str, state: str) -> dict[str, Any]:
    operation = {
        "name": "projects/one/operations/A",
        "outcome": outcome,
        "state": state,
        "error_code": None,
        "error_message": None,
    }
    return {"verdict": verdict, "message": "as seen", "report": {"operations": [operation]}}


def test_resumes_with_the_report(context: Context) -> None:
    report = sensor(operations="A").execute_complete(context, event("settled", "cancelled", "CANCELLED"))
    assert report["counts"] == {"cancelled": 1}


@pytest.mark.parametrize(
    ("verdict", "outcome", "error"),
    [
        ("not_accepted", "finished_first", AirflowFailException),
        ("timed_out", "not_confirmed_in_time", AirflowSensorTimeout),
        ("polls_failed", "not_confirmed_in_time", NotConfirmedError),
        ("settled", "not_found", NotConfirmedError),
        ("settled", "permission_denied", NotConfirmedError),
    ],
)
def test_resumes_with_the_error_that_the_verdict_means(
    verdict: str, outcome: str, error: type[Exception], context: Context, ti: FakeTaskInstance
) -> None:
    with pytest.raises(error, match="as seen"):
        sensor(operations="A").execute_complete(context, event(verdict, outcome, "RUNNING"))
    assert ti.returned["counts"] == {outcome: 1}


def timed_out(name: str) -> dict[str, Any]:
    ended = event("timed_out", "not_confirmed_in_time", "RUNNING")
    ended["report"]["operations"][0]["name"] = name
    return ended


def test_the_trigger_knows_which_tasks_the_operations_come_from(emulator: Emulator, context: Context) -> None:
    with DAG("dag", schedule=None):
        export, other = BaseOperator(task_id="export"), BaseOperator(task_id="other")
        waiting = sensor(operations=[export.output], deferrable=True)
        waiting.set_upstream(other)
    waiting.operations = [emulator.add_operation()]  # as rendered
    _, arguments = deferred(waiting, context).trigger.serialize()
    assert arguments["source_task_ids"] == ["export"]


def test_a_deadline_set_by_execution_timeout_is_a_kill_and_can_be_retried(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    name = emulator.add_operation()
    waiting = sensor(operations="A", execution_timeout=timedelta(seconds=5))
    ti.task = waiting
    ti.start_date -= timedelta(seconds=6)
    with pytest.raises(NotConfirmedError, match="execution_timeout: as seen\nCancellation was requested: 1 operation"):
        waiting.execute_complete(context, timed_out(name))
    assert emulator.cancel_requested(name)


def test_an_execution_timeout_is_known_though_the_task_resumes_with_another_start(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    """As Airflow 3.1 has it."""
    name = emulator.add_operation()
    waiting = sensor(operations=name, deferrable=True, execution_timeout=timedelta(seconds=5))
    ti.task = waiting
    ti.start_date -= timedelta(seconds=6)
    known = deferred(waiting, context).kwargs
    ti.start_date = datetime.now(UTC)
    with pytest.raises(NotConfirmedError, match="execution_timeout: as seen\nCancellation was requested: 1 operation"):
        waiting.execute_complete(context, timed_out(name), **(known or {}))
    assert emulator.cancel_requested(name)


def test_a_deadline_set_by_timeout_cancels_only_if_told_so(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    name = emulator.add_operation()
    with pytest.raises(AirflowSensorTimeout):
        sensor(operations="A").execute_complete(context, timed_out(name))
    assert emulator.count("cancel") == 0
    with pytest.raises(AirflowSensorTimeout, match="as seen\nCancellation was requested: 1 operation: 1 cancel req"):
        sensor(operations="A", cancel_on_timeout=True).execute_complete(context, timed_out(name))
    assert emulator.cancel_requested(name)
    assert ti.returned["counts"] == {"cancel_requested": 1}


def resumed_to_fail(waiting: EarthEngineOperationsSensor, context: Context) -> None:
    """What Airflow does when its own deferral timeout passes."""
    waiting.resume_execution("__fail__", {"error": TRIGGER_TIMEOUT}, context)


def test_airflows_own_deferral_timeout_cancels_only_if_told_so(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation()
    with pytest.raises(DEFERRAL_TIMED_OUT):
        resumed_to_fail(sensor(operations=name), context)
    assert emulator.count("cancel") == 0
    with pytest.raises(DEFERRAL_TIMED_OUT):
        resumed_to_fail(sensor(operations=name, cancel_on_timeout=True), context)
    assert emulator.cancel_requested(name)


def test_what_cannot_be_asked_at_a_timeout_does_not_hide_it(context: Context) -> None:
    waiting = sensor(operations="A", cancel_on_timeout=True, earthengine_conn_id="no_such_connection")
    with pytest.raises(DEFERRAL_TIMED_OUT):
        resumed_to_fail(waiting, context)
    with pytest.raises(AirflowSensorTimeout, match="as seen"):
        waiting.execute_complete(context, timed_out("projects/one/operations/A"))


def test_airflows_own_deferral_timeout_after_execution_timeout_is_a_kill(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    name = emulator.add_operation()
    waiting = sensor(operations=name, execution_timeout=timedelta(seconds=5))
    ti.task = waiting
    ti.start_date -= timedelta(seconds=6)
    with pytest.raises(DEFERRAL_TIMED_OUT):
        resumed_to_fail(waiting, context)
    assert emulator.cancel_requested(name)
