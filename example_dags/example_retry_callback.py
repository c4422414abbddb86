"""Cancel from on_retry_callback: what a try leaves is asked to cancel before the next one starts, if there is time."""

from __future__ import annotations

from datetime import timedelta
from time import sleep

from airflow.providers.common.compat.sdk import DAG, get_current_context, task
from exports import start_export

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier

# [START retry_callback]
cancel = EarthEngineCancelOperationsNotifier()

with DAG("example_retry_callback", schedule=None):

    @task(
        retries=1,
        # The callback may need some seconds, and comes too late after the next start.
        retry_delay=timedelta(seconds=20),
        execution_timeout=timedelta(seconds=15),
        on_retry_callback=cancel,
        on_failure_callback=cancel,
    )
    def export() -> None:
        started = start_export("retry-callback")
        get_current_context()["ti"].xcom_push(key="earthengine_operations", value=started.name)
        while started.active():
            sleep(2)

    export()
# [END retry_callback]
