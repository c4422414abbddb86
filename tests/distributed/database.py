"""What Airflow's database says of task instances, with the hosts that they ran on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.postgres_database import PostgresDatabase

__all__ = ["Database", "Instance"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One task instance; times are seconds since the epoch.

    :param host: the worker that ran it last.
    :param triggerer: the triggerer that its trigger is assigned to.
    """

    run_id: str
    task_id: str
    map_index: int
    try_number: int
    state: str | None
    host: str
    started: float | None
    ended: float | None
    triggerer: str | None


class Database(PostgresDatabase):
    """The database of an Airflow whose parts have names of their own."""

    def instances(self, dag_id: str) -> list[Instance]:
        """Task instances of a DAG."""
        rows = self._select(
            "SELECT ti.run_id, ti.task_id, ti.map_index, ti.try_number, ti.state, ti.hostname,"
            " extract(epoch FROM ti.start_date), extract(epoch FROM ti.end_date), job.hostname"
            " FROM task_instance ti LEFT JOIN trigger ON trigger.id = ti.trigger_id"
            " LEFT JOIN job ON job.id = trigger.triggerer_id WHERE ti.dag_id = ? ORDER BY ti.map_index",
            dag_id,
        )
        return [
            Instance(run_id, task_id, index, tries, state, host, _number(began), _number(ended), triggerer)
            for run_id, task_id, index, tries, state, host, began, ended, triggerer in rows
        ]

    def reports(self, dag_id: str, task_id: str) -> dict[int, Any]:
        """What the instances of a mapped task returned, by map index."""
        rows = self._select(
            "SELECT map_index, value FROM xcom WHERE dag_id = ? AND task_id = ? AND key = 'return_value'",
            *(dag_id, task_id),
        )
        return {index: json.loads(value) if isinstance(value, str) else value for index, value in rows}

    def sizes(self) -> dict[str, int]:
        """Open connections, rows of triggers, the longest trigger's arguments and the longest list of operations."""
        (row,) = self._select(
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),"
            " (SELECT count(*) FROM trigger),"
            " (SELECT max(length(kwargs::text)) FROM trigger),"
            " (SELECT max(length(value::text)) FROM xcom WHERE task_id = 'export')"
        )
        return dict(zip(("connections", "triggers", "trigger_bytes", "xcom_bytes"), map(int, row), strict=True))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
