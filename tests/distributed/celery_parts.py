"""A real Airflow with the CeleryExecutor: PostgreSQL, Redis, workers and triggerers as if on machines of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.distributed.database import Database
from tests.distributed.hosts import HOST
from tests.distributed.plan import REMAPPED, STOPPED
from tests.support.airflow_parts import DAG_PROCESSOR, PUBLIC_API, SCHEDULER, TASKS_API, TRIGGERER, AirflowParts
from tests.support.postgres import postgres
from tests.support.redis import redis

__all__ = ["CONCURRENCY", "TRIGGERERS", "WORKERS", "CeleryParts"]

TRIGGERERS = ("triggerer-1", "triggerer-2")
WORKERS = ("worker-1", "worker-2")

CONCURRENCY = 8
"""Tasks at once of each worker."""


class CeleryParts(AirflowParts):
    """Scheduler with CeleryExecutor, two workers, two triggerers, DAG processor and two API servers.

    :param home: AIRFLOW_HOME.
    :param dags: folder of the DAG files.
    :param connections: extras of ``earthengine_default`` by part: each asks as a service account of its own, by which
        the emulator's log tells them apart.
    :param settings: more Airflow settings, and other variables of the environment.
    """

    parts = (PUBLIC_API, TASKS_API, SCHEDULER, DAG_PROCESSOR, *TRIGGERERS, *WORKERS)

    def __init__(
        self, home: Path, dags: Path, *, connections: Mapping[str, Mapping[str, Any]], settings: Mapping[str, str]
    ) -> None:
        super().__init__(home, dags, connections={}, settings=settings)
        self._own_connections = connections
        self._servers = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as servers:
            url = servers.enter_context(postgres())
            self.env |= {
                "AIRFLOW__CELERY__BROKER_URL": servers.enter_context(redis()),
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{url}",
                "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.distributed.hosts.name",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            }
            super().__enter__()
            self._servers = servers.pop_all()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(exc_type, exc, traceback)
        finally:
            self._servers.close()

    def database(self) -> Database:
        """Return the database."""
        return Database(self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])

    def pid(self, part: str) -> int:
        """Process id of a part's main process."""
        return self._parts[part].pid

    def members(self, part: str) -> list[int]:
        """Ids of a part's processes."""
        return self._parts[part].members()

    def _own_env(self, part: str) -> dict[str, str]:
        connection = {"conn_type": "earthengine", "extra": dict(self._own_connections[part])}
        own = {HOST: part.replace(" ", "-"), "AIRFLOW_CONN_EARTHENGINE_DEFAULT": json.dumps(connection)}
        return own | {"REMAP_SIGTERM": "SIGQUIT"} if part == REMAPPED else own

    def _arguments(self, part: str) -> tuple[str, ...]:
        if part in TRIGGERERS:
            return super()._arguments(TRIGGERER)
        if part in {*WORKERS, *STOPPED}:
            queue, slots = ("default", CONCURRENCY) if part in WORKERS else (part, 1)
            name = ("--celery-hostname", f"{part}@localhost", "--without-gossip", "--without-mingle")
            return ("celery", "worker", "--skip-serve-logs", "--queues", queue, "--concurrency", str(slots), *name)
        return super()._arguments(part)
