"""Start an export, wait for it without holding a worker slot, and own it until it has ended."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

# [START export]
with DAG("example_export", schedule=None):

    @task.earthengine(deferrable=True, retries=2, poll_interval=10)
    def export() -> Any:
        import ee

        return ee.batch.Export.image.toCloudStorage(
            image=ee.Image.constant(1),
            description="export",
            bucket="example-bucket",
            region=ee.Geometry.Rectangle([7.0, 46.0, 7.1, 46.1]),
            scale=100,
        )

    export()
# [END export]
