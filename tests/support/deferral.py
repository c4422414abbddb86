"""Deferred task instances and their triggers, put into Airflow's database in place of as many task starts.

For a process with the environment of that Airflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow._shared.timezones import timezone
from airflow.models.dag_version import DagVersion
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from tests.support.deferred_dag import TASK_ID

__all__ = ["add_deferred", "start_run"]


def start_run(dag_id: str, run_id: str) -> None:
    """Put a run there that no scheduler started.

    :param dag_id: its DAG, which Airflow has parsed.
    :param run_id: its id.
    """
    with create_session() as session:
        version = DagVersion.get_latest_version(dag_id, session=session)
        assert version is not None
        run = DagRun(
            dag_id=dag_id,
            run_id=run_id,
            run_after=timezone.utcnow(),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
        )
        run.created_dag_version_id = version.id
        session.add(run)


def add_deferred(dag_id: str, run_id: str, triggers: Iterable[tuple[int, Any]]) -> int:
    """Put one deferred instance there for each trigger, in their order; return how many.

    :param dag_id: the DAG.
    :param run_id: its run.
    :param triggers: pairs of map index and trigger.
    """
    count, now = 0, timezone.utcnow()
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        version = DagVersion.get_latest_version(dag_id, session=session)
        assert dag is not None
        assert version is not None
        task = dag.get_task(TASK_ID)
        for map_index, trigger in triggers:
            instance = TaskInstance(
                task, version.id, run_id=run_id, state=TaskInstanceState.DEFERRED, map_index=map_index
            )
            instance.try_number = 1
            instance.start_date = now
            instance.next_method = "resume"
            instance.trigger = Trigger.from_object(trigger)
            session.add(instance)
            count += 1
    return count
