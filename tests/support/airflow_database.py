"""Airflow's database, read to know when to go on, as asking the API server would keep it from its work."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

__all__ = ["AirflowDatabase", "RunSeen", "TaskSeen"]


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One task instance.

    :param started: seconds since the epoch.
    :param trigger: id of the trigger it waits for.
    """

    started: float | None
    task_id: str
    map_index: int
    try_number: int
    state: str | None
    pid: int | None
    trigger: int | None


@dataclass(frozen=True, slots=True)
class RunSeen:
    """One DAG run; times are seconds since the epoch."""

    state: str
    queued: float | None
    started: float | None


class AirflowDatabase:
    """The SQLite database of an Airflow.

    :param path: its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def tasks(self) -> dict[tuple[str, str], list[TaskSeen]]:
        """Task instances by DAG and run."""
        found: dict[tuple[str, str], list[TaskSeen]] = {}
        for dag_id, run_id, started, *fields in self._select(
            "SELECT dag_id, run_id, start_date, task_id, map_index, try_number, state, pid, trigger_id"
            " FROM task_instance"
        ):
            found.setdefault((dag_id, run_id), []).append(TaskSeen(_moment(started), *fields))
        return found

    def runs(self) -> dict[tuple[str, str], RunSeen]:
        """DAG runs by DAG and run."""
        rows = self._select("SELECT dag_id, run_id, state, queued_at, start_date FROM dag_run")
        return {
            (dag_id, run_id): RunSeen(state, _moment(queued), _moment(started))
            for dag_id, run_id, state, queued, started in rows
        }

    def parsed(self) -> dict[str, float]:
        """When each DAG that is not stale was parsed last."""
        rows = self._select("SELECT dag_id, last_parsed_time FROM dag WHERE NOT is_stale")
        return {dag_id: _moment(parsed) or 0.0 for dag_id, parsed in rows}

    def import_errors(self) -> dict[str, str]:
        """Why a DAG file could not be parsed, by its name."""
        return dict(self._select("SELECT filename, stacktrace FROM import_error"))

    def triggerers(self) -> list[int]:
        """Ids of the triggerers' jobs that run, newest last."""
        rows = self._select("SELECT id FROM job WHERE job_type = 'TriggererJob' AND state = 'running' ORDER BY id")
        return [job for (job,) in rows]

    def move(self, trigger: int, job: int) -> None:
        """Assign a trigger to another triggerer, as Airflow does when one was silent for too long."""
        self._update("UPDATE trigger SET triggerer_id = ? WHERE id = ?", job, trigger)

    def expire_deferral(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Let Airflow's own timeout of a deferral be over."""
        over = (datetime.now(UTC) - timedelta(seconds=1)).replace(tzinfo=None)
        self._update(
            "UPDATE task_instance SET trigger_timeout = ? WHERE dag_id = ? AND run_id = ? AND task_id = ?",
            *(over.isoformat(sep=" "), dag_id, run_id, task_id),
        )

    def _select(self, sql: str, *values: Any) -> list[Any]:
        return _patiently(lambda: self._once(sql, values))

    def _once(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with self._connected() as connection:
            return list(connection.execute(sql, values))

    def _update(self, sql: str, *values: Any) -> None:
        changed = self._changed(sql, values)
        if changed != 1:
            raise RuntimeError(f"{sql} {values}: {changed} rows")

    def _changed(self, sql: str, values: tuple[Any, ...]) -> int:
        with self._connected() as connection:
            changed = connection.execute(sql, values).rowcount
            connection.commit()
        return changed

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection:
            yield connection


def _patiently(ask: Callable[[], list[Any]], *, times: int = 5) -> list[Any]:
    """SQLite may be locked for longer than a reader waits."""
    for _ in range(times - 1):
        try:
            return ask()
        except sqlite3.OperationalError:
            time.sleep(0.5)
    return ask()


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
