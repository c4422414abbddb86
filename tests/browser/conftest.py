"""One Airflow, one emulator and one story, in a real browser; all is stopped before the first test looks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import EXECUTABLE
from tests.browser.story import Story, tell
from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import emulator, free_port, wait_until

ROOT = Path(__file__).parents[2]
PROJECT = "browser-project"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="folder for pictures of the pages")


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go."""
    return request.config.getoption("--pictures") or tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="session")
def earth_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorClient]:
    """The emulator."""
    if EXECUTABLE is None:
        pytest.skip("no chromium: .ci/install-browser installs it on Debian, as root")
    directory = tmp_path_factory.mktemp("emulator")
    port = free_port()
    with emulator(port, directory=directory, options=("--project", PROJECT, "--run-seconds", "600")) as process:
        client = EmulatorClient(f"http://127.0.0.1:{port}", project=PROJECT, key_path=directory / "key.json")
        wait_until("the emulator", client.answers, seconds=30)
        process.check_running()
        yield client


@pytest.fixture(scope="session")
def airflow(earth_engine: EmulatorClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """A real Airflow with one example DAG."""
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(ROOT / "example_dags" / "example_cancel_by_name.py", dags)
    connections = {"earthengine_default": earth_engine.connection_extras}
    with LocalAirflow(tmp_path_factory.mktemp("airflow"), dags, connections=connections) as running:
        yield running


@pytest.fixture(scope="session")
def story(
    airflow: LocalAirflow, earth_engine: EmulatorClient, tmp_path_factory: pytest.TempPathFactory, pictures: Path
) -> Story:
    """What was seen of the form."""
    return tell(airflow, earth_engine, tmp_path_factory.mktemp("story"), pictures)
