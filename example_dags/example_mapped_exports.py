"""Cancel what every instance of a mapped task started."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task
from exports import new_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.tracking import track_operations

# [START mapped_exports]
with DAG("example_mapped_exports", schedule=None):

    @task
    def export(year: int) -> None:
        with track_operations() as tracker:
            tracker.start(new_export(f"mapped-{year}"))

    cancel = EarthEngineCancelOperationsOperator(
        task_id="cancel", xcom_task_ids="export", wait_for_completion=True, poll_interval=2
    )
    # A teardown runs also when an instance failed.
    export.expand(year=[2022, 2023, 2024]) >> cancel.as_teardown()
# [END mapped_exports]
