"""200 sensors, mapped over what one export task started."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.distributed.tasks import export

with DAG("many_waits", schedule=None):
    EarthEngineOperationsSensor.partial(
        task_id="wait",
        deferrable=True,
        poke_interval=10,
        timeout=3600,
        retries=2,
        retry_delay=timedelta(seconds=1),
    ).expand_kwargs(task(task_id="export")(export)())
