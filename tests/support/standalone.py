"""Airflow's UI, the emulator and the example DAGs, up until Ctrl-C. ``make standalone`` runs it."""

from __future__ import annotations

import secrets
import signal
import sys
import threading
from pathlib import Path

from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import emulator, free_port, wait_until

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".airflow"
PROJECT = "standalone-project"


def main() -> int:
    """Start both, print where they are, stop them at a signal; return the exit code."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    options = ("--project", PROJECT, "--run-seconds", "120")
    with emulator(port, directory=HOME / "emulator", options=options):
        earth_engine = EmulatorClient(base_url, project=PROJECT, key_path=HOME / "emulator" / "key.json")
        wait_until("the emulator", earth_engine.answers, seconds=30)
        password = secrets.token_urlsafe(9)
        print("Starting Airflow: up to a minute, the first time more.", flush=True)
        with LocalAirflow(
            HOME,
            ROOT / "example_dags",
            connections={"earthengine_default": earth_engine.connection_extras},
            password=password,
        ) as airflow:
            print(f"Airflow:   {airflow.url}  user admin, password {password}")
            print(f"Emulator:  {base_url}/emulator/operations  project {PROJECT}")
            print(f"Logs:      {HOME.relative_to(ROOT)}/logs")
            print("Connection earthengine_default, set in the environment, points at the emulator.")
            print("Trigger an example DAG. Ctrl-C stops all.", flush=True)
            stop.wait()
            print("Stopping.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
