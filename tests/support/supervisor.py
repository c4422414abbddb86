"""The supervisor of a callback: it answers what the DAG processor and the triggerer both answer, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetConnection,
    GetTaskStates,
    GetXCom,
    MaskSecret,
    TaskStatesResult,
    XComResult,
)

__all__ = ["FakeSupervisor"]


class FakeSupervisor:
    """One run of one DAG. Set it as ``SUPERVISOR_COMMS``.

    :param xcoms: values by task id, map index and key.
    :param states: states by task id and map index.
    """

    def __init__(
        self,
        xcoms: dict[tuple[str, int, str], Any] | None = None,
        states: dict[tuple[str, int], str | None] | None = None,
    ) -> None:
        self.xcoms = {} if xcoms is None else xcoms
        self.states = {} if states is None else states
        self.asked: list[Any] = []
        self.before: Callable[[Any], None] = lambda _message: None

    def add(self, task_id: str, state: str | None, value: Any = None, *, map_index: int = -1) -> None:
        """Add a task instance, and what it recorded."""
        self.states[task_id, map_index] = state
        if value is not None:
            self.xcoms[task_id, map_index, "earthengine_operations"] = value

    def send(self, msg: Any) -> Any:
        self.before(msg)
        self.asked.append(msg)
        match msg:
            case GetXCom():
                value = self.xcoms.get((msg.task_id, -1 if msg.map_index is None else msg.map_index, msg.key))
                return XComResult(key=msg.key, value=value)
            case GetTaskStates():
                assert (msg.dag_id, msg.run_ids) == ("dag", ["run"])
                # As Airflow: of two instances with the same key, one is in the answer.
                answer = {
                    task_id if map_index < 0 else f"{task_id}_{map_index}": state
                    for (task_id, map_index), state in self.states.items()
                    if not msg.task_ids or task_id in msg.task_ids
                }
                return TaskStatesResult(task_states={"run": answer} if answer else {})
            case GetConnection():
                return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": msg.conn_id})
            case MaskSecret():
                return None
        raise AssertionError(f"{type(msg).__name__} hangs the DAG processor, or the triggerer")

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)
