"""An Airflow as a person sees it: what they do in the UI through its REST API, and the logs of tasks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.support.processes import wait_until

__all__ = ["AirflowApi"]

FINISHED = {"success", "failed"}


class AirflowApi:
    """The API server of a running Airflow.

    :param url: its address.
    :param home: AIRFLOW_HOME.
    :param password: of its user ``admin``.
    """

    api = "api/v2"
    health_path = "api/v2/monitor/health"
    env: dict[str, str]
    xcom_options = "deserialize=true"
    run_seconds = 180.0

    def __init__(self, url: str, *, home: Path, password: str) -> None:
        self.url = url
        self.home = home
        self.password = password
        self._session = requests.Session()
        self._one_at_a_time = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def health(self) -> dict[str, str]:
        """Status of each part; none if the API server does not answer."""
        try:
            answer = requests.get(f"{self.url}/{self.health_path}", timeout=5)
        except requests.RequestException:
            return {}
        return {part: str((about or {}).get("status")) for part, about in answer.json().items()} if answer.ok else {}

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG, once it is parsed; return its run id."""
        wait_until(f"DAG {dag_id}", lambda: self._has_dag(dag_id), seconds=120)
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self._json("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def add_pool(self, name: str, *, slots: int, include_deferred: bool) -> None:
        """Make a pool, if there is none of this name."""
        if not self._ask("GET", f"pools/{name}").ok:
            self._json("POST", "pools", {"name": name, "slots": slots, "include_deferred": include_deferred})

    def _has_dag(self, dag_id: str) -> bool:
        with self._one_at_a_time:
            return self._ask("GET", f"dags/{dag_id}").ok

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run."""
        return str(self._json("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float | None = None) -> str:
        """Return the state in which a run ended."""
        limit = self.run_seconds if seconds is None else seconds
        wait_until(f"run of {dag_id}", lambda: self.run_state(dag_id, run_id) in FINISHED, seconds=limit, every=0.5)
        return self.run_state(dag_id, run_id)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State of each task of a run; mapped ones as ``task[0]``."""
        found = self._json("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100")["task_instances"]
        return {ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""): ti["state"] for ti in found}

    def task_pid(self, dag_id: str, run_id: str, task_id: str) -> int | None:
        """Process id of a running task."""
        pid = self._json("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["pid"]
        return None if pid is None else int(pid)

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1) -> None:
        """Mark a task ``failed`` or ``success``, as a person does in the UI."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}" + (f"/{map_index}" if map_index >= 0 else "")
        self._json("PATCH", path, {"new_state": state})

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task failed, as a person does in the UI."""
        self.mark(dag_id, run_id, task_id, "failed")

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run ``failed`` or ``success``, as a person does in the UI."""
        self._json("PATCH", f"dags/{dag_id}/dagRuns/{run_id}", {"state": state})

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Clear tasks, as a person does in the UI."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": list(task_ids), "only_failed": False}
        self._json("POST", f"dags/{dag_id}/clearTaskInstances", body)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task pushed, or None."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self._ask("GET", f"{path}?map_index={map_index}&{self.xcom_options}")
        return answer.json()["value"] if answer.ok else None

    def add_connection(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Store a connection; return what is shown of it."""
        return dict(self._json("POST", "connections", dict(body)))

    def connections(self) -> dict[str, Any]:
        """What is shown of the stored connections."""
        return dict(self._json("GET", "connections"))

    def test_connection(self, extras: Mapping[str, Any], conn_id: str = "tried") -> dict[str, Any]:
        """Press Test in the form of a connection of type ``earthengine``; return all that the page is sent.

        :raises RuntimeError: no test was made.
        """
        body = {"connection_id": conn_id, "conn_type": "earthengine", "extra": json.dumps(dict(extras))}
        return dict(self._json("POST", "connections/test", body))

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The text of all logs of a task in a run, its triggers' too."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.log*")))

    def _ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        if "Authorization" not in self._session.headers and self._session.auth is None:
            self._log_in()
        return self._session.request(method, f"{self.url}/{self.api}/{path}", json=body, timeout=30)

    def _log_in(self) -> None:
        credentials = {"username": "admin", "password": self.password}
        answer = self._session.post(f"{self.url}/auth/token", json=credentials, timeout=30)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        for attempt in range(5):
            with self._one_at_a_time:
                answer = self._ask(method, path, body)
            if answer.status_code < 500:  # SQLite under load answers 500 "database is locked" now and then
                break
            time.sleep(attempt)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:500]}")
        return answer.json()
