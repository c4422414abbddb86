"""What people write today (docs/examples) runs with Google's own client, and does what docs/migration.md says of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.google_client import GoogleClient
from tests.support.processes import wait_until

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ee") is None, reason="earthengine-api is not installed")

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SCRIPTS = ["before_list_and_cancel", "before_pool", "before_by_description", "before_cost_guard"]

# The scripts start with the credentials of the machine and go to Google; here the same call goes to the emulator.
RUN = """
import functools, os, runpy, sys
import ee
from google.oauth2 import service_account

credentials = service_account.Credentials.from_service_account_file(os.environ["KEY"], scopes=ee.oauth.SCOPES)
ee.Initialize = functools.partial(ee.Initialize, credentials, url=os.environ["URL"])
"""
RUN_SCRIPT = RUN + 'del sys.argv[0]; runpy.run_path(sys.argv[0], run_name="__main__")'
RUN_CALLBACK = (
    RUN
    + """
from pathlib import Path

class TaskInstance:
    dag_id, run_id, task_id, try_number = "failure_callback", "run", "export", 1
    def xcom_pull(self, task_ids, key):
        return os.environ["PUSHED"].split()

module = runpy.run_path(sys.argv[1])
module["cancel_exports"].__globals__["LOGS"] = Path(sys.argv[2])
module["cancel_exports"]({"ti": TaskInstance()})
"""
)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[GoogleClient]:
    emulator = Emulator(projects=("my-project",), pending_seconds=0, run_seconds=36000, cancel_seconds=0)
    with EmulatorServer(emulator) as server:
        yield GoogleClient(emulator, server, tmp_path)


def run(client: GoogleClient, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return client.run(RUN_SCRIPT, str(EXAMPLES / f"{script}.py"), *arguments)


def states(client: GoogleClient) -> list[str]:
    return [client.emulator.state(name) for name in client.emulator.names()]


def test_every_script_is_run() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("before_*.py")) == sorted([*SCRIPTS, "before_failure_callback"])


def test_list_and_cancel_takes_all_there_is_and_says_cancelled_too_soon(client: GoogleClient) -> None:
    running = client.emulator.add_operation(cancel_seconds=3600)
    client.emulator.add_operation(description="a colleague's", pending_seconds=3600)
    client.emulator.add_operation(finished=True)
    done = run(client, "before_list_and_cancel")
    assert done.returncode == 0, done.stderr
    assert states(client) == ["CANCELLING", "CANCELLED", "SUCCEEDED"]
    assert f"cancelled {running}" in done.stdout


def test_list_and_cancel_stops_at_the_first_refusal(client: GoogleClient) -> None:
    first = client.emulator.add_operation()
    refused = client.emulator.add_operation()  # listed first: newest
    client.emulator.deny("earthengine.operations.update", name=refused)
    done = run(client, "before_list_and_cancel")
    assert (done.returncode, done.stdout) == (1, "")
    assert "earthengine.operations.update" in done.stderr
    assert client.emulator.state(first) == "RUNNING"


def test_pool_cancels_each_in_processes_that_initialize_each(client: GoogleClient) -> None:
    ids = [client.emulator.add_operation().rsplit("/", 1)[1] for _ in range(10)]
    done = run(client, "before_pool", *ids)
    assert done.returncode == 0, done.stderr
    assert states(client) == ["CANCELLED"] * 10
    assert done.stdout.splitlines()[-1] == f"10/10 {ids[-1]}"


def test_by_description(client: GoogleClient) -> None:
    for description in ("nightly-2024", "nightly-late", "weekly-2024"):
        client.emulator.add_operation(description=description)
    done = run(client, "before_by_description")
    assert done.returncode == 0, done.stderr
    assert states(client) == ["CANCELLED", "RUNNING", "RUNNING"]


def test_cost_guard_cancels_what_is_costly_and_what_runs_long_and_never_ends(client: GoogleClient) -> None:
    costly = client.emulator.add_operation(pending_seconds=-3 * 3600 * 100, run_seconds=1e7)
    long = client.emulator.add_operation(pending_seconds=-5 * 3600)
    new = client.emulator.add_operation()
    with subprocess.Popen(
        [sys.executable, "-c", RUN_SCRIPT, str(EXAMPLES / "before_cost_guard.py")], env=client.environment
    ) as guard:
        try:
            wait_until("the guard", lambda: client.emulator.state(long) == "CANCELLED", seconds=60)
            assert guard.poll() is None
        finally:
            guard.terminate()
    assert [client.emulator.state(name) for name in (costly, long, new)] == ["CANCELLED", "CANCELLED", "RUNNING"]


def test_failure_callback_takes_whatever_in_the_log_looks_like_an_id(client: GoogleClient, tmp_path: Path) -> None:
    pushed, logged, mentioned = (client.emulator.add_operation(letter * 24) for letter in "ABC")
    log = tmp_path / "dag_id=failure_callback/run_id=run/task_id=export/attempt=1.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"started {'B' * 24}\nsee {'C' * 24} of the day before\n{'D' * 24}\n")
    done = client.run(
        RUN_CALLBACK,
        *(str(EXAMPLES / "before_failure_callback.py"), str(tmp_path)),
        AIRFLOW_HOME=str(tmp_path / "airflow"),
        PUSHED="A" * 24,
    )
    assert done.returncode == 0, done.stderr
    assert [client.emulator.state(name) for name in (pushed, logged, mentioned)] == ["CANCELLED"] * 3
