"""A task that tracks its operations is told to stop by a real Airflow, which raises nothing in it."""

from __future__ import annotations

import pytest

from tests.support.airflow_api import AirflowApi
from tests.support.emulator_client import EmulatorClient
from tests.support.processes import wait_until
from tests.support.versions import AIRFLOW, IS_AIRFLOW_2

pytestmark = pytest.mark.e2e

DAG_ID = "tracked_until_killed"


def tracked(airflow: AirflowApi, run_id: str) -> list[str]:
    """Names that the task recorded in this try."""
    return list(airflow.xcom(DAG_ID, run_id, "export", "earthengine_operations") or [])


def running(airflow: AirflowApi, run_id: str, *, besides: list[str]) -> str:
    """The operation that the task started, once it has; not one of an earlier try."""
    wait_until("the export", lambda: bool(set(tracked(airflow, run_id)) - set(besides)), seconds=120)
    (name,) = tracked(airflow, run_id)
    wait_until(
        "the task to be past the XCom call",
        lambda: f"Recorded {name}" in airflow.log(DAG_ID, run_id, "export"),
        seconds=30,
    )
    return name


def asked_to_cancel(emulator: EmulatorClient, name: str) -> bool:
    return any(record["name"] == name for record in emulator.requests("cancel"))


def test_marked_failed_while_running(airflow: AirflowApi, emulator_process: EmulatorClient) -> None:
    run_id = airflow.trigger(DAG_ID)
    name = running(airflow, run_id, besides=[])
    airflow.mark_failed(DAG_ID, run_id, "export")
    wait_until("the cancel", lambda: asked_to_cancel(emulator_process, name), seconds=60)
    assert airflow.wait_for_run(DAG_ID, run_id) == "failed"
    log = airflow.log(DAG_ID, run_id, "export")
    assert "The task is being killed. Requesting cancellation of 1 operation." in log
    assert f"{name}: cancel requested" in log


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 may lose that a running task was cleared: docs/compatibility.md")
def test_cleared_while_running(airflow: AirflowApi, emulator_process: EmulatorClient) -> None:
    run_id = airflow.trigger(DAG_ID)
    old = running(airflow, run_id, besides=[])
    airflow.clear(DAG_ID, run_id, "export")
    wait_until("the cancel", lambda: asked_to_cancel(emulator_process, old), seconds=60)
    if AIRFLOW == (3, 0):
        pytest.skip("the rest: Airflow 3.0 leaves a task that was cleared while it ran 'restarting', and starts no try")
    new = running(airflow, run_id, besides=[old])
    assert new != old
    assert not asked_to_cancel(emulator_process, new), "the new try's operation is not the old one's"
    airflow.mark_failed(DAG_ID, run_id, "export")
    assert airflow.wait_for_run(DAG_ID, run_id) == "failed"
    assert f"{old}: cancel requested" in airflow.log(DAG_ID, run_id, "export")
