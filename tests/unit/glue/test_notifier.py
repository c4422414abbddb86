from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseNotifier, Context

from airflow_provider_eeops.api.intents import Intent
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.notifications import operations as module
from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from tests.support.supervisor import FakeSupervisor, GetTaskStates, GetXCom
from tests.support.task_instance import FakeTaskInstance
from tests.support.versions import AIRFLOW, IS_AIRFLOW_2
from tests.unit.glue.conftest import SetConnection

pytestmark = pytest.mark.usefixtures("connection")

NOTHING_SENT = ("No cancellation could be requested", "Failed to send notification")
"""Ours, and that of Airflow 2, which tells of the error first."""


@pytest.fixture
def ti() -> FakeTaskInstance:
    return FakeTaskInstance("export")


@pytest.fixture(autouse=True)
def supervisor(ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch) -> FakeSupervisor:
    """The run of the task instance, which has failed."""
    supervisor = FakeSupervisor(ti.xcoms, {("export", -1): "failed"})
    supervisor.install(monkeypatch)
    return supervisor


def call(notifier: EarthEngineCancelOperationsNotifier, context: Context, *, how: str) -> None:
    if how == "sync":
        notifier(context)
    else:
        notifier.context = context

        async def wait() -> None:
            await notifier  # as Airflow calls it: a notifier is awaitable

        asyncio.run(wait())


def requested(emulator: Emulator) -> set[str | None]:
    """Names of the operations whose cancellation was requested."""
    return {record.name for record in emulator.requests if record.method == "cancel"}


def of_dag(**more: Any) -> Context:
    """Context of a DAG's callback, the least there is."""
    return cast(Context, {"dag": DAG("dag", schedule=None), "run_id": "run", "reason": "task_failure", **more})


