"""Cancel what an upstream task returned."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from exports import start_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START cancel_from_xcom]
with DAG("example_cancel_from_xcom", schedule=None):

    @task
    def export() -> list[dict[str, Any]]:
        return [start_export(f"from-xcom-{year}").status() for year in (2024, 2025)]

    EarthEngineCancelOperationsOperator(task_id="cancel", operations=export())
# [END cancel_from_xcom]
