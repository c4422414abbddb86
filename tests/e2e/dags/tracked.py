"""Owner: a Python task that uses track_operations. Beside it a sibling that has succeeded, whose operations go on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from tests.e2e.starting import hold, leave


def tracked(dag_id: str, *, task_arguments: dict[str, Any] | None = None, **dag_arguments: Any) -> DAG:
    """Return a DAG with both."""
    with DAG(dag_id, schedule=None, **dag_arguments) as dag:
        task(task_id="sibling")(leave)() >> task(task_id="work", **(task_arguments or {}))(hold)()
    return dag


SHORTLY = timedelta(seconds=1)

tracked("tracked")
tracked("tracked_execution_timeout", task_arguments={"execution_timeout": timedelta(seconds=8)})
tracked("tracked_execution_timeout_long", task_arguments={"execution_timeout": timedelta(seconds=20)})
tracked(
    "tracked_execution_timeout_retry",
    task_arguments={"execution_timeout": timedelta(seconds=8), "retries": 1, "retry_delay": SHORTLY},
)
tracked("tracked_dagrun_timeout", dagrun_timeout=timedelta(seconds=30))
tracked("tracked_retry", task_arguments={"retries": 1, "retry_delay": SHORTLY})

with DAG("tracked_cleanup", schedule=None):
    cleanup = EarthEngineCancelOperationsOperator(
        task_id="cleanup",
        xcom_task_ids="work",
        wait_for_completion=True,
        poll_interval=1,
        retries=3,
        retry_delay=SHORTLY,
    )
    task(task_id="sibling")(leave)() >> task(task_id="work")(hold)() >> cleanup.as_teardown()

with DAG("tracked_many", schedule=None):
    task(task_id="sibling")(leave)() >> task(task_id="work")(hold).expand(index=list(range(6)))
