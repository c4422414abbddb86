from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import (
    Context,
    TaskDeferred,
)

from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.operators.exports import EarthEngineExportOperator
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.clock import AdvancingClock
from tests.support.exports import MemoryStore, image_export, table_export
from tests.support.task_instance import FakeTaskInstance

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
    from airflow_provider_eeops.api.models import Operation
    from airflow_provider_eeops.api.watching import Verdict, Watch

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


def test_the_users_tasks_know_their_operations(emulator: Emulator, context: Context) -> None:
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


def test_what_has_ended_by_the_first_look_needs_no_trigger(emulator: Emulator, context: Context) -> None:
    (row,) = operator(lambda: image_export(), deferrable=True).execute(context)
    assert row["state"] == "SUCCEEDED"
