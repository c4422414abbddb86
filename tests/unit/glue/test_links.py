"""Links are stored by the task, and read by the page, where there are any."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import Context
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.links import LINKS, EarthEnginePlugin, push_links
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.support.task_instance import FakeTaskInstance

TASKS, TASK_MANAGER = LINKS
CONSOLE = "https://console.cloud.google.com/earth-engine/tasks?project=one"
CODE_EDITOR = "https://code.earthengine.google.com/tasks"


def addresses(ti: FakeTaskInstance) -> list[str]:
    return [link.get_link(cast(Any, None), ti_key=ti) for link in LINKS]


def test_the_links_are_where_the_operations_are(ti: FakeTaskInstance, context: Context) -> None:
    push_links(context, ["projects/one/operations/A", "projects/two/operations/B"])
    assert addresses(ti) == [CONSOLE, CODE_EDITOR]


def test_a_project_stays_in_its_parameter(ti: FakeTaskInstance, context: Context) -> None:
    push_links(context, ["projects/example.com:one/operations/A"])
    assert addresses(ti)[0].endswith("?project=example.com%3Aone")


def test_without_operations_there_is_no_link(ti: FakeTaskInstance, context: Context) -> None:
    push_links(context, [])
    assert addresses(ti) == ["", ""]
    assert ti.xcoms == {}


def test_a_task_that_pushes_nothing_stores_no_link(ti: FakeTaskInstance, context: Context) -> None:
    ti.task.do_xcom_push = False
    push_links(context, ["projects/one/operations/A"])
    assert ti.xcoms == {}


def test_no_task_fails_for_a_link(
    ti: FakeTaskInstance, context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("the XCom backend is down")

    monkeypatch.setattr(ti, "xcom_push", refuse)
    push_links(context, ["projects/one/operations/A"])
    assert "could not be stored" in caplog.text


def test_of_mapped_tasks_each_has_its_own() -> None:
    first, second = FakeTaskInstance(map_index=0), FakeTaskInstance(map_index=1)
    second.xcoms = first.xcoms
    push_links(cast(Context, {"ti": second}), ["projects/one/operations/A"])
    assert addresses(first) == ["", ""]
    assert addresses(second) == [CONSOLE, CODE_EDITOR]


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("task", [EarthEngineCancelOperationsOperator, EarthEngineOperationsSensor])
def test_operator_and_sensor_store_them(
    emulator: Emulator, ti: FakeTaskInstance, context: Context, task: type[Any]
) -> None:
    name = emulator.add_operation("A", run_seconds=0)
    task(task_id="t", operations=name).execute(context)
    assert addresses(ti) == [CONSOLE, CODE_EDITOR]
    assert tuple(task.operator_extra_links) == LINKS


def test_airflow_has_the_links_for_every_other_task() -> None:
    (entry_point,) = entry_points(group="airflow.plugins", name="earthengine")
    assert entry_point.load() is EarthEnginePlugin
    # Airflow 2 would show a dead button on the page of every task that has none.
    assert tuple(EarthEnginePlugin.global_operator_extra_links) == (LINKS if AIRFLOW_V_3_0_PLUS else ())
