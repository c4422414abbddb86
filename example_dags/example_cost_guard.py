"""Cancel every operation of the project that has used more compute than it may, whoever started it."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_eeops.api.selecting import OperationSelector
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START cost_guard]
with DAG(
    "example_cost_guard",
    schedule="*/10 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "eecu_hours": Param(
            100, type="number", exclusiveMinimum=0, description="cancel what has used as many, or more"
        ),
        "validate_only": Param(default=False, type="boolean", description="say what would go, and cancel nothing"),
    },
):
    EarthEngineCancelOperationsOperator(
        task_id="cancel",
        selector=OperationSelector(states=["RUNNING"], min_eecu_seconds="{{ params.eecu_hours * 3600 }}"),
        max_operations=20,
        validate_only="{{ params.validate_only }}",
    )
# [END cost_guard]
