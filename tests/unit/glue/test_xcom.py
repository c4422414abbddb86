from __future__ import annotations

import sys

import pytest
from airflow.sdk.execution_time import task_runner

from airflow_provider_eeops.exceptions import EarthEngineError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.instances import Instance, Run
from airflow_provider_eeops.xcom import pull_from_instance, pull_recorded, task_states, unknown_task
from tests.support.supervisor import FakeSupervisor

RUN = Run("dag", "run")
NAMES = [f"projects/one/operations/{letter}" for letter in "ABC"]


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> FakeSupervisor:
    supervisor = FakeSupervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


def test_what_one_instance_recorded(supervisor: FakeSupervisor) -> None:
    supervisor.add("export", "failed", NAMES[0])
    supervisor.add("export", "failed", NAMES[1], map_index=1)
    pulled = [pull_recorded(RUN, Instance("export", index)) for index in (-1, 0, 1)]
    assert pulled == [NAMES[0], None, NAMES[1]]


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(
    ("returned", "tracked", "names", "invalid"),
    [
        (NAMES[0], None, [NAMES[0]], 0),
        ("no operation!", None, [], 1),
        (NAMES[0], [NAMES[1]], NAMES[:2], 0),
        ("no operation!", [NAMES[1]], [NAMES[1]], 0),
        ("no operation!", [], [], 0),
        (None, None, [], 0),
    ],
)
def test_what_one_instance_recorded_or_returned(
    supervisor: FakeSupervisor, returned: object, tracked: object, names: list[str], invalid: int
) -> None:
    supervisor.add("export", "failed", tracked)
    supervisor.xcoms["export", -1, "return_value"] = returned
    with EarthEngineOperationsHook() as hook:
        parsed = pull_from_instance(RUN, Instance("export"), hook=hook)
    assert (parsed.names, len(parsed.invalid)) == (names, invalid)


def test_states_of_all_tasks_and_of_some(supervisor: FakeSupervisor) -> None:
    assert task_states(RUN) == {}
    supervisor.add("export", "failed", map_index=3)
    supervisor.add("other", None)
    assert task_states(RUN) == {"export_3": "failed", "other": None}
    assert task_states(RUN, ["other"]) == {"other": None}


def test_an_airflow_that_cannot_be_asked_for_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.sdk.execution_time.task_runner", None)
    with pytest.raises(EarthEngineError, match=r"Airflow before 3.0 has no way .*: give operations"):
        task_states(RUN)


def test_a_task_id_that_names_no_task() -> None:
    assert str(unknown_task("exprt", ["export", "group.export"], where="run r")) == (
        "xcom_task_ids names 'exprt': run r has no such task; did you mean 'export' or 'group.export'?"
    )
    assert str(unknown_task("x", ["export"], where="run r")) == "xcom_task_ids names 'x': run r has no such task"
    assert str(unknown_task(7, [], where="run r")) == "xcom_task_ids holds a int: give task ids, as text"
