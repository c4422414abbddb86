"""Wait for exports to succeed, without holding a worker slot; a teardown cancels what is left, however it ended."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task
from exports import new_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from airflow_provider_eeops.tracking import track_operations

# [START export_sensor]
with DAG("example_export_sensor", schedule=None):

    @task
    def export() -> list[str]:
        with track_operations() as tracker:
            for year in (2024, 2025):
                tracker.start(new_export(f"export-sensor-{year}"))
        return tracker.names

    # [START wait]
    wait = EarthEngineOperationsSensor(
        task_id="wait",
        operations=export(),
        accepted_states={"SUCCEEDED"},
        deferrable=True,
        poke_interval=10,
        timeout=3600,
        cancel_on_timeout=True,
    )
    cancel = EarthEngineCancelOperationsOperator(task_id="cancel", xcom_task_ids=["export", "wait"], retries=5)
    # Behind the sensor: right behind the export it would cancel what the sensor waits for.
    wait >> cancel.as_teardown()
    # [END wait]
# [END export_sensor]
