"""What differs in Airflow 2: the REST API's first version, a webserver, and a database that is no SQLite.

SQLite allows but one task at a time there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests.support.airflow_database import AirflowDatabase
from tests.support.airflow_parts import DAG_PROCESSOR, PUBLIC_API, SCHEDULER, TRIGGERER, AirflowParts
from tests.support.postgres import postgres
from tests.support.postgres_database import PostgresDatabase
from tests.support.processes import wait_until

__all__ = ["Airflow2Database", "Airflow2Parts"]

_RENAMED = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": (
        "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL"
    ),
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC",
}
"""Settings by the names that they have in Airflow 3."""


class Airflow2Database(PostgresDatabase):
    """The PostgreSQL database of an Airflow 2."""

    def parsed(self) -> dict[str, float]:
        """When each DAG that is active was parsed last."""
        rows = self._select("SELECT dag_id, extract(epoch FROM last_parsed_time) FROM dag WHERE is_active")
        return {dag_id: float(parsed or 0.0) for dag_id, parsed in rows}


class Airflow2Parts(AirflowParts):
    """Scheduler with LocalExecutor, triggerer, DAG processor and webserver of an Airflow 2, and their database."""

    api = "api/v1"
    health_path = "health"
    xcom_options = "stringify=false"
    run_seconds = 400.0
    parts = (PUBLIC_API, SCHEDULER, DAG_PROCESSOR, TRIGGERER)

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        connections: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
        password: str = "admin",
    ) -> None:
        super().__init__(home, dags, connections=connections, settings=settings, password=password)
        self.env |= {_RENAMED[name]: value for name, value in self.env.items() if name in _RENAMED}
        port = self.url.rsplit(":", 1)[1]
        self.env |= {
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            "AIRFLOW__WEBSERVER__BASE_URL": self.url,
            "AIRFLOW__WEBSERVER__SECRET_KEY": "of this test",
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": port,
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            "PYTHONWARNINGS": self.env.get("PYTHONWARNINGS", "ignore"),
        }
        self._postgres = postgres()

    def __enter__(self) -> Self:
        url = self._postgres.__enter__()
        self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = url
        try:
            return super().__enter__()
        except BaseException:
            self._postgres.__exit__(None, None, None)
            raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(exc_type, exc, traceback)
        self._postgres.__exit__(exc_type, exc, traceback)

    def prepare(self) -> None:
        """Make the database and the user ``admin``."""
        super().prepare()
        person = ("--firstname", "a", "--lastname", "b", "--email", "admin@example.com")
        login = ("--username", "admin", "--password", self.password)
        self.run("users", "create", "--role", "Admin", *login, *person)

    def database(self) -> AirflowDatabase:
        """Return the database."""
        return Airflow2Database(self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG, once it is parsed; return its run id."""
        wait_until(f"DAG {dag_id}", lambda: self._has_dag(dag_id), seconds=120)
        return str(self._json("POST", f"dags/{dag_id}/dagRuns", {"conf": dict(conf or {})})["dag_run_id"])

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1) -> None:
        """Mark a task ``failed`` or ``success``, as a person does in the UI."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}" + (f"/{map_index}" if map_index >= 0 else "")
        self._json("PATCH", path, {"dry_run": False, "new_state": state})

    def _arguments(self, part: str) -> tuple[str, ...]:
        return ("webserver",) if part == PUBLIC_API else super()._arguments(part)

    def _log_in(self) -> None:
        self._session.auth = requests.auth.HTTPBasicAuth("admin", self.password)

    def _serves_tasks(self) -> bool:
        """Tasks of Airflow 2 ask the database."""
        return True
