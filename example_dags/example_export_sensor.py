"""Wait for exports to succeed, without holding a worker slot; cancel them if the wait ends otherwise."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task
from exports import start_export

from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor

# [START export_sensor]
with DAG("example_export_sensor", schedule=None):

    @task
    def export() -> list[dict[str, Any]]:
        return [start_export(f"export-sensor-{year}").status() for year in (2024, 2025)]

    # [START wait]
    EarthEngineOperationsSensor(
        task_id="wait",
        operations=export(),
        accepted_states={"SUCCEEDED"},
        deferrable=True,
        poke_interval=10,
        timeout=3600,
        cancel_on_timeout=True,
    )
    # [END wait]
# [END export_sensor]
