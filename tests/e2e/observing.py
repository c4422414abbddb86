"""What is so: the emulator's operations and request log, and for when to go on, the rows of Airflow's database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from tests.support.airflow_database import AirflowDatabase, RunSeen, TaskSeen
from tests.support.emulator_client import EmulatorClient

__all__ = ["NotYetError", "Observer"]

_PAUSE = 0.3


class NotYetError(Exception):
    """What a row waited for did not come in time."""


class Observer:
    """One thread looks for all rows, as each looking for itself would slow down what is looked at.

    :param emulator: where the truth is.
    :param database: when to go on.
    """

    def __init__(self, emulator: EmulatorClient, database: AirflowDatabase) -> None:
        self._emulator = emulator
        self._database = database
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._next_request = 0
        self._requests: dict[tuple[str, str], list[float]] = {}
        self._operations: list[dict[str, Any]] = []
        self._tasks: dict[tuple[str, str], list[TaskSeen]] = {}
        self._runs: dict[tuple[str, str], RunSeen] = {}
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._look_until_over, name="observer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def wait(self, what: str, is_so: Callable[[], bool], *, seconds: float) -> None:
        """Return once it is so.

        :raises NotYetError: naming what was waited for.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._error or is_so(), timeout=seconds):
                raise NotYetError(f"{what}: not within {seconds:.0f} s")
            if self._error is not None:
                raise self._error

    def operations(self, prefix: str) -> list[dict[str, Any]]:
        """Operations whose description begins so."""
        with self._changed:
            return [op for op in self._operations if op["description"].startswith(prefix)]

    def names(self, prefix: str) -> list[str]:
        """Their names."""
        return [op["name"] for op in self.operations(prefix)]

    def asked(self, method: str, name: str) -> list[float]:
        """When a request of this method came for an operation, by the emulator's clock."""
        with self._changed:
            return list(self._requests.get((method, name), ()))

    def states(self, names: Sequence[str]) -> set[str]:
        """States that these operations are in."""
        with self._changed:
            return {op["state"] for op in self._operations if op["name"] in names}

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskSeen | None:
        """A task instance."""
        with self._changed:
            for seen in self._tasks.get((dag_id, run_id), ()):
                if (seen.task_id, seen.map_index) == (task_id, map_index):
                    return seen
        return None

    def run(self, dag_id: str, run_id: str) -> RunSeen | None:
        """A DAG run."""
        with self._changed:
            return self._runs.get((dag_id, run_id))

    def look(self) -> None:
        """Look now, once."""
        requests = self._emulator.requests_since(self._next_request)
        operations = self._emulator.operations()
        tasks, runs = self._database.tasks(), self._database.runs()
        with self._changed:
            for record in requests:
                self._next_request = record["number"] + 1
                if record["name"] is not None:
                    self._requests.setdefault((record["method"], record["name"]), []).append(record["time"])
            self._operations, self._tasks, self._runs = operations, tasks, runs
            self._changed.notify_all()

    def _look_until_over(self) -> None:
        try:
            while not self._over.is_set():
                self.look()
                time.sleep(_PAUSE)
        except Exception as error:  # noqa: BLE001 - every row is to fail with it, not to wait
            with self._changed:
                self._error = error
                self._changed.notify_all()
