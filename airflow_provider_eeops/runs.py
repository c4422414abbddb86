"""Asks Airflow about the tasks of a run, from where there is no task of ours running: the triggerer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_eeops.xcom import OPERATIONS_KEY

__all__ = ["recorded_by", "task_states"]


async def task_states(ti: Any, task_ids: Sequence[str]) -> dict[str, str | None]:
    """States of task instances of the same run, as Airflow keys them: ``task`` or ``task_0``.

    :param ti: identifies the run.
    :param task_ids: the tasks.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from asgiref.sync import sync_to_async

    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
        dag_id=ti.dag_id, task_ids=list(task_ids), run_ids=[ti.run_id]
    )
    found: dict[str, str | None] = states.get(ti.run_id, {})
    return found


async def recorded_by(ti: Any) -> list[str] | None:
    """Operations that a task instance recorded in its own XCom; None if it has no such XCom.

    :param ti: the task instance.
    """
    from airflow.sdk.execution_time.xcom import XCom
    from asgiref.sync import sync_to_async

    found = await sync_to_async(XCom.get_one)(
        key=OPERATIONS_KEY, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
    )
    return found if isinstance(found, list) else None
