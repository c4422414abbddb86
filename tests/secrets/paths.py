"""Every path through the package, as short as it can be; each returns what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import DAG, Context, TaskDeferred

from airflow_provider_eeops._compat import AirflowRescheduleException
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from airflow_provider_eeops.tracking import track_operations
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.signals import killed_when
from tests.support.task_instance import FakeTaskInstance
from tests.support.this_airflow import rendered_fields, set_current_context, stored_arguments
from tests.support.versions import IS_AIRFLOW_2, RESCHEDULE_ASKS_DATABASE

__all__ = ["PATHS", "Task"]


@dataclass
class Task:
    """A task instance that runs a path.

    :param ti: the instance.
    :param names: operations that there are.
    """

    ti: FakeTaskInstance
    names: list[str]

    @property
    def context(self) -> Context:
        return cast(Context, {"ti": self.ti, "dag": DAG("dag", schedule=None)})


Path_ = Callable[[Task], Iterator[Any]]


def _of_hook(call: Callable[[EarthEngineOperationsHook, Task], Any]) -> Path_:
    def path(task: Task) -> Iterator[Any]:
        with EarthEngineOperationsHook() as hook:
            yield from (hook, hook.settings)
            client = hook.get_conn()
            yield from (client, client._transport, client._transport.__dict__["_redaction"])
            yield hook._get_identity()
            yield call(hook, task)

    return path


def _wait(hook: EarthEngineOperationsHook, task: Task) -> Any:
    return hook.wait_for_operations(task.names, timeout=0.02, poll_interval=0.01)


def _operator(task: Task, **parameters: Any) -> EarthEngineCancelOperationsOperator:
    given = parameters if "selector" in parameters else {"operations": task.names, **parameters}
    return EarthEngineCancelOperationsOperator(
        task_id="cancel", **({"timeout": 0.05, "poll_interval": 0.01, "deferrable": False} | given)
    )


def _executed(made: Any, task: Task) -> Iterator[Any]:
    """Execute it; yield what Airflow stores of it: rendered fields, the deferral, the result."""
    task.ti.task = made
    try:
        yield made.execute(task.context)
    except TaskDeferred as deferred:
        yield from _stored(deferred)
        yield from _run(deferred.trigger)
    except AirflowRescheduleException as error:
        yield error
    finally:
        yield made
        yield rendered_fields(made)
        yield task.ti.xcoms


def _stored(deferred: TaskDeferred) -> Iterator[Any]:
    """What the task's end in deferral writes to the database."""
    path, arguments = deferred.trigger.serialize()
    yield from (path, stored_arguments(arguments), stored_arguments(deferred.kwargs or {}))
    yield from (deferred, deferred.trigger)


def _run(trigger: Any) -> Iterator[Any]:
    async def events() -> list[Any]:
        return [event async for event in trigger.run()]

    trigger.poll_interval, trigger.poll_failure_limit = 0.01, 1
    trigger.deadline = time.time() + 0.1
    for event in asyncio.run(events()):
        yield event
        yield json.dumps(event.payload)


def _operator_path(**parameters: Any) -> Path_:
    return lambda task: _executed(_operator(task, **parameters), task)


def _killed(task: Task) -> Iterator[Any]:
    made = _operator(task, wait_for_completion=True, timeout=0.4)
    since = time.monotonic()
    with killed_when(lambda: time.monotonic() - since > 0.2, made.on_kill):
        yield from _executed(made, task)


def _sensor_path(**parameters: Any) -> Path_:
    def path(task: Task) -> Iterator[Any]:
        if IS_AIRFLOW_2 and parameters.get("mode") == "reschedule":
            pytest.skip(RESCHEDULE_ASKS_DATABASE)
        task.ti.get_first_reschedule_date = lambda _context: None  # type: ignore[attr-defined]
        given = {"timeout": 0.05, "poke_interval": 0.01, "deferrable": False, "poll_failure_limit": 1} | parameters
        yield from _executed(EarthEngineOperationsSensor(task_id="wait", operations=task.names, **given), task)

    return path


def _trigger(task: Task) -> EarthEngineOperationsTrigger:
    made = EarthEngineOperationsTrigger(operations=task.names)
    instance: Any = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=-1, try_number=1)
    made.task_instance = instance
    return made


def _trigger_runs(task: Task) -> Iterator[Any]:
    made = _trigger(task)
    yield made
    yield json.dumps(made.serialize())
    yield from _run(made)


def _trigger_is_killed(task: Task) -> Iterator[Any]:
    made = _trigger(task)
    asyncio.run(made.on_kill())
    yield made


def _notifier(task: Task) -> Iterator[Any]:
    made = EarthEngineCancelOperationsNotifier(operations=task.names)
    made(cast(Context, {**task.context, "exception": ValueError("why")}))
    yield made


def _awaited_notifier(task: Task) -> Iterator[Any]:
    made = EarthEngineCancelOperationsNotifier(operations=task.names)
    made.context = task.context

    async def wait() -> None:
        await made

    asyncio.run(wait())
    yield made


def _tracking(task: Task) -> Iterator[Any]:
    with set_current_context(task.context), track_operations() as tracker:
        tracker.add(task.names)
        yield tracker
        raise RuntimeError("the task fails")


PATHS: Mapping[str, Path_] = {
    "hook: get": _of_hook(lambda hook, task: hook.get_operation(task.names[0])),
    "hook: list": _of_hook(lambda hook, _: list(hook.list_operations())),
    "hook: cancel": _of_hook(lambda hook, task: hook.cancel_operation(task.names[0])),
    "hook: cancel many": _of_hook(lambda hook, task: hook.cancel_operations(task.names)),
    "hook: delete": _of_hook(lambda hook, task: hook.delete_operation(task.names[0])),
    "hook: wait": _of_hook(_wait),
    "hook: select": _of_hook(lambda hook, _: hook.select_operations({"description": "*-export"})),
    "hook: connection test": lambda _: iter([EarthEngineOperationsHook().test_connection()]),
    "operator: cancel": _operator_path(),
    "operator: wait": _operator_path(wait_for_completion=True),
    "operator: defer": _operator_path(deferrable=True),
    "operator: validate only": _operator_path(validate_only=True),
    "operator: select": _operator_path(selector={"description": "*-export"}),
    "operator: killed": _killed,
    "sensor: poke": _sensor_path(),
    "sensor: reschedule": _sensor_path(mode="reschedule"),
    "sensor: defer": _sensor_path(deferrable=True, timeout=60),
    "trigger: run": _trigger_runs,
    "trigger: killed": _trigger_is_killed,
    "notifier: in a worker": _notifier,
    "notifier: in a triggerer": _awaited_notifier,
    "tracking": _tracking,
}
"""Paths, by name."""
