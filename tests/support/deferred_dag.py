"""The DAG of instances that :mod:`tests.support.deferral` puts into Airflow's database."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["TASK_ID", "write_dag"]

TASK_ID: Final = "wait"

_DAG = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor

with DAG("{dag_id}"):
    EarthEngineOperationsSensor.partial(task_id="{task_id}", deferrable=True).expand(operations=[["ONE"], ["TWO"]])
"""


def write_dag(folder: Path, dag_id: str) -> None:
    """Write the file of a DAG of one mapped sensor.

    :param folder: the DAG folder, which is made.
    :param dag_id: its id.
    """
    folder.mkdir()
    (folder / f"{dag_id}.py").write_text(_DAG.format(dag_id=dag_id, task_id=TASK_ID))
