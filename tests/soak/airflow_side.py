"""What is done within Airflow: waits are put into its database and their events taken out; operations are cancelled.

A process of its own with the environment of that Airflow, see :mod:`tests.support.companion`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import _decode_next_kwargs
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import delete, select

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from tests.support.companion import serve
from tests.support.deferral import add_deferred, start_run

__all__ = ["DAG_ID", "RUN_ID"]

DAG_ID = "soak"
RUN_ID = "soak"

_hooks: dict[str, EarthEngineOperationsHook] = {}


def _begin() -> None:
    start_run(DAG_ID, RUN_ID)


def _add(waits: Sequence[Mapping[str, Any]]) -> int:
    """Add deferred instances, each with its trigger."""
    triggers = (
        (
            each["index"],
            EarthEngineOperationsTrigger(
                operations=each["names"], earthengine_conn_id=each["conn_id"], poll_interval=each["interval"]
            ),
        )
        for each in waits
    )
    return add_deferred(DAG_ID, RUN_ID, triggers)


def _take() -> list[tuple[int, Any]]:
    """Take the instances whose event came out of the database; return what it has of each."""
    with create_session() as session:
        rows = session.execute(
            select(TaskInstance.id, TaskInstance.map_index, TaskInstance.next_kwargs).where(
                TaskInstance.dag_id == DAG_ID, TaskInstance.state == TaskInstanceState.SCHEDULED
            )
        ).all()
        for start in range(0, len(rows), 500):
            session.execute(
                delete(TaskInstance).where(TaskInstance.id.in_([row.id for row in rows[start : start + 500]]))
            )
    return [(map_index, _decode_next_kwargs(kwargs or {}).get("event")) for _, map_index, kwargs in rows]


def _cancel(conn_id: str, names: Sequence[str]) -> dict[str, Any]:
    """Cancel operations as any task would: one hook, one report."""
    hook = _hooks.setdefault(conn_id, EarthEngineOperationsHook(conn_id))
    return hook.cancel_operations(list(names)).to_dict()


if __name__ == "__main__":
    serve({"begin": _begin, "add": _add, "take": _take, "cancel": _cancel})
    sys.exit(0)
