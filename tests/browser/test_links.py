"""The links on the page of a task, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import visiting
from tests.browser.pages import TaskPage, log_in
from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow

pytestmark = pytest.mark.e2e

DAG = "example_cancel_by_name"


def test_the_page_of_a_task_links_to_earth_engines(
    airflow: LocalAirflow, earth_engine: EmulatorClient, tmp_path: Path, pictures: Path
) -> None:
    name = earth_engine.add_operation(description="linked", run_seconds=600, cancel_seconds=0)
    run_id = airflow.trigger(DAG, {"operations": [name]})
    assert airflow.wait_for_run(DAG, run_id) == "success"
    with visiting(tmp_path) as visit:
        log_in(visit.page, airflow.url, airflow.password)
        task = TaskPage(visit.page, airflow.url)
        task.open(DAG, run_id, "cancel")
        assert task.links() == {
            "Earth Engine tasks (Cloud Console)": (
                f"https://console.cloud.google.com/earth-engine/tasks?project={earth_engine.project}"
            ),
            "Earth Engine Task Manager": "https://code.earthengine.google.com/tasks",
        }
        visit.page.screenshot(path=pictures / "task-links.png", animations="disabled")
