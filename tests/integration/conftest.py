"""One real Airflow and one emulator, in processes of their own, for all integration tests that need them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import emulator, free_port, wait_until
from tests.support.statsd import StatsdServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def emulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorClient]:
    """The emulator as its users start it."""
    directory = tmp_path_factory.mktemp("emulator")
    port = free_port()
    # They live until they are cancelled, however slow the machine is, or until a test lets them end.
    times = ("--pending-seconds", "1", "--run-seconds", "3600", "--cancel-seconds", "2")
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


@pytest.fixture(scope="session")
def airflow(
    emulator_process: EmulatorClient, statsd: StatsdServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """A real Airflow whose default connection is the emulator's."""
    dags = tmp_path_factory.mktemp("dags")
    for file in (*(ROOT / "example_dags").glob("*.py"), *(ROOT / "tests" / "dags").glob("*.py")):
        shutil.copy(file, dags)
    with LocalAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags,
        connections={"earthengine_default": emulator_process.connection_extras},
        settings=statsd.settings,
    ) as running:
        yield running
