"""Tasks that own operations while they run: with a retry, with a teardown behind them, and one for each own queue."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from tests.distributed.plan import STOPPED
from tests.distributed.tasks import hold

with DAG("held_retry", schedule=None):
    task(task_id="hold", retries=1, retry_delay=timedelta(seconds=1))(hold)()

with DAG("held_teardown", schedule=None):
    cleanup = EarthEngineCancelOperationsOperator(
        task_id="cleanup", xcom_task_ids="hold", wait_for_completion=True, poll_interval=1, retries=3
    )
    task(task_id="hold")(hold)() >> cleanup.as_teardown()

for queue in STOPPED:
    with DAG(f"held_{queue}", schedule=None):
        task(task_id="hold", queue=queue)(hold)()
