from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.certificates import Certificates


@pytest.fixture(scope="session")
def server() -> Iterator[EmulatorServer]:
    """Serve a stateless shell: every test puts an emulator of its own into it."""
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))
