"""Export a year, month by month; a pool says how many months are under way."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from exports import make_export

# [START export_year]
# airflow pools set earthengine_exports 4 "Exports under way" --include-deferred
with DAG("example_export_year", schedule=None):

    @task.earthengine(deferrable=True, retries=2, poll_interval=10, pool="earthengine_exports")
    def export(month: int) -> Any:
        return [make_export(f"export-year-{month:02}-{band}") for band in ("ndvi", "evi")]

    export.expand(month=list(range(1, 13)))
# [END export_year]
