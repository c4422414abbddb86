"""Cancel, and wait in the triggerer until every cancellation is confirmed."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from exports import start_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START deferrable_confirm]
with DAG("example_deferrable_confirm", schedule=None):

    @task
    def export() -> list[dict[str, Any]]:
        return [start_export(f"deferrable-confirm-{year}").status() for year in (2024, 2025)]

    EarthEngineCancelOperationsOperator(
        task_id="cancel", operations=export(), deferrable=True, timeout=600, poll_interval=10
    )
# [END deferrable_confirm]
