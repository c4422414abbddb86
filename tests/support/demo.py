"""The main job on a real Airflow: a task that owns exports hits its execution_timeout; none of them outlives it.

``make demo`` runs it. It prints a line for each step and a table, and ends with 1 if an operation is not terminal.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import emulator, free_port, wait_until

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
DAG_ID = "example_owned_exports"
PROJECT = "demo-project"
TERMINAL = {"SUCCEEDED", "CANCELLED", "FAILED"}

_BEGAN = time.monotonic()


def step(text: str) -> None:
    """Print one line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGAN:5.1f} s] {text}", flush=True)


def main() -> int:
    """Run the demo; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="eeops-demo-") as folder:
        home = Path(folder)
        port = free_port()
        base_url = f"http://127.0.0.1:{port}"
        options = ("--project", PROJECT, "--run-seconds", "600", "--pending-seconds", "5", "--cancel-seconds", "3")
        step(f"starting the Earth Engine emulator at {base_url}")
        with emulator(port, directory=home / "emulator", options=options) as server:
            earth_engine = EmulatorClient(base_url, project=PROJECT, key_path=home / "emulator" / "key.json")
            wait_until("the emulator", earth_engine.answers, seconds=30)
            server.check_running()
            step(
                "starting Airflow: scheduler, triggerer, DAG processor, API server on SQLite; this takes up to a minute"
            )
            with LocalAirflow(
                home / "airflow",
                ROOT / "example_dags",
                connections={"earthengine_default": earth_engine.connection_extras},
            ) as airflow:
                step(f"Airflow is healthy at {airflow.url}")
                return _run(airflow, earth_engine)


def _run(airflow: LocalAirflow, earth_engine: EmulatorClient) -> int:
    run_id = airflow.trigger(DAG_ID)
    step(f"triggered {DAG_ID}; its task 'export', a @task.earthengine, starts what its function returns")
    wait_until("the exports", lambda: len(earth_engine.operations()) == 5, seconds=90)
    before = {op["name"]: op["state"] for op in earth_engine.operations()}
    step(f"{len(before)} operations started; waiting for the task's execution_timeout")
    while airflow.task_states(DAG_ID, run_id).get("export") not in {"failed", "success"}:
        before.update((op["name"], op["state"]) for op in earth_engine.operations() if not op["cancelRequested"])
        time.sleep(0.5)
    step(f"task 'export': {airflow.task_states(DAG_ID, run_id)['export']}; its log says")
    for line in airflow.log(DAG_ID, run_id, "export").splitlines():
        if "cancel requested" in line or "Requesting cancellation" in line:
            step("  " + _message(line))
    run_state = airflow.wait_for_run(DAG_ID, run_id)
    step(
        f"task 'confirm': {airflow.task_states(DAG_ID, run_id)['confirm']}; the run: {run_state}, as its export failed"
    )
    report = airflow.xcom(DAG_ID, run_id, "confirm")
    after = earth_engine.operations()
    print()
    _table(after, before, _outcomes(report), _cancel_times(earth_engine))
    open_ = [op["name"] for op in after if op["state"] not in TERMINAL]
    cancelled = [op for op in after if op["state"] == "CANCELLED"]
    print(f"\n{len(after)} operations: {len(cancelled)} cancelled, {len(open_)} still running.")
    return 1 if open_ or len(cancelled) != len(before) or report is None else 0


def _cancel_times(earth_engine: EmulatorClient) -> dict[str, float]:
    return {record["name"]: float(record["time"]) for record in reversed(earth_engine.requests("cancel"))}


def _outcomes(report: Mapping[str, Any] | None) -> dict[str, str]:
    return {op["name"]: op["outcome"].replace("_", " ") for op in (report or {"operations": []})["operations"]}


def _message(line: str) -> str:
    """The text of a log line, which Airflow writes as JSON."""
    marker = '"event":"'
    return line.split(marker, 1)[1].split('","', 1)[0] if marker in line else line


def _table(
    operations: Sequence[Mapping[str, Any]],
    before: Mapping[str, str],
    outcomes: Mapping[str, str],
    asked: Mapping[str, float],
) -> None:
    rows = [("operation", "description", "before", "outcome", "after", "seconds")]
    for op in operations:
        name = op["name"]
        ended = datetime.fromisoformat(op["endTime"]).timestamp() if "endTime" in op else None
        took = f"{ended - asked[name]:.1f}" if ended and name in asked else "-"
        rows.append((name, op["description"], before.get(name, "-"), outcomes.get(name, "-"), op["state"], took))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("seconds: from the request to cancel to the operation's end")


if __name__ == "__main__":
    sys.exit(main())
