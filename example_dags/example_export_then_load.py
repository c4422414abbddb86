"""Export, then load what was written: the rows that the export returns say where that is."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from exports import make_export

# [START export_then_load]
with DAG("example_export_then_load", schedule=None):

    @task.earthengine(deferrable=True, retries=2, poll_interval=10)
    def export() -> Any:
        return [make_export(f"then-load-{year}") for year in (2024, 2025)]

    @task
    def load(exports: list[dict[str, Any]]) -> list[str]:
        return [uri for each in exports for uri in each["destination_uris"]]  # hand them to what loads them

    load(export())  # type: ignore[arg-type]
# [END export_then_load]
