"""DAG runs and task instances, as Airflow names them where there is no task of ours running."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Instance", "Run", "States"]

States = Mapping[str, str | None]
"""States by key, as Airflow's supervisor answers: the task id, or ``TASK_INDEX`` for a mapped instance."""


class Run(NamedTuple):
    """A DAG run."""

    dag_id: str
    run_id: str


class Instance(NamedTuple):
    """A task instance of a run."""

    task_id: str
    map_index: int = -1

    @property
    def key(self) -> str:
        """How the supervisor's answers name it."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"

    def __str__(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"
