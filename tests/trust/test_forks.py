"""Real forks, each scenario in a process of its own: see :mod:`tests.trust.forked`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from tests.support.processes import of_session

ROOT = Path(__file__).parents[2]


class Forked:
    """Runs scenarios against the emulator."""

    def __init__(self, emulator: Emulator, server: EmulatorServer, count: int) -> None:
        self.names = []
        for number in range(count):
            name = f"projects/one/operations/OP{number}"
            emulator.add_operation(f"OP{number}", description=name)
            self.names.append(name)
        extras = {
            "base_url": server.base_url,
            "project": "one",
            "keyfile_dict": server.service_account_info(),
            "requests_per_second": 10_000,
            "read_timeout": 20,
            "num_retries": 0,
        }
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "EEOPS_TEST_EXTRAS": json.dumps(extras),
            "EEOPS_TEST_NAMES": json.dumps(self.names),
            "https_proxy": "http://127.0.0.1:9",  # Google's client also asks for a catalogue elsewhere
            "AIRFLOW_CONN_EARTHENGINE_DEFAULT": json.dumps({"conn_type": "earthengine", "extra": extras}),
        }

    def run(self, scenario: str) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "tests.trust.forked", scenario],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{scenario} hangs\n{out}\n{err}") from None
        assert process.returncode == 0, err
        assert "ResourceWarning" not in err
        assert of_session(process.pid) == [], "a process is left behind"
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def forked(emulator: Emulator, server: EmulatorServer) -> Forked:
    return Forked(emulator, server, 40)


def test_parent_and_children_use_one_client_and_share_no_connection(forked: Forked, emulator: Emulator) -> None:
    assert forked.run("shared_client") == {"parent": [], "children": [[], [], []]}
    assert emulator.count("get") == 40 * (1 + 6 + 1 + 3 * 2)


def test_locks_that_are_held_at_the_fork_stop_no_child(forked: Forked) -> None:
    found = forked.run("held_locks")
    assert found == {"name": found["name"], "children": [found["name"]] * 3, "parent": found["name"]}


def test_a_token_under_way_at_the_fork_stops_no_child(forked: Forked, emulator: Emulator) -> None:
    emulator.add_fault(Fault("token", seconds=3.0))
    found = forked.run("token_under_way")
    assert found == {"name": found["name"], "child": found["name"], "parent": []}
    assert emulator.count("token") == 2


def test_forks_of_forks(forked: Forked) -> None:
    found = forked.run("grandchildren")
    assert found["seen"] == [found["name"]] * 4


def test_a_child_that_leaves_the_block_of_its_parent_cancels_nothing(forked: Forked, emulator: Emulator) -> None:
    assert forked.run("exits_in_block") == {"state": "RUNNING"}
    assert emulator.count("cancel") == 0


def test_sessions_of_googles_client(forked: Forked, emulator: Emulator) -> None:
    found = forked.run("sessions")
    names = [*found["children"], found["parent"], found["later"]]
    assert [name.split("/")[1] for name in names] == ["one", "one", "two", "one", "one"]
    started = [record.name for record in emulator.requests if record.method == "export"]
    assert sorted(names) == sorted(str(name) for name in started)
