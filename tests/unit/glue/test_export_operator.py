from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    Context,
    TaskDeferred,
)

from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.emulator.operations import State
from airflow_provider_eeops.exceptions import (
    InvalidInputError,
    InvalidOperationNameError,
    NotConfirmedError,
    NotStartedError,
    OperationsFailedError,
    TaskKilledError,
)
from airflow_provider_eeops.exporting import ExportOwner
from airflow_provider_eeops.operators.exports import EarthEngineExportOperator
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.clock import AdvancingClock
from tests.support.exports import MemoryStore, image_export, table_export
from tests.support.signals import killed_when, timed_out_when
from tests.support.task_instance import FakeTaskInstance
from tests.unit.glue.conftest import SetConnection

pytestmark = pytest.mark.usefixtures("connection")


def operator(python_callable: Callable[..., Any], **parameters: Any) -> EarthEngineExportOperator:
    return EarthEngineExportOperator(
        task_id="task",
        python_callable=python_callable,
        **({"initialize": False, "poll_interval": 0.02, "deferrable": False} | parameters),
    )


@pytest.fixture
def emulator(clock: AdvancingClock) -> Emulator:
    return Emulator(projects=("one", "two"), clock=clock.time, pending_seconds=0, run_seconds=0, cancel_seconds=0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def context(ti: FakeTaskInstance, store: MemoryStore) -> Context:
    return cast(Context, {"ti": ti, "task_state_store": store})


def recorded(ti: FakeTaskInstance) -> Any:
    return ti.xcom_pull(key="earthengine_operations")


def event_of(deferral: TaskDeferred, emulator: Emulator, verdict: str = "settled") -> dict[str, Any]:
    """What the trigger would say if it looked now."""
    trigger = deferral.trigger
    assert isinstance(trigger, EarthEngineOperationsTrigger)
    watch = Watch(tuple(trigger.operations))
    watch.learn({name: Operation.from_payload(emulator.operation(name)) for name in trigger.operations}, {})
    return {"verdict": verdict, "message": watch.message(Verdict(verdict)), "report": watch.report().to_dict()}


def resume(made: EarthEngineExportOperator, context: Context, deferral: TaskDeferred, event: dict[str, Any]) -> Any:
    assert deferral.method_name == "execute_complete"
    return made.execute_complete(context, event, **(deferral.kwargs or {}))


def next_try(ti: FakeTaskInstance) -> None:
    """Airflow clears the XComs of a task when its next try begins."""
    ti.try_number += 1
    for at in [at for at in ti.xcoms if at[0] == ti.task_id]:
        del ti.xcoms[at]


# Starting and waiting


def test_starts_waits_and_returns_a_row_for_each(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    tasks = [image_export("ndvi"), [table_export("stations"), None]]
    rows = operator(lambda: tasks).execute(context)
    names = [row["name"] for row in rows]
    assert sorted(emulator.names()) == sorted(names)
    assert recorded(ti) == names
    assert rows[0] | {"eecu_seconds": 0.0, "start_time": "", "end_time": ""} == {
        "name": names[0],
        "description": "ndvi",
        "state": "SUCCEEDED",
        "destination_uris": ["https://console.developers.google.com/storage/browser/bucket/ndvi"],
        "eecu_seconds": 0.0,
        "start_time": "",
        "end_time": "",
        "error_message": None,
    }
    assert [emulator.operation(name)["metadata"]["type"] for name in names] == ["EXPORT_IMAGE", "EXPORT_FEATURES"]
    assert ti.xcom_pull(key="earthengine_starting") == []


def test_the_log_says_which_operation_is_which_export(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = operator(lambda: [image_export("ndvi"), table_export("stations")]).execute(context)
    assert f"{rows[0]['name']}: EXPORT_IMAGE 'ndvi' was started." in caplog.messages
    assert f"{rows[1]['name']}: EXPORT_FEATURES 'stations' was started." in caplog.messages


def test_the_users_tasks_know_their_operations(context: Context) -> None:
    task = image_export()
    (row,) = operator(lambda: task).execute(context)
    assert (task.name, task.id) == (row["name"], row["name"].rpartition("/")[2])


def test_what_was_started_elsewhere_is_waited_for_in_its_place(emulator: Emulator, context: Context) -> None:
    given = emulator.add_operation(project="two", run_seconds=0)
    task = image_export()
    rows = operator(lambda: (task, {"name": given}, task)).execute(context)
    assert [row["name"] for row in rows] == [emulator.names("one")[0], given]
    assert emulator.count("export") == 1


def test_deferred_it_waits_for_what_it_started(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    made = operator(lambda: [image_export("a"), image_export("b")], deferrable=True, timeout=5000)
    with pytest.raises(TaskDeferred) as deferred:
        made.execute(context)
    trigger = deferred.value.trigger
    assert isinstance(trigger, EarthEngineOperationsTrigger)
    assert sorted(trigger.operations) == sorted(emulator.names())
    assert trigger.operations == recorded(ti)
    assert trigger.cancel_on_kill
    clock.advance(1001)
    rows = resume(made, context, deferred.value, event_of(deferred.value, emulator))
    assert [(row["name"], row["state"]) for row in rows] == [(name, "SUCCEEDED") for name in trigger.operations]
    assert [row["description"] for row in rows] == ["a", "b"]
    assert emulator.count("export") == 2


def test_what_has_ended_by_the_first_look_needs_no_trigger(context: Context) -> None:
    (row,) = operator(Exports("a"), deferrable=True).execute(context)
    assert row["state"] == "SUCCEEDED"


# What a retry means


class Exports:
    """A function that returns the same exports each time it is called."""

    def __init__(self, *descriptions: str) -> None:
        self.descriptions = descriptions
        self.calls = 0

    def __call__(self) -> list[Any]:
        self.calls += 1
        return [image_export(description) for description in self.descriptions]


def allow_retries(ti: FakeTaskInstance, retries: int) -> None:
    ti.max_tries = ti.task.retries = retries


def by_description(emulator: Emulator) -> dict[str, list[str]]:
    """Names of operations by their description, oldest first."""
    found: dict[str, list[str]] = {}
    for name in emulator.names():
        found.setdefault(emulator.operation(name)["metadata"]["description"], []).append(name)
    return found


def lost(made: EarthEngineExportOperator, context: Context) -> list[str]:
    """Have a try start its exports and die with its worker, SIGKILLed as it waits; return the names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_eeops.exporting.ExportOwner.wait", _die)
        patch.setattr("airflow_provider_eeops.exporting.ExportOwner.cancel", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            made.execute(context)
    return list(recorded(context["ti"]))  # type: ignore[arg-type]


def _die(*_: Any) -> Any:
    raise SystemExit


@pytest.fixture(params=["with a task state store", "without"])
def kept(request: pytest.FixtureRequest, context: Context, ti: FakeTaskInstance) -> bool:
    """Whether the tries of a task share a store, as from Airflow 3.3 on."""
    allow_retries(ti, 5)
    if request.param == "without":
        cast(dict[str, Any], context).pop("task_state_store")
    return bool(request.param != "without")


@pytest.mark.usefixtures("kept")
def test_the_next_try_waits_for_what_the_first_started(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    exports = Exports("a", "b", "c")
    first = lost(operator(exports), context)
    next_try(ti)
    clock.advance(1001)
    rows = operator(exports).execute(context)
    assert [row["name"] for row in rows] == first == recorded(ti)
    assert len(emulator.names()) == 3
    assert emulator.count("cancel") == 0


@pytest.mark.usefixtures("kept")
def test_only_what_failed_or_was_cancelled_is_started_again(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    exports = Exports("succeeds", "cancelled", "goes on", "gone")
    first = dict(zip(exports.descriptions, lost(operator(exports), context), strict=True))
    emulator._known(first["succeeds"]).run_seconds = 1
    emulator.request_cancel(first["cancelled"])
    clock.advance(10)
    emulator.remove_operation(first["gone"])
    next_try(ti)
    emulator.run_seconds = 0
    emulator._known(first["goes on"]).run_seconds = 11
    rows = {row["description"]: row["name"] for row in operator(exports).execute(context)}
    assert rows["succeeds"] == first["succeeds"]
    assert rows["goes on"] == first["goes on"]
    assert rows["cancelled"] != first["cancelled"]
    assert rows["gone"] != first["gone"]
    assert {description: len(names) for description, names in by_description(emulator).items()} == {
        "succeeds": 1,
        "cancelled": 2,
        "goes on": 1,
        "gone": 1,
    }


@pytest.mark.usefixtures("kept")
def test_a_failed_export_is_started_again_by_each_retry(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    exports = Exports("fails", "succeeds")
    add = emulator.add_operation

    def fail(**parameters: Any) -> str:
        ends = "FAILED" if parameters["description"] == "fails" else "SUCCEEDED"
        return add(**parameters | {"ends": ends, "error_message": "Image has no bands."})

    emulator.add_operation = fail  # type: ignore[assignment]
    for number in range(3):
        with pytest.raises(OperationsFailedError, match=r"FAILED.*Image has no bands"):
            operator(exports, fail_fast=False).execute(context)
        assert {description: len(names) for description, names in by_description(emulator).items()} == {
            "fails": number + 1,
            "succeeds": 1,
        }
        assert [row["state"] for row in ti.returned] == ["FAILED", "SUCCEEDED"]
        next_try(ti)
    emulator.add_operation = add  # type: ignore[method-assign]
    rows = operator(exports).execute(context)
    assert [row["state"] for row in rows] == ["SUCCEEDED", "SUCCEEDED"]
    assert len(by_description(emulator)["fails"]) == 4


@pytest.mark.usefixtures("kept")
def test_what_is_being_cancelled_is_started_again_when_it_has_ended(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds, emulator.cancel_seconds = 1000, 1.0
    exports = Exports("a")
    (first,) = lost(operator(exports), context)
    emulator.request_cancel(first)
    next_try(ti)
    emulator.run_seconds = 0
    (row,) = operator(exports).execute(context)
    assert row["name"] != first
    assert emulator.state(first) == "CANCELLED"
    created = emulator._known(row["name"]).created
    assert created >= (emulator._known(first).cancel_end or 0), "it did not run twice at once"


@pytest.mark.usefixtures("kept")
def test_restart_sees_the_earlier_ones_cancelled_and_starts_all_again(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds, emulator.cancel_seconds = 1000, 0.5
    exports = Exports("a", "b")
    first = lost(operator(exports, on_retry="restart"), context)
    next_try(ti)
    emulator.run_seconds = 0
    rows = operator(exports, on_retry="restart").execute(context)
    assert [emulator.state(name) for name in first] == ["CANCELLED", "CANCELLED"]
    assert not {row["name"] for row in rows} & set(first)
    assert [row["state"] for row in rows] == ["SUCCEEDED", "SUCCEEDED"]
    assert len(emulator.names()) == 4


def test_restart_starts_nothing_while_an_earlier_one_has_not_ended(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    allow_retries(ti, 1)
    emulator.run_seconds, emulator.cancel_seconds = 1000, 1000
    exports = Exports("a")
    (first,) = lost(operator(exports, on_retry="restart"), context)
    next_try(ti)
    with pytest.raises(NotConfirmedError, match=f"have not ended, and are not started again(.|\n)*{first}"):
        operator(exports, on_retry="restart", timeout=0.3).execute(context)
    assert emulator.names() == [first]
    assert recorded(ti) == [first]


@pytest.mark.usefixtures("kept")
def test_a_task_that_succeeded_and_is_cleared_exports_anew(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    exports = Exports("a")
    (first,) = operator(exports).execute(context)
    next_try(ti)
    ti.max_tries += 1  # as Airflow does at a clear, and at no retry
    (second,) = operator(exports).execute(context)
    assert first["name"] != second["name"]
    assert len(emulator.names()) == 2


@pytest.mark.usefixtures("kept")
def test_a_try_that_dies_before_its_success_is_known_exports_nothing_again(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    exports = Exports("a")
    (first,) = operator(exports).execute(context)
    next_try(ti)
    (second,) = operator(exports).execute(context)
    assert first["name"] == second["name"]
    assert len(emulator.names()) == 1


def test_another_order_is_warned_of(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance, caplog: pytest.LogCaptureFixture
) -> None:
    allow_retries(ti, 1)
    emulator.run_seconds = 1000
    lost(operator(Exports("a", "b")), context)
    next_try(ti)
    clock.advance(1001)
    operator(Exports("b", "a")).execute(context)
    assert "position 0 was 'a', and is 'b' now" in caplog.text
    assert len(emulator.names()) == 2


# The record


@pytest.mark.parametrize("repeat", ["same", "already_exists"])
def test_a_worker_lost_between_start_and_record_starts_nothing_twice(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance, store: MemoryStore, repeat: Any
) -> None:
    allow_retries(ti, 1)
    emulator.run_seconds = 1000
    exports = Exports("a", "b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_eeops.exporting.ExportOwner._decide_on_repeated", _die)
        patch.setattr("airflow_provider_eeops.starts.Ledger.learn", lambda *_: None)
        patch.setattr("airflow_provider_eeops.exporting.ExportOwner.cancel", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            operator(exports).execute(context)
    assert len(emulator.names()) == 2
    clock.advance(1001)
    assert recorded(ti) == []
    assert [intent["description"] for intent in ti.xcom_pull(key="earthengine_starting")] == ["a", "b"]
    emulator.request_id_repeat = repeat
    next_try(ti)
    rows = operator(exports).execute(context)
    assert {row["name"] for row in rows} == set(emulator.names())
    assert [row["description"] for row in rows] == ["a", "b"]
    assert store.values == {}, "all is forgotten when the task succeeds"


def test_names_are_recorded_after_each_few_starts(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    push = FakeTaskInstance.xcom_push

    def look(self: FakeTaskInstance, key: str, value: Any) -> None:
        push(self, key, value)
        if key == "earthengine_starting":
            seen.append((len(recorded(ti)), len(value)))

    monkeypatch.setattr(FakeTaskInstance, "xcom_push", look)
    operator(Exports(*map(str, range(5))), max_concurrency=2).execute(context)
    assert seen == [(0, 0), (0, 2), (2, 2), (4, 1), (5, 0)]
    assert len(emulator.names()) == 5


def test_what_an_earlier_try_started_is_in_xcom_before_the_function_is_called(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    allow_retries(ti, 1)
    first = lost(operator(Exports("a")), context)
    next_try(ti)
    clock.advance(1001)

    def export() -> Any:
        assert recorded(ti) == first
        return image_export("a")

    operator(export).execute(context)


def test_what_cannot_be_recorded_is_cancelled_all_the_same(
    emulator: Emulator, context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    push = FakeTaskInstance.xcom_push

    def fail(self: FakeTaskInstance, key: str, value: Any) -> None:
        if emulator.names():
            raise OSError("the API server is away")
        push(self, key, value)

    emulator.run_seconds = 1000
    monkeypatch.setattr(FakeTaskInstance, "xcom_push", fail)
    with pytest.raises(OSError, match="is away"):
        operator(Exports("a", "b")).execute(context)
    assert len(emulator.names()) == 2
    assert all(map(emulator.cancel_requested, emulator.names()))
    assert all(name in caplog.text for name in emulator.names())


def test_a_store_that_breaks_stops_nothing(
    emulator: Emulator, context: Context, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.is_broken = True
    assert len(operator(Exports("a", "b")).execute(context)) == 2
    assert "could not be read from the task state store" in caplog.text
    assert len(emulator.names()) == 2


def test_what_somebody_else_wrote_is_passed_over(
    emulator: Emulator, context: Context, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.set("earthengine_exports_0", {"starts": {"0": ["x"]}})
    assert len(operator(Exports("a")).execute(context)) == 1
    assert "written by somebody else" in caplog.text
    assert len(emulator.names()) == 1


def test_thousands_of_exports(emulator: Emulator, context: Context, store: MemoryStore, ti: FakeTaskInstance) -> None:
    emulator.queue_limit, emulator.log_limit = 10_000, 100
    one = image_export()

    def many() -> Any:
        for _ in range(1000):
            yield type(one)(None, one.task_type, one.state, one.config)

    rows = operator(many).execute(context)
    assert len({row["name"] for row in rows}) == len(emulator.names()) == len(recorded(ti)) == 1000
    assert max(store.writes) < 60_000
    assert sum(store.writes) < 10e6


# How a try ends


def test_the_error_of_a_failed_export_is_earth_engines(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    failed = emulator.add_operation(ends="FAILED", error_message="Image has no bands.", run_seconds=0)
    running = emulator.add_operation(run_seconds=1000)
    with pytest.raises(OperationsFailedError, match=r"Image has no bands\.") as caught:
        operator(lambda: [failed, running]).execute(context)
    assert "\n- " + failed in str(caught.value)
    assert emulator.cancel_requested(running), "the rest is cancelled at once"
    assert [(row["name"], row["state"]) for row in ti.returned] == [(failed, "FAILED"), (running, "CANCELLED")]
    assert ti.returned[0]["error_message"] == "Image has no bands."


def test_without_fail_fast_all_run_out_first(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    failed = emulator.add_operation(ends="FAILED", run_seconds=0)
    slow = emulator.add_operation(run_seconds=0.5)
    with pytest.raises(OperationsFailedError, match="1 of 2 operations did not succeed"):
        operator(lambda: [failed, slow], fail_fast=False).execute(context)
    assert not emulator.cancel_requested(slow)
    assert [row["state"] for row in ti.returned] == ["FAILED", "SUCCEEDED"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_export_that_is_refused(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, deferrable: bool
) -> None:
    emulator.add_fault(Fault("export", status=400, message="No band 'B99'.", times=1))
    emulator.run_seconds = 1000
    made = operator(Exports("a", "b", "c"), max_concurrency=1, deferrable=deferrable)
    with pytest.raises(NotStartedError, match=r"1 of 1 operation was not started:\n- export 0 'a': .*No band 'B99'"):
        made.execute(context)
    assert emulator.names() == []
    assert [(row["name"], row["description"]) for row in ti.returned] == [(None, "a")]


def test_at_a_refusal_what_was_started_before_is_cancelled(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    tasks = [image_export("a"), image_export("b", expression=object()), image_export("c")]
    with pytest.raises(NotStartedError, match=r"'b'(.|\n)*cannot be encoded"):
        operator(lambda: tasks, max_concurrency=1).execute(context)
    assert [emulator.state(name) for name in emulator.names()] == ["CANCELLED"]
    assert [row["description"] for row in ti.returned] == ["a", "b"]
    assert ti.xcom_pull(key="earthengine_starting") == []


def test_without_fail_fast_the_others_are_started_and_waited_for(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    tasks = [image_export("a"), image_export("b", expression=object()), image_export("c")]
    made = operator(lambda: tasks, fail_fast=False, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        made.execute(context)
    assert len(emulator.names()) == 2
    clock.advance(1001)
    with pytest.raises(NotStartedError, match="1 of 3 operations was not started"):
        resume(made, context, deferred.value, event_of(deferred.value, emulator))
    assert [(row["description"], row["state"]) for row in ti.returned] == [
        ("a", "SUCCEEDED"),
        ("b", None),
        ("c", "SUCCEEDED"),
    ]


def test_a_timeout_requests_cancellation(emulator: Emulator, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = ExportOwner.wait

    def wait_no_longer(self: ExportOwner, watch: Watch) -> Verdict:
        watch.deadline = time.time()
        return wait(self, watch)

    monkeypatch.setattr(ExportOwner, "wait", wait_no_longer)
    emulator.run_seconds = 1000
    with pytest.raises(NotConfirmedError, match="2 of 2 operations not confirmed in time"):
        operator(Exports("a", "b"), timeout=3000, retries=3).execute(context)
    assert len(emulator.names()) == 2
    assert all(map(emulator.cancel_requested, emulator.names()))


@pytest.mark.parametrize(
    ("retries", "on_retry", "has_store", "goes_on"),
    [
        (1, "reattach", True, True),
        (0, "reattach", True, False),
        (1, "restart", True, False),
        (1, "reattach", False, False),
    ],
)
def test_at_execution_timeout_operations_go_on_to_a_try_that_waits_for_them(
    emulator: Emulator,
    context: Context,
    ti: FakeTaskInstance,
    caplog: pytest.LogCaptureFixture,
    retries: int,
    on_retry: Any,
    has_store: bool,
    goes_on: bool,
) -> None:
    caplog.set_level("INFO")
    emulator.run_seconds = 1000
    allow_retries(ti, retries)
    if not has_store:
        cast(dict[str, Any], context).pop("task_state_store")
    made = operator(Exports("a", "b"), on_retry=on_retry, retries=retries)
    with timed_out_when(lambda: emulator.count("get") > 1), pytest.raises(AirflowTaskTimeout):
        made.execute(context)
    assert [emulator.cancel_requested(name) for name in emulator.names()] == [not goes_on] * 2
    assert ("2 operations go on: the next try waits for them." in caplog.messages) is goes_on


def test_a_start_that_execution_timeout_interrupts_is_recorded(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds, emulator.latency = 1000, 0.4
    allow_retries(ti, 1)
    with timed_out_when(lambda: bool(emulator.names())), pytest.raises(AirflowTaskTimeout):
        operator(Exports("a"), retries=1).execute(context)
    emulator.latency = 0
    assert recorded(ti) == emulator.names()
    next_try(ti)
    clock.advance(1001)
    operator(Exports("a"), retries=1).execute(context)
    assert len(emulator.names()) == 1


def test_a_start_that_execution_timeout_interrupts_for_good_is_cancelled(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds, emulator.latency = 1000, 0.4
    with timed_out_when(lambda: bool(emulator.names())), pytest.raises(AirflowTaskTimeout):
        operator(Exports("a")).execute(context)
    assert recorded(ti) == emulator.names()
    assert all(map(emulator.cancel_requested, emulator.names()))
    assert emulator.count("list") == 0, "it was told by the answer"


def test_a_kill_cancels_whatever_comes_next(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    emulator.run_seconds = 1000
    allow_retries(ti, 3)
    made = operator(Exports("a", "b"), retries=3)
    with killed_when(lambda: emulator.count("get") > 1, made.on_kill), pytest.raises(TaskKilledError):
        made.execute(context)
    assert all(map(emulator.cancel_requested, emulator.names()))
    assert emulator.count("cancel") == 2, "what the kill has asked for is not asked for again"


def test_a_kill_as_a_start_is_under_way_cancels_that_too(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds, emulator.latency = 1000, 0.3
    made = operator(Exports(*map(str, range(40))), max_concurrency=4)
    with killed_when(lambda: len(emulator.names()) >= 6, made.on_kill), pytest.raises(TaskKilledError):
        made.execute(context)
    assert 6 <= len(emulator.names()) < 40, "no start is made after the kill"
    assert all(map(emulator.cancel_requested, emulator.names()))
    assert set(recorded(ti)) == set(emulator.names())


def test_the_next_try_after_a_kill_starts_them_again(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    allow_retries(ti, 1)
    made = operator(Exports("a"), retries=1)
    with killed_when(lambda: emulator.count("get") > 1, made.on_kill), pytest.raises(TaskKilledError):
        made.execute(context)
    next_try(ti)
    emulator.run_seconds = 0
    operator(Exports("a"), retries=1).execute(context)
    assert len(emulator.names()) == 2


def test_an_error_of_the_function_cancels_what_an_earlier_try_left(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.run_seconds = 1000
    allow_retries(ti, 2)
    first = lost(operator(Exports("a")), context)
    next_try(ti)

    def broken() -> Any:
        raise KeyError("month")

    with pytest.raises(KeyError):
        operator(broken, retries=2).execute(context)
    assert not emulator.cancel_requested(first[0]), "the third try waits for it"
    next_try(ti)
    with pytest.raises(KeyError):
        operator(broken, retries=2).execute(context)
    assert emulator.cancel_requested(first[0])


def test_polls_that_fail_leave_the_operations_to_the_next_try(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, set_connection: SetConnection
) -> None:
    set_connection(num_retries=0)
    emulator.run_seconds = 1000
    allow_retries(ti, 1)
    emulator.add_fault(Fault("get", status=503, times=None))
    with pytest.raises(NotConfirmedError, match="polls in a row failed"):
        operator(Exports("a"), retries=1).execute(context)
    assert not emulator.cancel_requested(emulator.names()[0])


# Deferred


def deferred_from(made: EarthEngineExportOperator, context: Context) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        made.execute(context)
    return deferred.value


def test_the_deadline_is_the_earlier_of_both(emulator: Emulator, context: Context, ti: FakeTaskInstance) -> None:
    emulator.run_seconds = 1000
    ti.task.execution_timeout = timedelta(seconds=50)
    deferral = deferred_from(operator(Exports("a"), deferrable=True, timeout=500), context)
    trigger = cast(EarthEngineOperationsTrigger, deferral.trigger)
    assert trigger.deadline == pytest.approx(ti.start_date.timestamp() + 50)
    assert deferral.kwargs is not None
    assert deferral.kwargs["execution_ends"] == trigger.deadline


def test_fail_fast_ends_the_deferral_at_the_first_failure(emulator: Emulator, context: Context) -> None:
    emulator.run_seconds = 1000
    made = operator(Exports("a", "b"), deferrable=True)
    deferral = deferred_from(made, context)
    assert cast(EarthEngineOperationsTrigger, deferral.trigger).accepted_states == ["SUCCEEDED"]
    emulator._known(emulator.names()[0]).run_seconds = 0
    emulator._known(emulator.names()[0]).ends = State.FAILED
    with pytest.raises(OperationsFailedError):
        resume(made, context, deferral, event_of(deferral, emulator, "not_accepted"))
    assert emulator.cancel_requested(emulator.names()[1])


@pytest.mark.parametrize("is_retried", [False, True])
def test_execution_timeout_while_deferred(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, is_retried: bool
) -> None:
    emulator.run_seconds = 1000
    allow_retries(ti, int(is_retried))
    ti.task.execution_timeout = timedelta(seconds=50)
    made = operator(Exports("a"), deferrable=True, retries=int(is_retried))
    deferral = deferred_from(made, context)
    assert deferral.kwargs is not None
    deferral.kwargs |= {"execution_ends": time.time() - 1, "deadline": time.time() - 1}
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout"):
        resume(made, context, deferral, event_of(deferral, emulator, "timed_out"))
    assert emulator.cancel_requested(emulator.names()[0]) is not is_retried


@pytest.mark.usefixtures("kept")
def test_a_full_queue_defers_and_goes_on_starting_after(
    emulator: Emulator, clock: AdvancingClock, context: Context, ti: FakeTaskInstance
) -> None:
    emulator.queue_limit, emulator.pending_seconds = 2, 100
    exports = Exports("a", "b", "c", "d", "e")
    made = operator(exports, deferrable=True, timeout=100_000, max_concurrency=2)
    deferral = deferred_from(made, context)
    for started in (2, 4):
        trigger = cast(EarthEngineOperationsTrigger, deferral.trigger)
        assert len(emulator.names()) == started == len(trigger.operations)
        assert trigger.operations == recorded(ti)
        assert trigger.deadline == pytest.approx(time.time() + 300, abs=60), "it looks again in five minutes"
        clock.advance(101)
        with pytest.raises(TaskDeferred) as deferred:
            resume(made, context, deferral, event_of(deferral, emulator))
        deferral = deferred.value
    clock.advance(101)
    rows = resume(made, context, deferral, event_of(deferral, emulator))
    assert [(row["description"], row["state"]) for row in rows] == [(name, "SUCCEEDED") for name in "abcde"]
    assert len(emulator.names()) == 5
    assert exports.calls == 3


@pytest.mark.usefixtures("kept")
def test_with_the_event_alone_what_is_left_is_found(
    emulator: Emulator, clock: AdvancingClock, context: Context
) -> None:
    """As dag.test() resumes it: all else that was handed over is dropped."""
    emulator.queue_limit, emulator.pending_seconds = 2, 100
    made = operator(Exports("a", "b", "c"), deferrable=True, timeout=100_000, max_concurrency=2)
    deferral = deferred_from(made, context)
    clock.advance(101)
    with pytest.raises(TaskDeferred) as deferred:
        made.execute_complete(context, event_of(deferral, emulator))
    clock.advance(101)
    rows = made.execute_complete(context, event_of(deferred.value, emulator))
    assert [(row["description"], row["state"]) for row in rows] == [(name, "SUCCEEDED") for name in "abc"]
    assert len(emulator.names()) == 3


def test_a_full_queue_of_others_is_waited_for_in_the_worker(
    emulator: Emulator, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_eeops.api.starting._FIRST_PAUSE", 0.1)
    emulator.queue_limit = 1
    others = emulator.add_operation(pending_seconds=0.5)
    (row,) = operator(Exports("a"), deferrable=True).execute(context)
    assert row["state"] == "SUCCEEDED"
    assert row["name"] != others


def test_no_room_in_time_is_a_timeout(emulator: Emulator, context: Context) -> None:
    emulator.queue_limit = 0
    with pytest.raises(NotConfirmedError, match="in time"):
        operator(Exports("a"), timeout=2).execute(context)


def test_a_next_try_after_a_deferral_lists_the_same_names_so_that_none_is_cancelled(
    emulator: Emulator, context: Context, ti: FakeTaskInstance
) -> None:
    from airflow_provider_eeops.ownership import judge_killed

    emulator.run_seconds = 1000
    allow_retries(ti, 1)
    made = operator(Exports("a", "b"), deferrable=True, retries=1)
    first = cast(EarthEngineOperationsTrigger, deferred_from(made, context).trigger).operations
    next_try(ti)  # cleared while it was deferred
    second = cast(EarthEngineOperationsTrigger, deferred_from(made, context).trigger).operations
    assert first == second == recorded(ti)
    judgement = judge_killed(first, state="deferred", recorded=recorded(ti), sources_ended=True)
    assert (judgement.cancel, judgement.undecided) == ((), False)


@pytest.mark.parametrize("is_retried", [False, True])
def test_a_deferral_that_airflow_ends(
    emulator: Emulator, context: Context, ti: FakeTaskInstance, is_retried: bool
) -> None:
    emulator.run_seconds = 1000
    allow_retries(ti, int(is_retried))
    made = operator(Exports("a"), deferrable=True, retries=int(is_retried))
    deferred_from(made, context)
    with pytest.raises(AirflowException, match="Trigger failure"):
        made.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert emulator.cancel_requested(emulator.names()[0]) is not is_retried


def test_a_task_that_airflow_ends_before_it_resumes_cancels(
    emulator: Emulator, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.run_seconds = 1000
    made = operator(Exports("a"), deferrable=True)
    deferred_from(made, context)
    path = "airflow_provider_eeops.operators.exports"
    monkeypatch.setattr(f"{path}.is_ended_before_it_resumes", lambda: True)
    monkeypatch.setattr(f"{path}.get_current_context", lambda: context)
    made.on_kill()
    assert emulator.cancel_requested(emulator.names()[0])


# What the function may return


@pytest.mark.parametrize("nothing", [None, [], [None, []], ""])
def test_nothing_to_export(emulator: Emulator, context: Context, nothing: Any) -> None:
    def export_nothing() -> Any:
        return nothing

    with pytest.raises(AirflowFailException, match=r"export_nothing returned no export\. .*if_empty='skip'"):
        operator(export_nothing).execute(context)
    with pytest.raises(AirflowSkipException, match="returned no export"):
        operator(export_nothing, if_empty="skip").execute(context)
    assert operator(export_nothing, if_empty="ignore").execute(context) == []
    assert emulator.requests == []


@pytest.mark.parametrize(("returned", "told"), [(None, True), ([None, None], True), ([], False), ("", False)])
def test_a_function_that_forgot_its_return_is_told_so(context: Context, returned: Any, told: bool) -> None:
    with pytest.raises(AirflowFailException) as failed:
        operator(lambda: returned).execute(context)
    assert ("It returned None: return what ee.batch.Export made" in str(failed.value)) is told


def test_a_task_that_has_finished_is_kept(emulator: Emulator, context: Context) -> None:
    name = emulator.add_operation(finished=True)
    task = image_export()
    task.id, task.name = name.rpartition("/")[2], name
    assert [row["name"] for row in operator(lambda: task).execute(context)] == [name]
    assert emulator.count("export") == 0


def test_what_is_no_export_is_refused_before_any_start(emulator: Emulator, context: Context) -> None:
    with pytest.raises(InvalidOperationNameError, match=r"a value of type builtins\.object"):
        operator(lambda: [image_export(), object()]).execute(context)
    assert emulator.requests == []


def test_the_function_has_its_arguments_and_the_context(context: Context) -> None:
    def export(month: str, *, scale: int, ti: Any, templates_dict: Any) -> Any:
        return image_export(f"{month} {scale} {ti.task_id} {templates_dict['region']}")

    made = operator(export, op_args=["may"], op_kwargs={"scale": 30}, templates_dict={"region": "north"})
    assert [row["description"] for row in made.execute(context)] == ["may 30 task north"]


def test_a_session_is_open_while_the_function_runs_and_the_exports_start(
    context: Context,
) -> None:
    from airflow_provider_eeops.api.ee_state import initialized_project

    seen: list[Any] = []

    def export() -> Any:
        seen.append(initialized_project())
        return image_export()

    (row,) = operator(export, initialize=True, project_id="two").execute(context)
    assert seen == ["two"]
    assert initialized_project() is None
    assert row["name"].startswith("projects/two/")


def test_a_function_that_needs_a_session_and_has_none_is_told_so(context: Context) -> None:
    import ee

    with pytest.raises(InvalidInputError, match=r"leave initialize=True, or call ee\.Initialize"):
        operator(lambda: ee.Number(1).getInfo()).execute(context)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"python_callable": "export"}, "python_callable is 'export'"),
        ({"on_retry": "again"}, "on_retry is 'again'"),
        ({"if_empty": "?"}, "if_empty is"),
        ({"timeout": 0}, "timeout is 0"),
        ({"poll_interval": -1}, "poll_interval is -1"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
    ],
)
def test_a_wrong_parameter_is_named_at_parse_time(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EarthEngineExportOperator(task_id="task", **({"python_callable": image_export} | parameters))


# The decorator


def test_the_decorator_makes_the_operator_and_is_registered() -> None:
    from airflow.providers.common.compat.sdk import task

    with DAG("dag", schedule=None):

        @task.earthengine(deferrable=True, project_id="two", retries=2)
        def export(month: str, ti: Any = None) -> Any:
            return image_export(f"{month} {ti.task_id}")

        made = cast(Any, export("may")).operator
    assert EarthEngineExportOperator in type(made).__mro__
    assert (made.task_id, made.project_id, made.deferrable, made.retries) == ("export", "two", True, 2)
    assert made.custom_operator_name == "@task.earthengine"
    assert [hasattr(made, name) for name in made.template_fields] == [True] * len(made.template_fields)


def test_the_decorated_task_runs_and_maps(context: Context, emulator: Emulator) -> None:
    from airflow_provider_eeops.decorators.exports import earthengine_task

    def export(month: str, ti: Any = None) -> Any:
        return image_export(f"{month} {ti.task_id}")

    with DAG("dag", schedule=None):
        decorated: Any = earthengine_task(export, initialize=False, poll_interval=0.02, deferrable=False)
        made = decorated("may").operator
        assert len(decorated.expand(month=["june", "july"]).operator.partial_kwargs) > 0
    assert [row["description"] for row in made.execute(context)] == ["may task"]
    assert len(emulator.names()) == 1
