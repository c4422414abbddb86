"""Own the exports from start to end: when the task dies, their cancellation is requested; a sensor then confirms it."""

from __future__ import annotations

from datetime import timedelta
from time import sleep

from airflow.providers.common.compat.sdk import DAG, task
from exports import new_export

from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from airflow_provider_eeops.tracking import track_operations

# [START track_exports]
with DAG("example_track_exports", schedule=None):

    @task(execution_timeout=timedelta(seconds=15))
    def export() -> None:
        # [START track]
        with track_operations() as tracker:
            exports = [new_export(f"track-exports-{year}") for year in range(2020, 2025)]
            for each in exports:
                tracker.start(each)
            while any(each.active() for each in exports):
                sleep(2)
            if any(each.status()["state"] != "COMPLETED" for each in exports):
                raise RuntimeError("not every export completed")
        # [END track]

    confirm = EarthEngineOperationsSensor(
        task_id="confirm",
        operations="{{ ti.xcom_pull(task_ids='export', key='earthengine_operations') }}",
        if_empty="ignore",  # the export may die before its first start
        deferrable=True,
        poke_interval=10,
        timeout=300,
    )
    # A teardown runs however the export ended, and leaves the run's state to the export.
    export() >> confirm.as_teardown()
# [END track_exports]
