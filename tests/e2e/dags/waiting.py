"""Owner: our sensor, or our operator while it waits. The operations were started by the test, or by an export task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.e2e.starting import return_started

GIVEN = "{{ dag_run.conf['operations'] }}"
DAG_TIMEOUT = timedelta(seconds=30)
LIMIT = timedelta(seconds=15)


def sensor(operations: Any = GIVEN, **arguments: Any) -> EarthEngineOperationsSensor:
    """Return the owner; it asks often, so that the suite need not wait."""
    return EarthEngineOperationsSensor(
        task_id="work", operations=operations, **{"poke_interval": 2, "timeout": 3600, **arguments}
    )


for prefix, deferrable in (("sensor", False), ("deferred", True)):
    with DAG(prefix, schedule=None):
        sensor(deferrable=deferrable)
    with DAG(f"{prefix}_execution_timeout", schedule=None):
        sensor(deferrable=deferrable, execution_timeout=LIMIT)
    with DAG(f"{prefix}_dagrun_timeout", schedule=None, dagrun_timeout=DAG_TIMEOUT):
        sensor(deferrable=deferrable)
    with DAG(f"{prefix}_polls_fail", schedule=None):
        sensor(deferrable=deferrable, poll_failure_limit=2, earthengine_conn_id="earthengine_hasty")
    with DAG(f"{prefix}_after_export", schedule=None):
        sensor(task(task_id="export")(return_started)(), deferrable=deferrable)
    with DAG(f"{prefix}_cleanup", schedule=None):
        cleanup = EarthEngineCancelOperationsOperator(
            task_id="cleanup",
            operations=GIVEN,
            wait_for_completion=True,
            poll_interval=1,
            retries=3,
            retry_delay=timedelta(seconds=1),
        )
        sensor(deferrable=deferrable) >> cleanup.as_teardown()

for prefix, deferrable in (("operator", False), ("operator_deferred", True)):
    with DAG(prefix, schedule=None):
        EarthEngineCancelOperationsOperator(
            task_id="work", operations=GIVEN, wait_for_completion=True, deferrable=deferrable, poll_interval=2
        )
