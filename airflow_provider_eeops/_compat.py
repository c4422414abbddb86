"""The only file that asks which Airflow this is: names that common-compat does not have."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2.11, and 3.0 to 3.1, where it is not in the SDK
    from airflow.exceptions import AirflowRescheduleException

try:
    from airflow.sdk.exceptions import TaskAwaitingInput
except ImportError:  # before Airflow 3.3
    _LATER: tuple[type[BaseException], ...] = ()
else:
    _LATER = (TaskAwaitingInput,)

__all__ = [
    "PAUSES",
    "STATE_FOLLOWS_CALLBACK",
    "TRIGGERS_HAVE_ON_KILL",
    "AirflowRescheduleException",
    "airflow_stats",
    "get_task_states",
    "is_ended_before_it_resumes",
    "stored_xcom",
]

TRIGGERS_HAVE_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3; before, a trigger that is told to go is only cancelled, whoever told it so."""

STATE_FOLLOWS_CALLBACK = find_spec("airflow.sdk") is None
"""Airflow 2: a task's callback is called before its end is stored, so that no next try can have begun."""

PAUSES: tuple[type[BaseException], ...] = (TaskDeferred, AirflowRescheduleException, *_LATER)
"""What leaves a task that goes on later, in another process."""


def is_ended_before_it_resumes() -> bool:
    """Whether the running task was deferred, and Airflow calls no method of it but ``on_kill``.

    Airflow 2 does so when ``execution_timeout`` has passed by the time the task resumes.
    """
    if not STATE_FOLLOWS_CALLBACK:
        return False
    from airflow.providers.common.compat.sdk import AirflowException, get_current_context

    try:
        ti: Any = get_current_context()["ti"]
    except (RuntimeError, AirflowException):  # nothing is executed yet
        return False
    return ti.next_method is not None


def airflow_stats() -> Any:
    """Airflow's Stats, made ready: it looks up its host, but sends nothing."""
    from airflow.providers.common.compat.sdk import Stats

    with suppress(ImportError):  # before Airflow 3.2
        import_module("airflow.sdk.serde")  # sets Stats up, where the process has not done so
    Stats.timer()
    return Stats


def get_task_states(dag_id: str, run_id: str, task_ids: Sequence[str] | None) -> dict[str, str | None]:
    """Ask Airflow for the states of the task instances of a run, by key: ``task``, or ``task_0`` of a mapped one.

    :param dag_id: the DAG.
    :param run_id: the run.
    :param task_ids: of these tasks alone; of all if None.
    """
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:  # Airflow 2, where callbacks and triggers have the database
        return _task_states_of_airflow_2(dag_id, run_id, task_ids)
    answer = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id, task_ids=None if task_ids is None else list(task_ids), run_ids=[run_id]
    )
    return dict(answer.get(run_id, {}))


def _task_states_of_airflow_2(dag_id: str, run_id: str, task_ids: Sequence[str] | None) -> dict[str, str | None]:
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        query = session.query(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state)
        query = query.filter(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        if task_ids is not None:
            query = query.filter(TaskInstance.task_id.in_(task_ids))
        return {
            task_id if map_index < 0 else f"{task_id}_{map_index}": None if state is None else str(state)
            for task_id, map_index, state in query
        }


def stored_xcom(ti_key: Any, key: str) -> Any:
    """Read from Airflow's database what a task instance pushed: in the API server, or Airflow 2's webserver.

    :param ti_key: the key of the task instance.
    :param key: XCom key.
    """
    from airflow.utils.session import create_session

    which = {"run_id": ti_key.run_id, "dag_ids": ti_key.dag_id, "task_ids": ti_key.task_id, "key": key}
    try:
        from airflow.models.xcom import XComModel
    except ImportError:  # Airflow 2
        from airflow.models.xcom import BaseXCom

        with create_session() as session:
            stored = BaseXCom.get_many(**which, map_indexes=ti_key.map_index, session=session).first()
            return None if stored is None else BaseXCom.deserialize_value(stored)
    with create_session() as session:
        stored = session.scalars(XComModel.get_many(**which, map_indexes=ti_key.map_index)).first()
        return None if stored is None else XComModel.deserialize_value(stored)
