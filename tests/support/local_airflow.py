"""A real Airflow on this machine: scheduler, triggerer, DAG processor and API server on SQLite."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests.support.processes import ProcessGroup, free_port, wait_until

__all__ = ["LocalAirflow"]

FINISHED = {"success", "failed"}


class LocalAirflow:
    """``airflow standalone`` in a directory of its own; leaving the block stops every process of it.

    :param home: AIRFLOW_HOME.
    :param dags: folder of the DAG files.
    :param connections: extras of the connections of type ``earthengine``, by connection id.
    :param settings: more Airflow settings, ``AIRFLOW__SECTION__KEY``.
    :param port: port of the API server; a free one if None.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        connections: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        password: str = "admin",
    ) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self.password = password
        self.env = _environment(home, dags, self.url, connections) | dict(settings or {})
        self._process = ProcessGroup([_airflow(), "standalone"], output=home / "standalone.log", env=self.env)
        self._session = requests.Session()

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({"admin": self.password}))
        passwords.chmod(0o600)
        self._process.__enter__()
        try:
            wait_until("Airflow to be healthy", self._healthy, seconds=180)
        except BaseException as error:
            error.add_note(self._process.tail())
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.stop()
        self._session.close()

    @property
    def pid(self) -> int:
        """Process id of ``airflow standalone``; its group holds all processes."""
        return self._process.pid

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG, once it is parsed; return its run id."""
        wait_until(f"DAG {dag_id}", lambda: self._ask("GET", f"dags/{dag_id}").ok, seconds=120)
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self._json("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run."""
        return str(self._json("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float = 180) -> str:
        """Return the state in which a run ended."""
        wait_until(f"run of {dag_id}", lambda: self.run_state(dag_id, run_id) in FINISHED, seconds=seconds, every=0.5)
        return self.run_state(dag_id, run_id)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State of each task of a run; mapped ones as ``task[0]``."""
        found = self._json("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100")["task_instances"]
        return {ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""): ti["state"] for ti in found}

    def task_pid(self, dag_id: str, run_id: str, task_id: str) -> int | None:
        """Process id of a running task."""
        pid = self._json("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["pid"]
        return None if pid is None else int(pid)

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task failed, as a person does in the UI."""
        self._json("PATCH", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": "failed"})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task, as a person does in the UI."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self._json("POST", f"dags/{dag_id}/clearTaskInstances", body)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task pushed, or None."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self._ask("GET", f"{path}?map_index={map_index}&deserialize=true")
        return answer.json()["value"] if answer.ok else None

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The text of all logs of a task in a run, its triggers' too."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.log*")))

    def _healthy(self) -> bool:
        self._process.check_running()
        try:
            answer = requests.get(f"{self.url}/api/v2/monitor/health", timeout=5)
        except requests.RequestException:
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return answer.ok and all((answer.json().get(part) or {}).get("status") == "healthy" for part in parts)

    def _ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        if "Authorization" not in self._session.headers:
            credentials = {"username": "admin", "password": self.password}
            answer = self._session.post(f"{self.url}/auth/token", json=credentials, timeout=30)
            answer.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=30)

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        for attempt in range(5):
            answer = self._ask(method, path, body)
            if answer.status_code < 500:  # SQLite under load answers 500 "database is locked" now and then
                break
            time.sleep(attempt)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:500]}")
        return answer.json()


def _airflow() -> str:
    return str(Path(sys.executable).with_name("airflow"))


def _environment(home: Path, dags: Path, url: str, connections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Settings of a small Airflow that notices things soon; nothing of this process's own Airflow leaks in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    port = url.rsplit(":", 1)[1]
    ours = {
        "AIRFLOW_HOME": home,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": 1,
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "AIRFLOW__CORE__DAGS_FOLDER": dags,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": False,
        "AIRFLOW__CORE__PARALLELISM": 6,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 30,
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": 30,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": free_port(),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": free_port(),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": free_port(),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": False,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # standalone starts "airflow"
        "PYTHONUNBUFFERED": 1,
    }
    extras = {
        f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps({"conn_type": "earthengine", "extra": dict(extra)})
        for conn_id, extra in connections.items()
    }
    return inherited | {name: str(value) for name, value in ours.items()} | extras
