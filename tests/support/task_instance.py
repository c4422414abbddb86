"""A task instance with its XComs in memory, pulled as Airflow 3.3 pulls them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator

__all__ = ["FakeTaskInstance"]

_UNSET: Any = object()


class FakeTaskInstance:
    """One task instance of a run; :meth:`sibling` makes the others, on the same XComs."""

    def __init__(
        self, task_id: str = "task", *, map_index: int = -1, xcoms: dict[tuple[str, int, str], Any] | None = None
    ) -> None:
        self.dag_id = "dag"
        self.run_id = "run"
        self.task_id = task_id
        self.map_index = map_index
        self.xcoms = {} if xcoms is None else xcoms
        self.state: str | None = None
        self.start_date = datetime.now(UTC)
        self.try_number = 1
        self.max_tries = 0
        self.task: Any = BaseOperator(task_id=task_id, dag=DAG("dag", schedule=None))

    def sibling(self, task_id: str, *, map_index: int = -1) -> FakeTaskInstance:
        """Make another instance of the same run; its task is added to the DAG."""
        if task_id not in self.task.dag.task_dict:
            BaseOperator(task_id=task_id, dag=self.task.dag)
        return FakeTaskInstance(task_id, map_index=map_index, xcoms=self.xcoms)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[self.task_id, self.map_index, key] = value

    def xcom_pull(self, task_ids: str | None = None, *, key: str = "return_value", map_indexes: Any = _UNSET) -> Any:
        task_id = task_ids or self.task_id
        if map_indexes is not _UNSET:
            assert not isinstance(map_indexes, Iterable)
            return self.xcoms.get((task_id, map_indexes, key))
        found = [self.xcoms[at] for at in sorted(self.xcoms) if at[0] == task_id and at[2] == key]
        return found[0] if len(found) == 1 else (found or None)

    @property
    def returned(self) -> Any:
        """What this instance pushed as its return value."""
        return self.xcoms.get((self.task_id, self.map_index, "return_value"))
