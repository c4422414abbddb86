"""Metrics as a StatsD server receives them from a real Airflow's tasks and triggerer, and its task logs as JSON."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.observing import METRICS
from tests.support.airflow_environment import airflow_environment
from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import wait_until
from tests.support.statsd import StatsdServer
from tests.support.versions import IS_AIRFLOW_2

pytestmark = pytest.mark.e2e


def lines(airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str) -> Iterator[Mapping[str, Any]]:
    """The lines of the logs of a task, its triggers' too; Airflow 2 writes text."""
    for line in airflow.log(dag_id, run_id, task_id).splitlines():
        if IS_AIRFLOW_2:
            yield {"event": line.partition(" - ")[2]}
        elif line:  # one log ends, the next begins
            yield json.loads(line)


def fields(line: Mapping[str, Any]) -> dict[str, Any]:
    """What we give a line; the rest is Airflow's."""
    ours = inspect.signature(log_fields).parameters
    return {name: value for name, value in line.items() if name in ours}


def check(logged: list[Mapping[str, Any]], event: str, expected: Mapping[str, Any]) -> None:
    """One line begins so, and has these fields, where lines have fields."""
    found = [line for line in logged if str(line["event"]).startswith(event)]
    assert len(found) == 1, (event, [line["event"] for line in logged])
    assert IS_AIRFLOW_2 or {**fields(found[0]), **expected} == fields(found[0])


def test_a_task_that_waits(airflow: LocalAirflow, emulator_process: EmulatorClient, statsd: StatsdServer) -> None:
    before = {metric.name: len(statsd.samples(metric.name)) for metric in METRICS}
    live = {"run_seconds": 600, "cancel_seconds": 15}  # none is confirmed before the wait
    names = [emulator_process.add_operation(description="observed", **live) for _ in range(2)]
    emulator_process.add_fault(method="cancel", status=429, headers={"Retry-After": "2"}, name=names[0])
    run_id = airflow.trigger("example_cancel_by_name", {"operations": names})
    assert airflow.wait_for_run("example_cancel_by_name", run_id) == "success"
    wait_until(
        "the metrics",
        lambda: all(len(statsd.samples(name)) > count for name, count in before.items() if name != "eeops.pace_waits"),
        seconds=30,
    )
    sent = {metric.name: statsd.samples(metric.name)[before[metric.name] :] for metric in METRICS}
    assert [each.value for each in sent["eeops.cancels_requested"]] == [1, 1]
    outcomes = {each.tags["outcome"]: each.value for each in sent["eeops.outcomes"]}
    assert outcomes == {"cancel_requested": 2, "cancelled": 2}
    (retry,) = sent["eeops.retries"]
    assert retry.tags == {"http_status": "429", "project": "test-project"}
    (held,) = sent["eeops.rate_limit_waits"]
    assert (held.kind, held.value) == ("ms", 2000)
    assert "get" in {each.tags["method"] for each in sent["eeops.polls"]}
    took = sent["eeops.time_to_confirmation"]
    assert [each.tags for each in took] == [{"outcome": "cancelled", "project": "test-project"}] * 2
    assert all(each.kind == "ms" and each.value > 0 for each in took)

    logged = list(lines(airflow, "example_cancel_by_name", run_id, "cancel"))
    check(logged, "2 operations: 2 cancelled", {"operations": 2, "counts": {"cancelled": 2}})
    check(logged, "2 operations: 2 cancel requested", {"operations": 2, "counts": {"cancel_requested": 2}})
    for name in names:
        check(logged, f"{name}: CANCELLED", {"operation": name, "project": "test-project", "state": "CANCELLED"})
    (slowed,) = [str(line["event"]) for line in logged if "All requests wait 2.0 s" in line["event"]]
    check(logged, slowed, {"operation": names[0], "project": "test-project", "http_status": 429, "seconds": 2.0})


def test_a_task_that_waits_in_the_triggerer(airflow: LocalAirflow, statsd: StatsdServer) -> None:
    before = len(statsd.samples("eeops.time_to_confirmation"))
    dag_id = "example_deferrable_confirm"
    run_id = airflow.trigger(dag_id)
    assert airflow.wait_for_run(dag_id, run_id) == "success"
    # Of these the task itself knows nothing: the emulator takes two seconds to cancel.
    took = statsd.samples("eeops.time_to_confirmation")[before:]
    assert [each.tags["outcome"] for each in took] == ["cancelled"] * 2
    names = [operation["name"] for operation in airflow.xcom(dag_id, run_id, "cancel")["operations"]]
    logged = list(lines(airflow, dag_id, run_id, "cancel"))
    for name in names:
        check(logged, f"{name}: CANCELLED", {"operation": name})
    check(logged, "2 operations: 2 cancelled", {"operations": 2, "counts": {"cancelled": 2}})


def test_a_command_that_ends_at_once_sends_what_it_has(
    emulator_process: EmulatorClient, statsd: StatsdServer, tmp_path: Path
) -> None:
    project, before = emulator_process.project, statsd.total("eeops.cancels_requested")
    name = emulator_process.add_operation(description="observed", run_seconds=600)
    connections = {"earthengine_default": emulator_process.connection_extras}
    env = airflow_environment(tmp_path, tmp_path, "http://127.0.0.1:1", connections) | statsd.settings
    command = [sys.executable, "-m", "airflow_provider_eeops", "cancel", name, "--yes"]
    subprocess.run(command, env=env, check=True, timeout=120)
    wait_until("the metric", lambda: statsd.total("eeops.cancels_requested", project=project) > before, seconds=5)


def test_a_task_that_is_killed(airflow: LocalAirflow, emulator_process: EmulatorClient, statsd: StatsdServer) -> None:
    dag_id = "tracked_until_killed"
    before = statsd.total("eeops.cancels_requested")
    run_id = airflow.trigger(dag_id)
    wait_until("the export", lambda: "Recorded projects/" in airflow.log(dag_id, run_id, "export"), seconds=120)
    (name,) = airflow.xcom(dag_id, run_id, "export", "earthengine_operations")
    airflow.mark_failed(dag_id, run_id, "export")
    wait_until(
        "the cancel",
        lambda: any(record["name"] == name for record in emulator_process.requests("cancel")),
        seconds=60,
    )
    assert airflow.wait_for_run(dag_id, run_id) == "failed"
    wait_until("the metric", lambda: statsd.total("eeops.cancels_requested") == before + 1, seconds=30)
    logged = list(lines(airflow, dag_id, run_id, "export"))
    expected = {"operation": name, "project": "test-project", "outcome": "cancel_requested"}
    check(logged, f"{name}: cancel requested", expected)
    check(logged, "The task is being killed.", {"operations": 1})
