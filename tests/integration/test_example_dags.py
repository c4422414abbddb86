"""Every example DAG, run by a real Airflow against the emulator. What happened is read from the emulator."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_api import AirflowApi
from tests.support.emulator_client import EmulatorClient
from tests.support.processes import wait_until
from tests.support.versions import CANNOT_RUN

pytestmark = pytest.mark.e2e

EXAMPLES = sorted(path.stem for path in (Path(__file__).parents[2] / "example_dags").glob("example_*.py"))

_SECOND = 1 / 3600

MONTHS = 12

CALLBACKS = ("example_dag_callback", "example_retry_callback", "example_deadline")


@pytest.fixture(autouse=True)
def _cannot_run(request: pytest.FixtureRequest) -> None:
    """Skip the example that this Airflow cannot run, and say why."""
    if reason := CANNOT_RUN.get(request.function.__name__.removeprefix("test_")):
        pytest.skip(reason)


@pytest.fixture(scope="module")
def runs(airflow: AirflowApi, emulator_process: EmulatorClient, request: pytest.FixtureRequest) -> Mapping[str, str]:
    """A run of each example that is tested, but those of callbacks, all started at once."""
    by_name = [emulator_process.add_operation(description=f"by-name-{n}", run_seconds=600) for n in range(2)]
    for description in ("nightly-1", "nightly-2", "weekly-nightly"):
        emulator_process.add_operation(description=description, run_seconds=600)
    # An hour in RUNNING: 5400 EECU-seconds in this emulator. The other uses none before it runs.
    emulator_process.add_operation(description="cost-guard-costly", pending_seconds=-3600, run_seconds=7200)
    emulator_process.add_operation(description="cost-guard-queued", pending_seconds=600)
    airflow.add_pool("earthengine_exports", slots=4, include_deferred=True)
    conf: dict[str, dict[str, Any]] = {
        "example_cancel_by_name": {"operations": by_name},
        "example_nightly_sweep": {"longest_run_hours": _SECOND, "validate_only": True},
        "example_cost_guard": {"eecu_hours": 1},
    }
    tested = {item.name.removeprefix("test_") for item in request.session.items} - {*CALLBACKS, *CANNOT_RUN}
    return {dag_id: airflow.trigger(dag_id, conf.get(dag_id)) for dag_id in EXAMPLES if dag_id in tested}


@pytest.fixture(scope="module")
def callback_runs(airflow: AirflowApi) -> Mapping[str, str]:
    """A run of each example of a callback, started when the others have ended: a small machine runs few at once."""
    return {dag_id: airflow.trigger(dag_id) for dag_id in CALLBACKS if dag_id not in CANNOT_RUN}


def test_every_example_has_a_test() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_example_")}
    assert {f"example_{name.removeprefix('example_')}" for name in tested} == set(EXAMPLES)


# First: it kills the task while its export runs.
def test_example_all_done_cleanup(
    airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]
) -> None:
    run_id = runs["example_all_done_cleanup"]
    tracked = ("example_all_done_cleanup", run_id, "export", "earthengine_operations")
    wait_until("the export", lambda: bool(airflow.xcom(*tracked)), seconds=120)
    pid = airflow.task_pid("example_all_done_cleanup", run_id, "export")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # as the out-of-memory killer does: the task can do nothing any more
    assert airflow.wait_for_run("example_all_done_cleanup", run_id) == "failed"
    assert airflow.task_states("example_all_done_cleanup", run_id) == {"export": "failed", "cancel": "success"}
    assert emulator_process.states("all-done-cleanup") == ["CANCELLED"]


def test_example_cancel_by_name(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    assert airflow.wait_for_run("example_cancel_by_name", runs["example_cancel_by_name"]) == "success"
    assert emulator_process.states("by-name") == ["CANCELLED"] * 2
    report = airflow.xcom("example_cancel_by_name", runs["example_cancel_by_name"], "cancel")
    assert report["counts"] == {"cancelled": 2}


def test_example_nightly_sweep(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    dag_id, tried = "example_nightly_sweep", runs["example_nightly_sweep"]
    assert airflow.wait_for_run(dag_id, tried) == "success"
    assert airflow.xcom(dag_id, tried, "sweep")["counts"] == {"not_requested": 2}
    assert [op["cancelRequested"] for op in emulator_process.operations("nightly")] == [False, False]
    run_id = airflow.trigger(dag_id, {"longest_run_hours": _SECOND})
    assert airflow.wait_for_run(dag_id, run_id) == "success"
    assert airflow.xcom(dag_id, run_id, "sweep")["counts"] == {"cancelled": 2}
    assert emulator_process.states("nightly") == ["CANCELLED"] * 2
    assert emulator_process.states("weekly-nightly") == ["RUNNING"]


def test_example_cost_guard(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    run_id = runs["example_cost_guard"]
    assert airflow.wait_for_run("example_cost_guard", run_id) == "success"
    costly, queued = emulator_process.operations("cost-guard")
    assert [op["cancelRequested"] for op in (costly, queued)] == [True, False]
    report = airflow.xcom("example_cost_guard", run_id, "cancel")
    assert [op["name"] for op in report["operations"]] == [costly["name"]]


def test_example_cancel_from_xcom(
    airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]
) -> None:
    assert airflow.wait_for_run("example_cancel_from_xcom", runs["example_cancel_from_xcom"]) == "success"
    operations = emulator_process.operations("from-xcom")
    assert [op["cancelRequested"] for op in operations] == [True, True]
    report = airflow.xcom("example_cancel_from_xcom", runs["example_cancel_from_xcom"], "cancel")
    assert {op["name"] for op in report["operations"]} == {op["name"] for op in operations}
    assert set(report["counts"]) <= {"cancelled", "cancel_requested"}


def test_example_mapped_exports(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    assert airflow.wait_for_run("example_mapped_exports", runs["example_mapped_exports"]) == "success"
    assert emulator_process.states("mapped") == ["CANCELLED"] * 3


def test_example_failure_callback(
    airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]
) -> None:
    run_id = runs["example_failure_callback"]
    assert airflow.wait_for_run("example_failure_callback", run_id) == "failed"
    (operation,) = emulator_process.operations("failure-callback")
    assert operation["cancelRequested"]
    assert f"{operation['name']}: cancel requested" in airflow.log("example_failure_callback", run_id, "export")


def test_example_export_sensor(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    run_id = runs["example_export_sensor"]
    assert airflow.wait_for_run("example_export_sensor", run_id) == "success"
    assert emulator_process.states("export-sensor") == ["SUCCEEDED"] * 2
    assert airflow.xcom("example_export_sensor", run_id, "wait")["counts"] == {"finished_first": 2}


def test_example_deferrable_confirm(
    airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]
) -> None:
    run_id = runs["example_deferrable_confirm"]
    assert airflow.wait_for_run("example_deferrable_confirm", run_id) == "success"
    assert emulator_process.states("deferrable-confirm") == ["CANCELLED"] * 2
    assert airflow.xcom("example_deferrable_confirm", run_id, "cancel")["counts"] == {"cancelled": 2}
    assert "Pausing task as DEFERRED" in airflow.log("example_deferrable_confirm", run_id, "cancel")


def test_example_track_exports(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    run_id = runs["example_track_exports"]
    assert airflow.wait_for_run("example_track_exports", run_id) == "failed"
    assert airflow.task_states("example_track_exports", run_id) == {"export": "failed", "confirm": "success"}
    assert emulator_process.states("track-exports") == ["CANCELLED"] * 5
    assert airflow.xcom("example_track_exports", run_id, "confirm")["counts"] == {"cancelled": 5}
    log = airflow.log("example_track_exports", run_id, "export")
    for operation in emulator_process.operations("track-exports"):
        assert f"{operation['name']}: cancel requested" in log


def test_example_owned_exports(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    run_id = runs["example_owned_exports"]
    assert airflow.wait_for_run("example_owned_exports", run_id) == "failed"
    assert airflow.task_states("example_owned_exports", run_id) == {"export": "failed", "confirm": "success"}
    assert emulator_process.states("owned-exports") == ["CANCELLED"] * 5
    assert airflow.xcom("example_owned_exports", run_id, "confirm")["counts"] == {"cancelled": 5}
    log = airflow.log("example_owned_exports", run_id, "export")
    for operation in emulator_process.operations("owned-exports"):
        assert f"{operation['name']}: cancel requested" in log


def test_example_export(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    run_id = runs["example_export"]
    assert airflow.wait_for_run("example_export", run_id) == "success"
    (row,) = airflow.xcom("example_export", run_id, "export")
    (operation,) = [op for op in emulator_process.operations("export") if op["name"] == row["name"]]
    assert (operation["description"], operation["state"], row["state"]) == ("export", "SUCCEEDED", "SUCCEEDED")
    assert row["destination_uris"]
    assert "Pausing task as DEFERRED" in airflow.log("example_export", run_id, "export")


def test_example_export_then_load(
    airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]
) -> None:
    run_id = runs["example_export_then_load"]
    assert airflow.wait_for_run("example_export_then_load", run_id) == "success"
    assert emulator_process.states("then-load") == ["SUCCEEDED"] * 2
    rows = airflow.xcom("example_export_then_load", run_id, "export")
    loaded = airflow.xcom("example_export_then_load", run_id, "load")
    assert loaded == [uri for row in rows for uri in row["destination_uris"]]
    assert len(loaded) == 2


def test_example_export_by_hand(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    assert airflow.wait_for_run("example_export_by_hand", runs["example_export_by_hand"]) == "success"
    assert emulator_process.states("by-hand") == ["SUCCEEDED"] * 3


def test_example_export_after(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    assert airflow.wait_for_run("example_export_after", runs["example_export_after"]) == "success"
    assert emulator_process.states("after") == ["SUCCEEDED"] * 3


def test_example_export_year(airflow: AirflowApi, emulator_process: EmulatorClient, runs: Mapping[str, str]) -> None:
    run_id = runs["example_export_year"]
    assert airflow.wait_for_run("example_export_year", run_id, seconds=420) == "success"
    assert emulator_process.states("export-year") == ["SUCCEEDED"] * 2 * MONTHS
    seen = emulator_process.operations("export-year")
    assert _most_at_once(seen) <= 2 * 4, "two exports a month, four months at once"


def _most_at_once(operations: Sequence[Mapping[str, Any]]) -> int:
    begun = [str(op["createTime"]) for op in operations]
    ended = [str(op["endTime"]) for op in operations]
    return max(sum(other <= at for other in begun) - sum(other < at for other in ended) for at in begun)


def test_example_dag_callback(
    airflow: AirflowApi, emulator_process: EmulatorClient, callback_runs: Mapping[str, str]
) -> None:
    run_id = callback_runs["example_dag_callback"]
    tracked = ("example_dag_callback", run_id, "export", "earthengine_operations")
    wait_until("the export", lambda: bool(airflow.xcom(*tracked)), seconds=120)
    pid = airflow.task_pid("example_dag_callback", run_id, "export")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # as the out-of-memory killer does: no callback of the task is called
    assert airflow.wait_for_run("example_dag_callback", run_id) == "failed"
    wait_until(
        "the DAG processor to call back",
        lambda: [op["cancelRequested"] for op in emulator_process.operations("dag-callback")] == [True],
        seconds=60,
    )


def test_example_retry_callback(
    airflow: AirflowApi, emulator_process: EmulatorClient, callback_runs: Mapping[str, str]
) -> None:
    run_id = callback_runs["example_retry_callback"]
    assert airflow.wait_for_run("example_retry_callback", run_id) == "failed"
    operations = emulator_process.operations("retry-callback")
    assert [op["cancelRequested"] for op in operations] == [True, True], "each try's"
    log = airflow.log("example_retry_callback", run_id, "export")
    for operation in operations:
        assert f"{operation['name']}: cancel requested" in log


def test_example_deadline(
    airflow: AirflowApi, emulator_process: EmulatorClient, callback_runs: Mapping[str, str]
) -> None:
    run_id = callback_runs["example_deadline"]
    assert airflow.wait_for_run("example_deadline", run_id) == "failed"
    *before, last = emulator_process.operations("deadline")
    assert last["state"] == "CANCELLED"
    assert {op["state"] for op in before} <= {"SUCCEEDED"}
    assert f"the export of {last['description'].removeprefix('deadline-')} was not completed" in airflow.log(
        "example_deadline", run_id, "export"
    )
