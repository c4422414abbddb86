"""What the suite's tasks do: start operations as a user's task does, and then whatever the row says.

An operation's description says whose it is, ``row/task/run/try/map index/number``: by it the truth is read from the
emulator, whatever Airflow believes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import requests
from airflow.providers.common.compat.sdk import get_current_context

from airflow_provider_eeops.tracking import OperationTracker, track_operations

__all__ = ["EMULATOR", "EXPORT_SECONDS", "add_operation", "exports", "hold", "leave", "return_started", "start"]

EMULATOR = "EEOPS_E2E_EMULATOR"
"""Environment variable with the emulator's address."""

EXPORT_SECONDS = 90
"""What an export takes that Earth Engine was asked for; longer than until it is asked to cancel."""

COUNT = 3
"""Operations of each owner."""

_LIFE = 240.0
"""Seconds after which a task that nobody ended goes: longer than any row takes."""


def add_operation(base_url: str, description: str, **parameters: Any) -> str:
    """Start an operation in the emulator; return its name."""
    body = {"description": description, "run_seconds": 3600, "cancel_seconds": 1, **parameters}
    answer = requests.post(f"{base_url}/emulator/operations", json=body, timeout=10)
    answer.raise_for_status()
    return str(answer.json()["name"])


def start(number: int) -> str:
    """Start the running task's operation of this number; return its name."""
    return add_operation(os.environ[EMULATOR], _description(number))


def _description(number: int) -> str:
    ti = get_current_context()["ti"]
    conf = _conf()
    return f"{conf['row']}/{ti.task_id}/{conf['run']}/{ti.try_number}/{ti.map_index}/{number}"


def exports() -> list[Any]:
    """Return exports of the running task, which were not started."""
    from tests.support.exports import table_export

    return [table_export(_description(number)) for number in range(COUNT)]


def hold(index: int = 0) -> None:
    """Own operations until the row ends it. The next try leaves its operations behind and succeeds.

    :param index: which instance of a mapped task it is.
    """
    with track_operations() as tracker:
        for number in range(COUNT):
            tracker.add(start(number))
        first = get_current_context()["ti"].try_number == 1
        _DEEDS[_conf().get("do", "wait") if first else "succeed"](tracker, index)


def leave() -> None:
    """Own operations that go on after the task has succeeded."""
    with track_operations() as tracker:
        tracker.add(start(0))


def return_started() -> list[str]:
    """Start operations for a sensor downstream; return their names."""
    return [start(number) for number in range(COUNT)]


def push_rubbish() -> None:
    """Record what is no operation, one that is another project's and one that does not exist, and die."""
    rubbish = [{"no": "operation"}, 7, "projects/../operations/x", "projects/another/operations/ABC"]
    get_current_context()["ti"].xcom_push(key="earthengine_operations", value=rubbish)
    raise RuntimeError("the row's exception")


def _conf() -> dict[str, Any]:
    return dict(get_current_context()["dag_run"].conf or {})


def _succeed(_tracker: OperationTracker, _index: int) -> None:
    """Do nothing: the block ends."""


def _raise(_tracker: OperationTracker, _index: int) -> None:
    raise RuntimeError("the row's exception")


def _wait(_tracker: OperationTracker, _index: int) -> None:
    """Notice nothing of a kill, as most code."""
    until = time.monotonic() + _LIFE
    while time.monotonic() < until:
        time.sleep(0.5)


def _wait_and_look(tracker: OperationTracker, _index: int) -> None:
    """Look whether the task was killed, which a SIGTERM alone does not tell it."""
    until = time.monotonic() + _LIFE
    while time.monotonic() < until:
        time.sleep(0.5)
        tracker.check_not_killed()


def _ask_airflow(_tracker: OperationTracker, _index: int) -> None:
    """Be inside a call to Airflow nearly all the time, so that the signal comes there."""
    from airflow.providers.common.compat.sdk import BaseHook

    ti = get_current_context()["ti"]
    until = time.monotonic() + _LIFE
    while time.monotonic() < until:
        ti.xcom_pull(task_ids=ti.task_id, key="earthengine_operations", map_indexes=ti.map_index)
        BaseHook.get_connection("earthengine_default")


def _fail_one(_tracker: OperationTracker, index: int) -> None:
    """One instance fails, when all others have recorded theirs."""
    conf = _conf()
    if index != conf["failing"]:
        return
    prefix = f"{conf['row']}/work/{conf['run']}/"
    until = time.monotonic() + _LIFE
    while time.monotonic() < until:
        found = requests.get(f"{os.environ[EMULATOR]}/emulator/operations", timeout=10).json()["operations"]
        if sum(op["description"].startswith(prefix) for op in found) == COUNT * conf["instances"]:
            break
        time.sleep(1)
    raise RuntimeError("the row's exception")


_DEEDS = {
    "ask airflow": _ask_airflow,
    "fail one": _fail_one,
    "raise": _raise,
    "succeed": _succeed,
    "wait": _wait,
    "wait and look": _wait_and_look,
}
