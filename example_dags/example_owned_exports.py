"""Exports that outlive their task's execution_timeout: it cancels them; a teardown confirms that they have ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from exports import make_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START owned_exports]
with DAG("example_owned_exports", schedule=None):

    @task.earthengine(execution_timeout=timedelta(seconds=15), poll_interval=2)
    def export() -> Any:
        return [make_export(f"owned-exports-{year}") for year in range(2020, 2025)]

    # For what the task cannot do when its process is killed; then also those whose start had no answer.
    confirm = EarthEngineCancelOperationsOperator(
        task_id="confirm", xcom_task_ids="export", wait_for_completion=True, timeout=300, poll_interval=2
    )
    export() >> confirm.as_teardown()
# [END owned_exports]
