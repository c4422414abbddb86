"""What the suite's tasks do. An operation's description says whose it is: ``DAG/run/try/map index/number``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import get_current_context

from airflow_provider_eeops.tracking import OperationTracker, track_operations
from tests.distributed.plan import waits
from tests.e2e.starting import EMULATOR, add_operation

__all__ = ["HELD", "RELEASE", "export", "hold"]

HELD = 3
"""Operations of each task that holds."""

RELEASE = "EEOPS_DISTRIBUTED_RELEASE"
"""Environment variable with the file whose existence ends the tasks that hold."""

_LIFE = 1200.0
"""Seconds after which a task that nobody ended goes."""


def export() -> list[dict[str, Any]]:
    """Start all operations that are waited for, which the suite will end; return the sensors' arguments."""
    return [
        {
            "operations": [
                add_operation(
                    os.environ[EMULATOR],
                    f"waited/{wait.index}/{number}",
                    operation_id=operation_id,
                    ends="FAILED" if number == 0 and wait.odd == "FAILED" else "SUCCEEDED",
                )
                for number, operation_id in enumerate(wait.ids)
            ],
            "accepted_states": None if wait.accepted is None else list(wait.accepted),
        }
        for wait in waits()
    ]


def hold() -> None:
    """Own operations until the suite says so. The next try leaves its own behind and succeeds."""
    ti = get_current_context()["ti"]
    owner = f"{ti.dag_id}/{ti.run_id}/{ti.try_number}/{ti.map_index}"
    with track_operations() as tracker:
        for number in range(HELD):
            tracker.add(add_operation(os.environ[EMULATOR], f"{owner}/{number}"))
        if ti.try_number == 1:
            _until_released(tracker)


def _until_released(tracker: OperationTracker) -> None:
    release = Path(os.environ[RELEASE])
    until = time.monotonic() + _LIFE
    while not release.exists() and time.monotonic() < until:
        time.sleep(1)
        tracker.check_not_killed()
