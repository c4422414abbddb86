"""Owner: our sensor with cancel_on_timeout."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor


def sensor(**arguments: Any) -> EarthEngineOperationsSensor:
    """Return the owner."""
    return EarthEngineOperationsSensor(
        task_id="work",
        operations="{{ dag_run.conf['operations'] }}",
        cancel_on_timeout=True,
        **{"poke_interval": 2, "timeout": 3600, **arguments},
    )


for prefix, deferrable in (("sensor", False), ("deferred", True)):
    with DAG(f"{prefix}_cancels", schedule=None):
        sensor(deferrable=deferrable)
    with DAG(f"{prefix}_timeout_cancels", schedule=None):
        sensor(deferrable=deferrable, timeout=15)
    with DAG(f"{prefix}_polls_fail_cancels", schedule=None):
        sensor(deferrable=deferrable, poll_failure_limit=2, earthengine_conn_id="earthengine_hasty")
