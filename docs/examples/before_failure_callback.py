"""Cancel from on_failure_callback what the task wrote to XCom and to its log."""

import re
import time
from pathlib import Path
from typing import Any

import ee
from airflow.providers.common.compat.sdk import DAG, get_current_context, task

LOGS = Path("/opt/airflow/logs")
TASK_ID = re.compile(r"\b[A-Z0-9]{24}\b")


def cancel_exports(context: Any) -> None:
    ti = context["ti"]
    ids = ti.xcom_pull(task_ids=ti.task_id, key="task_ids") or []
    log = LOGS / f"dag_id={ti.dag_id}/run_id={ti.run_id}/task_id={ti.task_id}/attempt={ti.try_number}.log"
    if log.exists():  # what was started after the push
        ids += TASK_ID.findall(log.read_text())
    ee.Initialize(project="my-project")
    for task_id in ids:
        try:
            ee.data.cancelOperation(f"projects/my-project/operations/{task_id}")
        except ee.EEException as error:
            if "not found" not in str(error):
                raise


with DAG("failure_callback", schedule=None):

    @task(on_failure_callback=cancel_exports)
    def export() -> None:
        ee.Initialize(project="my-project")
        tasks = []
        for year in (2024, 2025):
            started = ee.batch.Export.table.toCloudStorage(
                ee.FeatureCollection([ee.Feature(None, {"year": year})]), description=f"{year}", bucket="my-bucket"
            )
            started.start()
            print("started", started.id)
            tasks.append(started)
        get_current_context()["ti"].xcom_push(key="task_ids", value=[each.id for each in tasks])
        while any(each.active() for each in tasks):
            time.sleep(10)

    export()
