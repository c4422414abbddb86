from __future__ import annotations

import pytest

from airflow_provider_eeops.emulator import Emulator
from tests.boundaries.walking import RUN_SECONDS
from tests.support.clock import AdvancingClock
from tests.unit.glue.conftest import SetConnection, clock, server, set_connection

__all__ = ["clock", "connection", "emulator", "server", "set_connection"]


@pytest.fixture
def emulator(clock: AdvancingClock) -> Emulator:
    return Emulator(projects=("one",), clock=clock.time, pending_seconds=0, run_seconds=RUN_SECONDS, cancel_seconds=0)


@pytest.fixture
def connection(emulator: Emulator, set_connection: SetConnection) -> None:
    """Without a key: to load one takes longer than all the rest of a try."""
    emulator.require_token = False
    set_connection(keyfile_dict=None, is_anonymous=True)
