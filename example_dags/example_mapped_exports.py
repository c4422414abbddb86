"""Cancel what every instance of a mapped task started."""

from __future__ import annotations

from airflow.sdk import DAG, task
from exports import start_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START mapped_exports]
with DAG("example_mapped_exports"):

    @task
    def export(year: int) -> str:
        return start_export(f"mapped-{year}").name

    cancel = EarthEngineCancelOperationsOperator(
        task_id="cancel", xcom_task_ids="export", wait_for_completion=True, poll_interval=2
    )
    export.expand(year=[2022, 2023, 2024]) >> cancel
# [END mapped_exports]
