"""Cancel what other runs left behind: operations of this pipeline that are older than its longest run."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_eeops.api.selecting import OperationSelector
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START nightly_sweep]
with DAG(
    "example_nightly_sweep",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={
        "longest_run_hours": Param(24, type="number", exclusiveMinimum=0, description="what is younger stays"),
        "validate_only": Param(default=False, type="boolean", description="say what would go, and cancel nothing"),
    },
):
    EarthEngineCancelOperationsOperator(
        task_id="sweep",
        selector=OperationSelector(
            description="nightly-*",  # the exports of this pipeline, which begin so, and nobody else's
            older_than="{{ params.longest_run_hours * 3600 }}",
        ),
        max_operations=50,
        validate_only="{{ params.validate_only }}",
        wait_for_completion=True,
        poll_interval=10,
    )
# [END nightly_sweep]
