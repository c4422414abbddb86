from __future__ import annotations

import sys
from importlib import import_module

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.instances import Instance, Run
from airflow_provider_eeops.xcom import pull_from_instance, pull_from_tasks, pull_recorded, task_states, unknown_task
from tests.support.supervisor import FakeSupervisor
from tests.support.task_instance import FakeTaskInstance

RUN = Run("dag", "run")
NAMES = [f"projects/one/operations/{letter}" for letter in "ABC"]


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> FakeSupervisor:
    supervisor = FakeSupervisor()
    supervisor.install(monkeypatch)
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


def test_states_are_read_from_the_database_where_airflow_2_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE task_instance (dag_id, run_id, task_id, map_index, state)"))
        rows = [
            ("dag", "run", "export", -1, "success"),
            ("dag", "run", "mapped", 0, "running"),
            ("dag", "run", "mapped", 1, None),
            ("dag", "other", "export", -1, "failed"),
        ]
        for row in rows:
            connection.exec_driver_sql("INSERT INTO task_instance VALUES (?, ?, ?, ?, ?)", row)
    import_module("airflow.models.taskinstance")  # before the task SDK is gone: on Airflow 3.2 it needs that
    monkeypatch.setattr("airflow.utils.session.create_session", lambda: Session(engine))
    monkeypatch.setitem(sys.modules, "airflow.sdk.execution_time.task_runner", None)
    run = Run("dag", "run")
    assert task_states(run) == {"export": "success", "mapped_0": "running", "mapped_1": None}
    assert task_states(run, ["export"]) == {"export": "success"}


def test_a_task_id_that_names_no_task() -> None:
    assert str(unknown_task("exprt", ["export", "group.export"], where="run r")) == (
        "xcom_task_ids names 'exprt': run r has no such task; did you mean 'export' or 'group.export'?"
    )
    assert str(unknown_task("x", ["export"], where="run r")) == "xcom_task_ids names 'x': run r has no such task"
    assert str(unknown_task(7, [], where="run r")) == "xcom_task_ids holds a int: give task ids, as text"


def test_task_ids_that_are_none_are_refused_by_name(connection: None) -> None:
    del connection
    ti = FakeTaskInstance()
    with EarthEngineOperationsHook() as hook:
        parsed = pull_from_tasks(ti, 5, hook=hook)  # type: ignore[arg-type]
    assert [str(error) for error in parsed.invalid] == ["xcom_task_ids holds a int: give task ids, as text"]
