from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.clock import Clock
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.clock import ManualClock

Connect = Callable[..., EarthEngineOperationsClient]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock) -> Emulator:
    return Emulator(
        projects=("one", "two"),
        clock=clock.time,
        pending_seconds=10,
        run_seconds=1000,
        cancel_seconds=5,
        token_lifetime=100_000,
    )


@pytest.fixture
def server(emulator: Emulator) -> Iterator[EmulatorServer]:
    with EmulatorServer(emulator) as server:
        yield server


@pytest.fixture
def connected(server: EmulatorServer, clock: ManualClock) -> Iterator[Connect]:
    """Make clients as the extras of a connection say; they are closed afterwards."""
    with ExitStack() as stack:

        def make(*, budget: Budget | None = None, at: Clock = clock, **extras: Any) -> EarthEngineOperationsClient:
            if "is_anonymous" not in extras:
                extras.setdefault("keyfile_dict", server.service_account_info())
            settings = Settings.from_extras(
                {"base_url": server.base_url, "requests_per_second": 1e6, "num_retries": 3, **extras}
            )
            identity = load_credentials(settings)
            return stack.enter_context(connect(settings, identity.credentials, budget=budget, clock=at))

        yield make


@pytest.fixture
def client(connected: Connect) -> EarthEngineOperationsClient:
    return connected()
