"""The same as example_export_by_hand with this package."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from exports import make_export

# [START after]
with DAG("example_export_after", schedule=None):

    @task.earthengine(deferrable=True, retries=2)
    def export() -> Any:
        return [make_export(f"after-{month}") for month in range(1, 4)]

    export()
# [END after]
