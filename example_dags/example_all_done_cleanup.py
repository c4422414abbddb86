"""Clean up after a task that died, however it died: the names are in XCom from the moment of each start."""

from __future__ import annotations

from time import sleep

from airflow.providers.common.compat.sdk import DAG, task
from exports import new_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.tracking import track_operations

# [START all_done_cleanup]
with DAG("example_all_done_cleanup", schedule=None):

    @task
    def export() -> None:
        with track_operations() as tracker:
            exported = new_export("all-done-cleanup")
            tracker.start(exported)
            while exported.active():
                sleep(2)
            if exported.status()["state"] != "COMPLETED":
                raise RuntimeError("the export did not complete")

    # [START cleanup]
    cancel = EarthEngineCancelOperationsOperator(
        task_id="cancel",
        xcom_task_ids="export",
        wait_for_completion=True,
        poll_interval=2,
        retries=5,  # Earth Engine, or the way to it, may be down for longer than one try lasts
    )
    # A teardown without setups has the trigger rule all_done, and leaves the run's state to the export.
    export() >> cancel.as_teardown()
    # [END cleanup]
# [END all_done_cleanup]
