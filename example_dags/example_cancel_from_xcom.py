"""Cancel what an upstream task returned."""

from __future__ import annotations

from airflow.sdk import DAG, task
from exports import start_export

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START cancel_from_xcom]
with DAG("example_cancel_from_xcom"):

    @task
    def export() -> list[str]:
        return [start_export(f"from-xcom-{year}").name for year in (2024, 2025)]

    EarthEngineCancelOperationsOperator(task_id="cancel", operations=export())
# [END cancel_from_xcom]
