"""Where it happens: Airflow with the CeleryExecutor, and the emulator, which all its parts ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_eeops.emulator import EmulatorServer
from tests.distributed.celery_parts import CONCURRENCY, TRIGGERERS, WORKERS, CeleryParts
from tests.distributed.database import Database
from tests.distributed.plan import STOPPED
from tests.distributed.steered_emulator import SteeredEmulator
from tests.distributed.tasks import RELEASE
from tests.e2e.starting import EMULATOR
from tests.support.airflow_parts import DAG_PROCESSOR, PUBLIC_API, SCHEDULER, TASKS_API
from tests.support.processes import wait_until

__all__ = ["HEARTBEAT_TIMEOUT", "POLL_INTERVAL", "PROJECT", "SETTINGS", "Place", "started"]

HERE = Path(__file__).parent
PROJECT = "distributed-project"
DAGS = 3 + len(STOPPED)

POLL_INTERVAL = 10.0
"""The sensors' ``poke_interval``."""

HEARTBEAT_TIMEOUT = 60
"""Seconds without a heartbeat after which a task counts as lost: Airflow's default is 300."""

IMPORTED = [
    "airflow_provider_eeops.api.transport",
    "airflow_provider_eeops.sensors.operations",
    "google.oauth2.service_account",
]
"""What a worker imports once, before it forks, instead of each task anew."""

SETTINGS = {
    "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": json.dumps({"include": IMPORTED}),
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": 400,
    "AIRFLOW__CORE__PARALLELISM": CONCURRENCY * len(WORKERS),  # so that no task waits in Redis for a slot
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 60,
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": 32,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": HEARTBEAT_TIMEOUT,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": 60,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": 10,
    "AIRFLOW__TRIGGERER__CAPACITY": 1000,
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": 5,
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 30,
    "PYTHONPATH": HERE.parents[1],  # the DAG files import tests.distributed.tasks
}


@dataclass(frozen=True)
class Place:
    """What a run needs of it."""

    airflow: CeleryParts
    database: Database
    earth_engine: SteeredEmulator
    base_url: str
    release: Path


@contextmanager
def started(home: Path) -> Iterator[Place]:
    """Start everything; stop it when the block ends.

    :param home: folder for all files.
    """
    earth_engine = SteeredEmulator(projects=[PROJECT], pending_seconds=0, cancel_seconds=1)
    with EmulatorServer(earth_engine) as server:
        release = home / "released"
        parts = (PUBLIC_API, TASKS_API, SCHEDULER, DAG_PROCESSOR, *TRIGGERERS, *WORKERS, *STOPPED)
        own = {EMULATOR: server.base_url, RELEASE: str(release)}
        with CeleryParts(
            home / "airflow",
            HERE / "dags",
            connections={part: _connection(server, part, home) for part in parts},
            settings={name: str(value) for name, value in SETTINGS.items()} | own,
        ) as airflow:
            database = airflow.database()
            wait_until("the DAGs", lambda: bool(database.import_errors()) or len(database.parsed()) == DAGS, seconds=90)
            if errors := database.import_errors():
                raise RuntimeError(f"a DAG file could not be parsed: {errors}")
            yield Place(airflow, database, earth_engine, server.base_url, release)


def _connection(server: EmulatorServer, part: str, home: Path) -> dict[str, str]:
    """Extras of a part's connection, with a service account of its own."""
    account = part.replace(" ", "-").replace("'", "")
    path = home / f"{account}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(server.service_account_info(f"{account}@{PROJECT}.iam.gserviceaccount.com")))
    return {"base_url": server.base_url, "project": PROJECT, "key_path": str(path)}
