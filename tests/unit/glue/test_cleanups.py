"""Which cancelling tasks a failure keeps from running, and that the log of the task that fails says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, BaseOperator, Context

from airflow_provider_eeops.cleanups import tasks_that_do_not_run, warn_of_cleanups_that_do_not_run
from airflow_provider_eeops.exceptions import NotConfirmedError
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.support.task_instance import FakeTaskInstance


def cancel(**parameters: Any) -> EarthEngineCancelOperationsOperator:
    return EarthEngineCancelOperationsOperator(task_id="cancel", xcom_task_ids="export", **parameters)


def mapped() -> Any:
    return EarthEngineCancelOperationsOperator.partial(task_id="cancel").expand(operations=["A", "B"])


def other(**parameters: Any) -> BaseOperator:
    return BaseOperator(task_id="other", **parameters)


CASES: list[tuple[str, Callable[[BaseOperator], object], dict[str, str]]] = [
    ("the default rule", lambda export: export >> cancel(), {"cancel": "all_success"}),
    ("mapped", lambda export: export >> mapped(), {"cancel": "all_success"}),
    ("none_failed", lambda export: export >> cancel(trigger_rule="none_failed"), {"cancel": "none_failed"}),
    ("all_done", lambda export: export >> cancel(trigger_rule="all_done"), {}),
    ("one_failed", lambda export: export >> cancel(trigger_rule="one_failed"), {}),
    ("a teardown", lambda export: export >> cancel().as_teardown(), {}),
    (
        "a teardown of which it is the setup",
        lambda export: export >> cancel().as_teardown(setups=export),
        {"cancel": "all_done_setup_success"},
    ),
    ("after one that does not run", lambda export: export >> other() >> cancel(), {"cancel": "all_success"}),
    ("after one that does not run, all_done", lambda export: export >> other() >> cancel(trigger_rule="all_done"), {}),
    ("after one that runs", lambda export: export >> other(trigger_rule="all_done") >> cancel(), {}),
    ("nothing of ours", lambda export: export >> other(), {}),
    ("before it", lambda export: cancel() >> export, {}),
]


@pytest.mark.parametrize(("arrange", "found"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_does_not_run(arrange: Callable[[BaseOperator], object], found: dict[str, str]) -> None:
    with DAG("dag", schedule=None):
        export = BaseOperator(task_id="export")
        arrange(export)
    assert tasks_that_do_not_run(export) == found


def test_what_cannot_be_looked_at_hides_no_error() -> None:
    warn_of_cleanups_that_do_not_run(BaseOperator(task_id="without_a_dag"))


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("is_skipped", [False, True])
def test_a_sensor_that_fails_says_so(caplog: pytest.LogCaptureFixture, *, is_skipped: bool) -> None:
    with DAG("dag", schedule=None):
        wait = EarthEngineOperationsSensor(task_id="export", operations="NONE", never_fail=is_skipped)
        wait >> cancel()
    ti = FakeTaskInstance("export")
    ti.task = wait
    with pytest.raises(AirflowSkipException if is_skipped else NotConfirmedError):
        wait.execute(cast(Context, {"ti": ti}))
    assert ("Task cancel does not run when this one fails" in caplog.text) is not is_skipped
