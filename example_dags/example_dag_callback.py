"""Cancel from the DAG's on_failure_callback: Airflow calls it too when the process of a task was killed."""

from __future__ import annotations

from time import sleep

from airflow.providers.common.compat.sdk import DAG, task
from exports import new_export

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.tracking import track_operations

# [START dag_callback]
with DAG("example_dag_callback", schedule=None, on_failure_callback=EarthEngineCancelOperationsNotifier()):

    @task
    def export() -> None:
        with track_operations() as tracker:
            started = new_export("dag-callback")
            tracker.start(started)
            while started.active():
                sleep(2)

    export()
# [END dag_callback]
