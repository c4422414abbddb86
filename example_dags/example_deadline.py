"""Cancel from a Deadline Alert (Airflow 3.2 or later): what a late run has running is asked to cancel."""

from __future__ import annotations

from datetime import timedelta
from time import sleep

from airflow.providers.common.compat.sdk import DAG, task
from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]
from exports import new_export

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.tracking import track_operations

# [START deadline]
with DAG(
    "example_deadline",
    schedule=None,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=60),
        callback=AsyncCallback(EarthEngineCancelOperationsNotifier),
    ),
):

    @task
    def export() -> None:
        with track_operations() as tracker:
            for year in range(2020, 2025):
                started = new_export(f"deadline-{year}")
                tracker.start(started)
                while started.active():
                    sleep(2)
                if started.status()["state"] != "COMPLETED":
                    raise RuntimeError(f"the export of {year} was not completed")

    export()
# [END deadline]
