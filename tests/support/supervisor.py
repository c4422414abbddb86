"""What answers a callback: Airflow 3's supervisor, or what Airflow 2 reads from its database.

It answers what the DAG processor and the triggerer both answer, and nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_eeops import _compat
from tests.support.versions import IS_AIRFLOW_2

if IS_AIRFLOW_2:

    @dataclass
    class GetXCom:
        """A value that is asked for."""

        key: str
        dag_id: str
        run_id: str
        task_id: str
        map_index: int | None = None

    @dataclass
    class GetTaskStates:
        """States that are asked for."""

        dag_id: str
        task_ids: Sequence[str] | None
        run_ids: Sequence[str]

else:
    from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom  # type: ignore[assignment]

__all__ = ["FakeSupervisor", "GetTaskStates", "GetXCom"]


class FakeSupervisor:
    """One run of one DAG.

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

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be what this process asks.

        :param monkeypatch: undoes it.
        """
        if IS_AIRFLOW_2:
            from airflow.providers.common.compat.sdk import XCom

            monkeypatch.setattr(XCom, "get_one", self._get_one)
            monkeypatch.setattr(_compat, "_task_states_of_airflow_2", self._get_task_states)
        else:
            from airflow.sdk.execution_time import task_runner

            monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", self, raising=False)

    def add(self, task_id: str, state: str | None, value: Any = None, *, map_index: int = -1) -> None:
        """Add a task instance, and what it recorded."""
        self.states[task_id, map_index] = state
        if value is not None:
            self.xcoms[task_id, map_index, "earthengine_operations"] = value

    def send(self, msg: Any) -> Any:
        """Answer a message of Airflow 3."""
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time.comms import (
            ConnectionResult,
            ErrorResponse,
            GetConnection,
            MaskSecret,
            TaskStatesResult,
            XComResult,
        )

        match msg:
            case GetXCom():
                return XComResult(key=msg.key, value=self._answer(msg))
            case GetTaskStates():
                answer = self._answer(msg)
                return TaskStatesResult(task_states={"run": answer} if answer else {})
            case GetConnection():
                self._note(msg)
                # Airflow 3.1 asks for those of the environment too.
                if (stored := os.environ.get(f"AIRFLOW_CONN_{msg.conn_id.upper()}")) is not None:
                    connection = json.loads(stored)
                    extra = json.dumps(connection["extra"])
                    return ConnectionResult.model_validate(
                        {"conn_id": msg.conn_id, "conn_type": connection["conn_type"], "extra": extra}
                    )
                return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": msg.conn_id})
            case MaskSecret():
                self._note(msg)
                return None
        raise AssertionError(f"{type(msg).__name__} hangs the DAG processor, or the triggerer")

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)

    def _note(self, msg: Any) -> None:
        self.before(msg)
        self.asked.append(msg)

    def _answer(self, msg: Any) -> Any:
        self._note(msg)
        if isinstance(msg, GetXCom):
            return self.xcoms.get((msg.task_id, -1 if msg.map_index is None else msg.map_index, msg.key))
        assert (msg.dag_id, msg.run_ids) == ("dag", ["run"])
        # As Airflow: of two instances with the same key, one is in the answer.
        return {
            task_id if map_index < 0 else f"{task_id}_{map_index}": state
            for (task_id, map_index), state in self.states.items()
            if not msg.task_ids or task_id in msg.task_ids
        }

    def _get_one(self, **which: Any) -> Any:
        stored = self._answer(GetXCom(**which))
        return importlib.import_module("airflow.serialization.serde").deserialize(stored)

    def _get_task_states(self, dag_id: str, run_id: str, task_ids: Sequence[str] | None) -> Any:
        return self._answer(GetTaskStates(dag_id=dag_id, task_ids=task_ids, run_ids=[run_id]))
