"""Cancel from on_failure_callback: for tasks that push the names themselves."""

from __future__ import annotations

from datetime import timedelta
from time import sleep

from airflow.providers.common.compat.sdk import DAG, get_current_context, task
from exports import start_export

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier

# [START failure_callback]
with DAG("example_failure_callback", schedule=None):

    @task(
        execution_timeout=timedelta(seconds=10),
        on_failure_callback=EarthEngineCancelOperationsNotifier(),
    )
    def export() -> None:
        started = start_export("failure-callback")
        get_current_context()["ti"].xcom_push(key="earthengine_operations", value=started.name)
        while started.active():
            sleep(2)

    export()
# [END failure_callback]
