"""Deferred task instances in Airflow's database, with their triggers, and when their events came.

Runs in a process of its own with the environment of that Airflow: ``python -m tests.benchmarks.deferred COMMAND``,
what to do as JSON on the standard input. COMMAND is ``add``, ``state`` or ``clear``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from airflow._shared.timezones import timezone
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import delete, func, select

from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.benchmarks.peer_trigger import OneGetEachTrigger
from tests.support.deferral import add_deferred, start_run

__all__ = ["main"]

DAG_ID = "benchmark"


def _trigger(kind: str, name: str, conn_id: str, interval: float) -> Any:
    if kind == "ours":
        return EarthEngineOperationsTrigger(operations=[name], earthengine_conn_id=conn_id, poll_interval=interval)
    return OneGetEachTrigger(operation=name, earthengine_conn_id=conn_id, poll_interval=interval)


def _add(given: Mapping[str, Any]) -> int:
    """Put one deferred instance and its trigger there for each operation, in their order."""
    run_id = f"{given['kind']}-{timezone.utcnow().isoformat()}"
    start_run(DAG_ID, run_id)
    triggers = (_trigger(given["kind"], name, given["conn_id"], given["interval"]) for name in given["names"])
    return add_deferred(DAG_ID, run_id, enumerate(triggers))


def _state(_: Mapping[str, Any]) -> dict[str, Any]:
    """How many triggers a triggerer has taken, and when the event of each instance came that has one."""
    with create_session() as session:
        taken = session.scalar(select(func.count(Trigger.id)).where(Trigger.triggerer_id.is_not(None)))
        rows = session.execute(
            select(TaskInstance.map_index, TaskInstance.scheduled_dttm, TaskInstance.next_kwargs).where(
                TaskInstance.dag_id == DAG_ID, TaskInstance.state == TaskInstanceState.SCHEDULED
            )
        ).all()
    events = {number: scheduled.timestamp() for number, scheduled, _ in rows}
    failed = [number for number, _, kwargs in rows if "event" not in json.dumps(kwargs)]
    return {"taken": taken, "events": events, "failed": failed}


def _clear(_: Mapping[str, Any]) -> int:
    with create_session() as session:
        session.execute(delete(TaskInstance).where(TaskInstance.dag_id == DAG_ID))
        session.execute(delete(DagRun).where(DagRun.dag_id == DAG_ID))
        session.execute(delete(Trigger))
    return 0


_COMMANDS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {"add": _add, "state": _state, "clear": _clear}


def main() -> int:
    """Do it, and print the answer as JSON on the last line."""
    print(json.dumps(_COMMANDS[sys.argv[1]](json.load(sys.stdin))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
