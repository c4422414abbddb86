"""One emulator's server for all rows; a run of all of them can write the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.faults.page import page
from tests.faults.recording import Recorded
from tests.support.certificates import Certificates


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=Path, help="the page to write what was seen to; not with -n")


@pytest.fixture(scope="session")
def recorded(request: pytest.FixtureRequest) -> Iterator[Recorded]:
    """Gather what is seen; with --faults, write the page of it."""
    recorded = Recorded()
    yield recorded
    if (file := request.config.getoption("--faults", default=None)) is not None:
        file.write_text(page(recorded.rows, recorded.scenes), encoding="utf-8")


@pytest.fixture(scope="session")
def server() -> Iterator[EmulatorServer]:
    """Serve a shell: every test puts an emulator of its own into it."""
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))
