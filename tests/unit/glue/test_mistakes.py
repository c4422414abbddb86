from __future__ import annotations
from pathlib import Path
import pytest
from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.clock import AdvancingClock
from tests.unit.glue.conftest import SetConnection
from tests.unit.glue.mistakes import MISTAKES, PROJECT, Place


@pytest.fixture
def emulator(clock: AdvancingClock) -> Emulator:
    return Emulator(projects=(PROJECT,), clock=clock.time, pending_seconds=0, run_seconds=1000, cancel_seconds=1000)


@pytest.fixture
def place(emulator, server, set_connection, tmp_path, monkeypatch, caplog, capsys):
    return Place(emulator, server, set_connection, tmp_path, monkeypatch, caplog, capsys)


@pytest.mark.parametrize("words", MISTAKES)
def test_x(words, place):
    told = MISTAKES[words](place)
    told = told.replace(place.server.base_url, "https://EE").replace(str(place.directory), "/DIR")
    with open("/tmp/errors-messages.txt", "a") as f:
        f.write(f"=== {words}\n{told}\n")
