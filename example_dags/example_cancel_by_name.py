"""Cancel operations by name: trigger it with the names, as a person on call would."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator

# [START cancel_by_name]
with DAG(
    "example_cancel_by_name",
    schedule=None,
    params={"operations": Param([], type="array", description="projects/PROJECT/operations/ID, one a line")},
):
    EarthEngineCancelOperationsOperator(
        task_id="cancel",
        operations="{{ params.operations }}",
        if_empty="fail",
        wait_for_completion=True,
        timeout=300,
        poll_interval=2,
    )
# [END cancel_by_name]
