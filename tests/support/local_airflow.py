"""A real Airflow on this machine: scheduler, triggerer, DAG processor and API server on SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.airflow_api import AirflowApi
from tests.support.airflow_environment import airflow_command, airflow_environment, prepare_home
from tests.support.processes import ProcessGroup, free_port, wait_until

__all__ = ["LocalAirflow"]


class LocalAirflow(AirflowApi):
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
        super().__init__(f"http://127.0.0.1:{port or free_port()}", home=home, password=password)
        self.env = airflow_environment(home, dags, self.url, connections) | dict(settings or {})
        self._process = ProcessGroup([airflow_command(), "standalone"], output=home / "standalone.log", env=self.env)

    def __enter__(self) -> Self:
        prepare_home(self.home, password=self.password)
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
        self.close()

    @property
    def pid(self) -> int:
        """Process id of ``airflow standalone``; its group holds all processes."""
        return self._process.pid

    def _healthy(self) -> bool:
        self._process.check_running()
        health = self.health()
        return all(
            health.get(part) == "healthy" for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        )
