"""Starts the exports of the example DAGs with Google's own client (pip install earthengine-api)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

if TYPE_CHECKING:
    import ee

__all__ = ["start_export"]


def start_export(description: str) -> ee.batch.Task:
    """Start one export and return its Earth Engine task.

    :param description: what Earth Engine's task list shows.
    """
    import ee

    hook = EarthEngineOperationsHook()
    ee.Initialize(hook.credentials, project=hook.project_id, url=hook.base_url)
    task = ee.batch.Export.image.toCloudStorage(
        image=ee.Image.constant(1),
        description=description,
        bucket="example-bucket",
        region=ee.Geometry.Rectangle([7.0, 46.0, 7.1, 46.1]),
        scale=100,
    )
    task.start()
    return task
