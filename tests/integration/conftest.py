"""One real Airflow and one emulator, in processes of their own, for all integration tests that need them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.airflow_2 import Airflow2Parts
from tests.support.airflow_api import AirflowApi
from tests.support.airflow_parts import AirflowParts
from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import emulator, free_port, wait_until
from tests.support.statsd import StatsdServer
from tests.support.versions import AIRFLOW, CANNOT_RUN, IS_AIRFLOW_2

ROOT = Path(__file__).parents[2]

# A small machine starts few tasks of Airflow 2 at once within the short limits of the examples.
_OF_AIRFLOW_2 = {"AIRFLOW__CORE__PARALLELISM": "3", "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "3"}

_SETTINGS = {
    "PYTHONWARNINGS": "default",  # shown for test_warnings.py
    **(_OF_AIRFLOW_2 if IS_AIRFLOW_2 else {}),
}


@pytest.fixture(scope="session")
def emulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorClient]:
    """The emulator as its users start it."""
    directory = tmp_path_factory.mktemp("emulator")
    port = free_port()
    # They live until they are cancelled, however slow the machine is, but for those that are to succeed.
    times = ["--pending-seconds", "1", "--run-seconds", "3600", "--cancel-seconds", "2"]
    for succeeding in ("export", "export-sensor-*", "export-year-*", "then-load*", "by-hand-*", "after-*"):
        times += ["--run-seconds-of", f"{succeeding}=20"]
    # In form-project permissions are denied, which no DAG is to notice.
    options = ("--project", "test-project", "--project", "form-project", *times)
    with emulator(port, directory=directory, options=options) as process:
        client = EmulatorClient(f"http://127.0.0.1:{port}", project="test-project", key_path=directory / "key.json")
        wait_until("the emulator", client.answers, seconds=30)
        process.check_running()
        yield client


@pytest.fixture(scope="session")
def statsd() -> Iterator[StatsdServer]:
    with StatsdServer() as server:
        yield server


def _running() -> type[Airflow2Parts | AirflowParts | LocalAirflow]:
    """How this Airflow is run. Before 3.3 one API server alone locks itself out of SQLite: see AirflowParts."""
    if IS_AIRFLOW_2:
        return Airflow2Parts
    return AirflowParts if AIRFLOW < (3, 3) else LocalAirflow


@pytest.fixture(scope="session")
def airflow(
    emulator_process: EmulatorClient, statsd: StatsdServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowApi]:
    """A real Airflow whose default connection is the emulator's."""
    dags = tmp_path_factory.mktemp("dags")
    for file in (*(ROOT / "example_dags").glob("*.py"), *(ROOT / "tests" / "dags").glob("*.py")):
        if file.stem not in CANNOT_RUN:
            shutil.copy(file, dags)
    with _running()(
        tmp_path_factory.mktemp("airflow"),
        dags,
        connections={"earthengine_default": emulator_process.connection_extras},
        settings={**_SETTINGS, **statsd.settings},
    ) as running:
        yield running
