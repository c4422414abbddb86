"""Makes the exports of the example DAGs with Google's own client (pip install earthengine-api)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

if TYPE_CHECKING:
    import ee

__all__ = ["make_export", "new_export", "start_export"]


def make_export(description: str) -> ee.batch.Task:
    """Make an export, as an Earth Engine task that is not started yet, where ee is initialised.

    :param description: what Earth Engine's task list shows.
    """
    import ee

    return ee.batch.Export.image.toCloudStorage(
        image=ee.Image.constant(1),
        description=description,
        bucket="example-bucket",
        region=ee.Geometry.Rectangle([7.0, 46.0, 7.1, 46.1]),
        scale=100,
    )


def new_export(description: str) -> ee.batch.Task:
    """Initialise ee, and make an export.

    :param description: what Earth Engine's task list shows.
    """
    import ee

    hook = EarthEngineOperationsHook()
    ee.Initialize(hook.credentials, project=hook.project_id, url=hook.base_url)
    return make_export(description)


def start_export(description: str) -> ee.batch.Task:
    """Make an export and start it.

    :param description: what Earth Engine's task list shows.
    """
    task = new_export(description)
    task.start()
    return task
