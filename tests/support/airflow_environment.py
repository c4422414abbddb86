"""The environment of an Airflow on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import free_port

__all__ = ["airflow_command", "airflow_environment", "prepare_home"]


def airflow_command() -> str:
    """The command of the Airflow that is installed beside this Python."""
    return str(Path(sys.executable).with_name("airflow"))


def airflow_environment(
    home: Path, dags: Path, url: str, connections: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Settings of a small Airflow that notices things soon; nothing of this process's own Airflow leaks in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    port = url.rsplit(":", 1)[1]
    ours = {
        "AIRFLOW_HOME": home,
        "AIRFLOW__API__ENABLE_XCOM_DESERIALIZE_SUPPORT": True,  # Airflow 3.0 asks for it
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


def prepare_home(home: Path, *, password: str) -> None:
    """Make AIRFLOW_HOME with the password of the user ``admin``."""
    home.mkdir(parents=True, exist_ok=True)
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({"admin": password}))
    passwords.chmod(0o600)