def of_deadline(**more: Any) -> Context:
    """Context of a deadline's callback: it went through JSON."""
    if AIRFLOW < (3, 1):
        pytest.skip("Airflow has Deadline Alerts from 3.1 on")
    context = {
        "dag_run": {"dag_id": "dag", "dag_run_id": "run", "state": "running"},
        "deadline": {"id": "0", "deadline_time": "2026-11-23T00:00:00Z"},
    }
    return cast(Context, context | more)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_cancels_what_the_failing_task_recorded(
    how: str, emulator: Emulator, context: Context, ti: FakeTaskInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    ti.xcom_push("earthengine_operations", names)
    call(EarthEngineCancelOperationsNotifier(), context, how=how)
    assert [emulator.cancel_requested(name) for name in names] == [True, True]
    out = capsys.readouterr().out
    assert all(f"{name}: cancel requested" in out for name in names)


def test_a_mapped_instance_leaves_its_siblings_alone(
    emulator: Emulator, ti: FakeTaskInstance, supervisor: FakeSupervisor
) -> None:
    own, others = emulator.add_operation(), emulator.add_operation()
    failing = ti.sibling("export", map_index=1)
    supervisor.states = {("export", 0): "failed", ("export", 1): "failed"}
    failing.xcom_push("earthengine_operations", [own])
    failing.sibling("export", map_index=0).xcom_push("earthengine_operations", [others])
    EarthEngineCancelOperationsNotifier()({"ti": failing, "dag": failing.task.dag})
    assert [emulator.cancel_requested(own), emulator.cancel_requested(others)] == [True, False]


def test_cancels_what_it_is_given_rendered(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(project="two")
    notifier = EarthEngineCancelOperationsNotifier(operations="{{ ti.task_id and names }}", project_id="{{ project }}")
    notifier(context | {"names": [name.rsplit("/", 1)[1]], "project": "two"})
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_nothing_recorded_is_logged(
    how: str, emulator: Emulator, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    call(EarthEngineCancelOperationsNotifier(), context, how=how)
    assert "No operation to cancel" in capsys.readouterr().out
    assert emulator.requests == []


def test_without_a_run_in_the_context_nothing_happens(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(EarthEngineCancelOperationsNotifier().async_notify({}))
    assert "No operation to cancel: none was given, and this callback has no DAG run to ask." in capsys.readouterr().out
    assert emulator.requests == []


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("conn_id", ["earthengine_default", "no_such_connection"])
def test_never_raises_a_second_error(
    how: str,
    conn_id: str,
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = emulator.add_operation()
    ti.xcom_push("earthengine_operations", ["rub bish", name])
    emulator.add_fault(Fault("cancel", status=403, times=None))
    call(EarthEngineCancelOperationsNotifier(earthengine_conn_id=conn_id), context, how=how)
    out = capsys.readouterr().out
    if conn_id == "earthengine_default":
        assert f"{name}: permission denied" in out
        assert "'rub bish': error" in out
    else:
        assert any(text in out for text in NOTHING_SENT)


def test_an_answer_that_says_finished_is_checked(
    emulator: Emulator, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    name = emulator.add_operation(finished=True)
    emulator.add_fault(Fault("cancel", status=400, rpc_status="FAILED_PRECONDITION"))
    EarthEngineCancelOperationsNotifier(operations=name)(context)
    assert f"{name}: finished first (SUCCEEDED)" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["sync", "async"])
def test_one_instance_serves_many_calls(how: str, emulator: Emulator, context: Context) -> None:
    first, second = emulator.add_operation(), emulator.add_operation()
    notifier = EarthEngineCancelOperationsNotifier(operations="{{ ops }}")
    for name in (first, second):
        call(notifier, cast(Context, {**context, "ops": name}), how=how)
    assert [emulator.count("cancel", first), emulator.count("cancel", second)] == [1, 1]
    assert notifier.operations == "{{ ops }}"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_template_that_fails_is_logged(how: str, context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    call(EarthEngineCancelOperationsNotifier(operations="{{ 1 / 0 }}"), context, how=how)
    assert "No cancellation could be requested" in capsys.readouterr().out


def test_what_renders_to_nothing_is_nothing_in_airflow_2(
    monkeypatch: pytest.MonkeyPatch, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(BaseNotifier, "_do_render_template_fields", lambda *_: None)  # it leaves the template there
    EarthEngineCancelOperationsNotifier(operations="{{ [] }}")(context)
    assert "its template rendered to nothing" in capsys.readouterr().out


def test_a_template_that_rendered_to_nothing_is_named(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    EarthEngineCancelOperationsNotifier(operations="{{ [] }}")(context)
    assert (
        "No operation to cancel: operations is empty, or its template rendered to nothing." in capsys.readouterr().out
    )


# A task's callback


@pytest.mark.parametrize("state", ["failed", "skipped", "up_for_retry", "restarting", None])
def test_the_try_has_ended(
    state: str | None, emulator: Emulator, context: Context, ti: FakeTaskInstance, supervisor: FakeSupervisor
) -> None:
    name = emulator.add_operation()
    ti.xcom_push("earthengine_operations", [name])
    supervisor.states["export", -1] = state
    EarthEngineCancelOperationsNotifier()(context)
    assert emulator.cancel_requested(name)


@pytest.mark.parametrize("state", ["running", "deferred", "queued", "success"])
def test_a_later_try_is_left_alone(
    state: str,
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    supervisor: FakeSupervisor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = emulator.add_operation()
    ti.xcom_push("earthengine_operations", [name])
    supervisor.states["export", -1] = state
    EarthEngineCancelOperationsNotifier()(context)
    assert emulator.requests == []
    out = capsys.readouterr().out
    assert "warning" in out.lower()
    assert f"Left alone: 1 operation of task export, whose state is {state}, so that a later try may have" in out
    assert name in out


def test_the_state_is_read_after_the_names(
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    supervisor: FakeSupervisor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pull(**_which: Any) -> list[str]:
        supervisor.states["export", -1] = "running"  # the next try starts, and records at once
        return [emulator.add_operation()]

    monkeypatch.setattr(ti, "xcom_pull", pull)
    supervisor.states["export", -1] = "up_for_retry"
    EarthEngineCancelOperationsNotifier()(context)
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("own", "state", "cancelled"),
    [
        ("failed", "running", True),
        ("skipped", "running", True),
        ("up_for_retry", "running", IS_AIRFLOW_2),  # which stores the state after the callback
    ],
)
def test_in_the_process_of_the_try(
    own: str,
    state: str,
    cancelled: bool,
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    supervisor: FakeSupervisor,
) -> None:
    name = emulator.add_operation()
    ti.xcom_push("earthengine_operations", [name])
    ti.state = own  # as the task runner notes it before it calls
    supervisor.states["export", -1] = state
    EarthEngineCancelOperationsNotifier()(context | {"exception": None})
    assert emulator.cancel_requested(name) is cancelled


@pytest.mark.parametrize("in_process", [True, False])
def test_a_state_that_cannot_be_asked_for(
    in_process: bool,
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    supervisor: FakeSupervisor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = emulator.add_operation()
    ti.xcom_push("earthengine_operations", [name])

    def fail(message: Any) -> None:
        if isinstance(message, GetTaskStates):
            raise ConnectionError("the API server is away")

    supervisor.before = fail
    EarthEngineCancelOperationsNotifier()(context | ({"exception": None} if in_process else {}))
    assert emulator.cancel_requested(name) is in_process
    assert "The state of task export cannot be asked for: the API server is away" in capsys.readouterr().out


# A DAG's callback, a deadline's


def test_of_a_dag_what_tasks_recorded_that_did_not_succeed(
    emulator: Emulator, supervisor: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, mapped, skipped, healthy, sibling, again = (emulator.add_operation() for _ in range(6))
    supervisor.add("export", "failed", [failed])
    supervisor.add("exports", "failed", mapped, map_index=1)
    supervisor.add("exports", "success", sibling, map_index=0)
    supervisor.add("skipped", "skipped", [skipped])
    supervisor.add("submit", "success", [healthy])
    supervisor.add("cleared", "running", [again])
    supervisor.add("never_ran", "upstream_failed")
    EarthEngineCancelOperationsNotifier()(of_dag())
    assert requested(emulator) == {failed, mapped, skipped}
    out = capsys.readouterr().out
    assert "Left alone: 1 operation of task cleared, whose state is running, so that a later try may" in out
    assert healthy not in out
    assert sibling not in out


def test_of_a_dag_with_its_last_task_instance_in_the_context(
    emulator: Emulator, context: Context, supervisor: FakeSupervisor
) -> None:
    names = [emulator.add_operation() for _ in range(2)]
    supervisor.add("export", "failed", names[0])
    supervisor.add("other", "failed", names[1])
    EarthEngineCancelOperationsNotifier()(context | {"reason": "task_failure"})
    assert [emulator.cancel_requested(name) for name in names] == [True, True]


def test_a_task_and_a_mapped_instance_with_the_same_key(emulator: Emulator, supervisor: FakeSupervisor) -> None:
    mapped, plain, healthy = (emulator.add_operation() for _ in range(3))
    supervisor.states.clear()
    supervisor.add("export", "failed", mapped, map_index=1)
    supervisor.add("export", "success", healthy, map_index=0)
    supervisor.add("export_1", "failed", plain)
    supervisor.add("export_0", "failed")
    EarthEngineCancelOperationsNotifier()(of_dag())
    assert [emulator.cancel_requested(name) for name in (mapped, plain, healthy)] == [True, True, False]


def test_of_a_deadline_what_is_under_way_too(emulator: Emulator, supervisor: FakeSupervisor) -> None:
    running, waiting, healthy = (emulator.add_operation() for _ in range(3))
    supervisor.states.clear()
    supervisor.add("export", "running", running, map_index=0)
    supervisor.add("export", "success", healthy, map_index=1)
    supervisor.add("wait", "deferred", [waiting])
    call(EarthEngineCancelOperationsNotifier(), of_deadline(), how="async")
    assert [emulator.cancel_requested(name) for name in (running, waiting, healthy)] == [True, True, False]


def test_of_a_deadline_a_task_that_succeeds_meanwhile_is_healthy(
    emulator: Emulator, supervisor: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    name = emulator.add_operation()
    supervisor.add("export", "running", name)

    def succeed(message: Any) -> None:
        if isinstance(message, GetXCom):
            supervisor.states["export", -1] = "success"

    supervisor.before = succeed
    call(EarthEngineCancelOperationsNotifier(), of_deadline(), how="async")
    assert emulator.requests == []
    assert "its operations are handed on" in capsys.readouterr().out


def test_nothing_left_by_a_run_is_logged(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    EarthEngineCancelOperationsNotifier()(of_dag())
    assert "no task of run run has left one that may be cancelled" in capsys.readouterr().out
    assert emulator.requests == []


# Tasks that are named


@pytest.mark.parametrize("how", ["sync", "async"])
def test_tasks_that_are_named_whatever_their_state(how: str, emulator: Emulator, supervisor: FakeSupervisor) -> None:
    returned, tracked, mapped, other = (emulator.add_operation() for _ in range(4))
    supervisor.add("submit", "success")
    supervisor.xcoms["submit", -1, "return_value"] = {"rows": 3, "name": returned}
    supervisor.add("exports", "running", mapped, map_index=0)
    supervisor.add("exports", "success", tracked, map_index=1)
    supervisor.add("other", "failed", other)
    notifier = EarthEngineCancelOperationsNotifier(xcom_task_ids=["submit", "{{ deadline and 'exports' }}"])
    call(notifier, of_dag(deadline="missed"), how=how)
    assert requested(emulator) == {returned, mapped, tracked}


def test_a_task_that_the_run_does_not_have(
    emulator: Emulator, supervisor: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    name = emulator.add_operation()
    supervisor.add("export", "failed", name)
    EarthEngineCancelOperationsNotifier(xcom_task_ids=["exprt", "export", 7])(of_dag())  # type: ignore[list-item]
    assert emulator.cancel_requested(name)
    out = capsys.readouterr().out
    assert "xcom_task_ids names 'exprt': run run of DAG dag has no such task; did you mean 'export'?" in out
    assert "xcom_task_ids holds a int: give task ids, as text" in out


def test_task_ids_that_rendered_to_nothing(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    EarthEngineCancelOperationsNotifier(xcom_task_ids="{{ '' }}")(of_dag())
    assert "No operation to cancel: xcom_task_ids is empty, or its template rendered to nothing." in (
        capsys.readouterr().out
    )
    assert emulator.requests == []


def test_operations_and_tasks_are_not_both_taken() -> None:
    with pytest.raises(ValueError, match="operations and xcom_task_ids are both given: remove one"):
        EarthEngineCancelOperationsNotifier(operations="A", xcom_task_ids="export")


# Bad input, and what never answers


def test_rubbish_alone_is_named_and_nothing_is_sent(
    emulator: Emulator, supervisor: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.add("export", "failed", ["rub bish"])
    EarthEngineCancelOperationsNotifier()(of_dag())
    out = capsys.readouterr().out
    assert "'rub bish' is not an operation name" in out
    assert "Requesting" not in out
    assert emulator.requests == []


def test_without_the_connection_nothing_is_read(supervisor: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    supervisor.add("export", "failed", ["projects/one/operations/A"])
    EarthEngineCancelOperationsNotifier(earthengine_conn_id="nope")(of_dag())
    out = capsys.readouterr().out
    assert any(text in out for text in NOTHING_SENT)
    assert "connection 'nope' does not exist" in out
    assert not any(isinstance(message, GetXCom) for message in supervisor.asked)


def test_rubbish_stops_no_valid_name(
    emulator: Emulator,
    supervisor: FakeSupervisor,
    set_connection: SetConnection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_connection(allowed_projects=["one"])
    name, forbidden = emulator.add_operation(), emulator.add_operation(project="two")
    supervisor.add("export", "failed", ["rub bish", forbidden, name])
    supervisor.add("other", "failed", {"__classname__": "no.such.Class", "__version__": 1, "__data__": {}})
    EarthEngineCancelOperationsNotifier()(of_dag())
    assert requested(emulator) == {name}
    out = capsys.readouterr().out
    assert "'rub bish' is not an operation name" in out
    assert f"{forbidden} is not in one of the connection's allowed_projects (one)" in out
    assert "What task other recorded cannot be read." in out


@pytest.mark.parametrize("how", ["sync", "async"])
def test_what_never_answers_is_left_behind(
    how: str,
    emulator: Emulator,
    supervisor: FakeSupervisor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    released = threading.Event()

    def hang(message: Any) -> None:
        if isinstance(message, GetTaskStates):
            released.wait(20)

    supervisor.before = hang
    monkeypatch.setattr(module, "_ELSEWHERE_SECONDS", 0.5)
    if how == "async":  # asyncio.run waits for its threads
        threading.Timer(1.5, released.set).start()
    begun = time.monotonic()
    call(EarthEngineCancelOperationsNotifier(), of_dag(), how=how)
    assert time.monotonic() - begun < 10
    assert "Not done after 0.5 s, and not waited for any longer" in capsys.readouterr().out
    if how == "sync":  # another callback would wait behind it
        supervisor.before = lambda _message: None
        call(EarthEngineCancelOperationsNotifier(), of_dag(), how=how)
        assert "an earlier callback in this process still waits for Airflow's answer" in capsys.readouterr().out
    released.set()
    for thread in module._left_behind:
        thread.join()
    assert emulator.requests == []


def test_what_there_is_no_time_to_read_is_named(
    emulator: Emulator,
    supervisor: FakeSupervisor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = emulator.add_operation()
    supervisor.states.clear()
    supervisor.add("never_ran", "upstream_failed")
    for index in range(150):
        supervisor.add("export", "failed", name if index == 0 else None, map_index=index)

    def slow(message: Any) -> None:
        if isinstance(message, GetXCom):
            time.sleep(0.2)

    supervisor.before = slow
    monkeypatch.setattr(module, "_READ_SECONDS", 0.1)
    EarthEngineCancelOperationsNotifier()(of_dag())
    assert emulator.cancel_requested(name), "what could be read is requested"
    out = capsys.readouterr().out
    assert "No time was left to read what these recorded: export[1], export[2]" in out
    assert "and 50 more" in out


def test_without_another_thread_it_runs_in_this_one(
    emulator: Emulator, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    name = emulator.add_operation()
    with monkeypatch.context() as patched:
        patched.setattr(module, "cancel_in_haste", lambda _client, names, **_kwargs: emulator.request_cancel(names[0]))
        patched.setattr(threading.Thread, "start", refuse)
        EarthEngineCancelOperationsNotifier(operations=name)(context)
    assert emulator.cancel_requested(name)


# Starts that a lost worker had no answer to


def intend(ti: FakeTaskInstance, description: str) -> None:
    now = time.time()
    intent = Intent("one", "EXPORT_IMAGE", description, now, now)
    ti.xcom_push("earthengine_operations", [])
    ti.xcom_push("earthengine_starting", [intent.to_dict()])


@pytest.mark.parametrize(
    "make_context", [lambda ti: {"ti": ti, "dag": ti.task.dag}, lambda _: of_dag()], ids=["task", "run"]
)
def test_a_start_without_an_answer_is_found_and_cancelled(
    emulator: Emulator, ti: FakeTaskInstance, make_context: Any
) -> None:
    name = emulator.add_operation(description="mine")
    emulator.add_operation(description="somebody else's")
    intend(ti, "mine")
    EarthEngineCancelOperationsNotifier()(make_context(ti))
    assert requested(emulator) == {name}


def test_of_a_mapped_task_what_may_be_a_siblings_is_named_and_not_cancelled(
    emulator: Emulator, ti: FakeTaskInstance, supervisor: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    name = emulator.add_operation(description="mine")
    ti.map_index = 1
    supervisor.states[("export", 1)] = "failed"
    intend(ti, "mine")
    EarthEngineCancelOperationsNotifier()(cast(Context, {"ti": ti, "dag": ti.task.dag}))
    assert requested(emulator) == set()
    assert name in capsys.readouterr().out
