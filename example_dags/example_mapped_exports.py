"""Cancel what every instance of a mapped task started."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task
from exports import start_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START mapped_exports]
with DAG("example_mapped_exports", schedule=None):

    @task
    def export(year: int) -> dict[str, Any]:
        return start_export(f"mapped-{year}").status()

    cancel = EarthEngineCancelOperationsOperator(
        task_id="cancel", xcom_task_ids="export", wait_for_completion=True, poll_interval=2
    )
    export.expand(year=[2022, 2023, 2024]) >> cancel
# [END mapped_exports]
