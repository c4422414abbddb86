"""Where rows happen: an Airflow, each part a process of its own, and the emulator."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.logs import Logs
from tests.e2e.logs_2 import Airflow2Logs
from tests.e2e.matrix import HEARTBEAT, HEARTBEAT_TIMEOUT
from tests.e2e.observing import NotYetError, Observer
from tests.e2e.starting import EMULATOR, EXPORT_SECONDS
from tests.support.airflow_2 import Airflow2Parts
from tests.support.airflow_database import AirflowDatabase
from tests.support.airflow_parts import AirflowParts
from tests.support.emulator_client import EmulatorClient
from tests.support.processes import emulator, free_port, wait_until
from tests.support.versions import IS_AIRFLOW_2

__all__ = ["Place", "started"]

HERE = Path(__file__).parent

SETTINGS = {
    "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": 64,
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": 64,
    "AIRFLOW__CORE__PARALLELISM": 40,
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 20,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": HEARTBEAT_TIMEOUT,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": 5,
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": 2,
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 10,
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": HEARTBEAT,
    "PYTHONPATH": HERE.parents[1],  # the DAG files import tests.e2e.starting
}


@dataclass(frozen=True)
class Place:
    """What a row needs of it."""

    airflow: AirflowParts
    database: AirflowDatabase
    emulator: EmulatorClient
    observer: Observer
    logs: Logs

    def require_dag(self, dag_id: str) -> None:
        """Raise if the DAG's file could not be parsed."""
        if dag_id not in self.database.parsed():
            errors = "; ".join(trace.strip().splitlines()[-1] for trace in self.database.import_errors().values())
            raise NotYetError(f"there is no DAG {dag_id}: {errors}")


@contextmanager
def started(home: Path, dags: Collection[str]) -> Iterator[Place]:
    """Start everything; stop it when the block ends.

    :param home: folder for all files.
    :param dags: DAGs to wait for.
    """
    port = free_port()
    lasting = ("--pending-seconds", "0", "--run-seconds", str(EXPORT_SECONDS), "--cancel-seconds", "1")
    options = ("--project", "matrix-project", *lasting)
    with emulator(port, directory=home / "emulator", options=options):
        client = EmulatorClient(
            f"http://127.0.0.1:{port}", project="matrix-project", key_path=home / "emulator" / "key.json"
        )
        wait_until("the emulator", client.answers, seconds=30)
        extras = client.connection_extras
        with (Airflow2Parts if IS_AIRFLOW_2 else AirflowParts)(
            home / "airflow",
            HERE / "dags",
            connections={"earthengine_default": extras, "earthengine_hasty": {**extras, "num_retries": "1"}},
            settings={name: str(value) for name, value in SETTINGS.items()} | {EMULATOR: client.base_url},
        ) as airflow:
            database = airflow.database()
            wait_until("the DAGs", lambda: _parsed(database, dags), seconds=90)
            with Observer(client, database) as observer:
                yield Place(airflow, database, client, observer, (Airflow2Logs if IS_AIRFLOW_2 else Logs)(airflow.home))


def _parsed(database: AirflowDatabase, dags: Collection[str]) -> bool:
    return set(dags) <= set(database.parsed()) or bool(database.import_errors())
