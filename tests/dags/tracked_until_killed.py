"""A task that tracks an operation and then works until it is told to stop, without a cleanup that could be first."""

from __future__ import annotations

from time import sleep

from airflow.providers.common.compat.sdk import DAG, task
from exports import start_export

from airflow_provider_eeops.tracking import track_operations

with DAG("tracked_until_killed", schedule=None):

    @task
    def export() -> None:
        with track_operations() as tracker:
            tracker.add(start_export("tracked-until-killed"))
            for _ in range(240):
                sleep(0.5)

    export()
