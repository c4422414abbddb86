from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import Context

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.clock import AdvancingClock
from tests.support.masking import forget_masked_secrets
from tests.support.task_instance import FakeTaskInstance

SetConnection = Callable[..., None]


@pytest.fixture
def clock() -> AdvancingClock:
    """The emulator's clock: Airflow's own waits are on the real one."""
    return AdvancingClock()


@pytest.fixture
def emulator(clock: AdvancingClock) -> Emulator:
    return Emulator(projects=("one", "two"), clock=clock.time, pending_seconds=0, run_seconds=1000, cancel_seconds=0.05)


@pytest.fixture
def server(emulator: Emulator) -> Iterator[EmulatorServer]:
    with EmulatorServer(emulator) as server:
        yield server


@pytest.fixture
def set_connection(server: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Set a connection to the emulator; its extras can be changed, None removes one."""

    def set_(conn_id: str = "earthengine_default", *, conn_type: str = "earthengine", **changes: Any) -> None:
        extras = {
            "base_url": server.base_url,
            "project": "one",
            "keyfile_dict": server.service_account_info(),
            "requests_per_second": 1000,
            "num_retries": 1,
        } | changes
        connection = {
            "conn_type": conn_type,
            "extra": {name: value for name, value in extras.items() if value is not None},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    return set_


@pytest.fixture(autouse=True)
def _forget_masked_secrets() -> Iterator[None]:
    """Airflow's masker compiles all secrets of the process into one pattern; over many tests that takes seconds."""
    yield
    forget_masked_secrets()


@pytest.fixture
def connection(set_connection: SetConnection) -> None:
    """The default connection, to the emulator."""
    set_connection()


@pytest.fixture
def ti() -> FakeTaskInstance:
    return FakeTaskInstance()


@pytest.fixture
def context(ti: FakeTaskInstance) -> Context:
    return cast(Context, {"ti": ti, "dag": ti.task.dag})
