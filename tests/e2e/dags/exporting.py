"""Owner: a task that returns exports, which are started, waited for and cancelled for it."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from tests.e2e.starting import exports, leave

DAG_TIMEOUT = timedelta(seconds=30)
LIMIT = timedelta(seconds=15)
SHORTLY = timedelta(seconds=1)


def work(**arguments: Any) -> Any:
    """Return the owner; it asks often, so that the suite need not wait."""
    return task.earthengine(task_id="work", **{"initialize": False, "poll_interval": 2, **arguments})(exports)()


def exporting(dag_id: str, *, task_arguments: dict[str, Any] | None = None, **dag_arguments: Any) -> None:
    """Make a DAG with the owner, and a sibling that has succeeded, whose operations go on."""
    with DAG(dag_id, schedule=None, **dag_arguments):
        task(task_id="sibling")(leave)() >> work(**(task_arguments or {}))


for prefix, deferrable in (("exporting", False), ("exporting_deferred", True)):
    how: dict[str, Any] = {"deferrable": deferrable}
    exporting(prefix, task_arguments=how)
    exporting(f"{prefix}_execution_timeout", task_arguments={**how, "execution_timeout": LIMIT})
    exporting(f"{prefix}_dagrun_timeout", task_arguments=how, dagrun_timeout=DAG_TIMEOUT)
    exporting(f"{prefix}_timeout", task_arguments={**how, "timeout": LIMIT})
    exporting(f"{prefix}_retry", task_arguments={**how, "retries": 1, "retry_delay": SHORTLY})

exporting(
    "exporting_execution_timeout_retry",
    task_arguments={"execution_timeout": timedelta(seconds=70), "retries": 1, "retry_delay": SHORTLY},
)
exporting("exporting_restart", task_arguments={"retries": 1, "retry_delay": SHORTLY, "on_retry": "restart"})
exporting("exporting_dag_callback", on_failure_callback=EarthEngineCancelOperationsNotifier())
exporting("exporting_task_callback", task_arguments={"on_failure_callback": EarthEngineCancelOperationsNotifier()})

with DAG("exporting_cleanup", schedule=None):
    cleanup = EarthEngineCancelOperationsOperator(
        task_id="cleanup",
        xcom_task_ids="work",
        wait_for_completion=True,
        poll_interval=1,
        retries=3,
        retry_delay=SHORTLY,
    )
    task(task_id="sibling")(leave)() >> work() >> cleanup.as_teardown()

if find_spec("airflow.sdk") is not None:
    from airflow.sdk.definitions.deadline import (  # type: ignore[attr-defined] # where 3.1 has it
        AsyncCallback,
        DeadlineAlert,
        DeadlineReference,
    )

    exporting(
        "exporting_deadline",
        deadline=DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=30),
            callback=AsyncCallback(EarthEngineCancelOperationsNotifier),
        ),
    )
