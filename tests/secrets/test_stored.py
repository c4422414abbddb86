"""What Airflow stores of a DAG and of a deferred task, in its own code and a real database: none of the secrets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.sdk import DAG, TaskDeferred
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.secrets.conftest import SetExtras
from tests.secrets.paths import Task
from tests.secrets.planted import CREDENTIALS, Planting
from tests.support.secret_search import Search
from tests.support.task_instance import FakeTaskInstance
from tests.support.this_airflow import serialized, stored_arguments

KINDS = ["keyfile_dict", "key_path", "user", "federation", "impersonation", "proxy"]


@pytest.fixture(params=KINDS)
def task(
    request: pytest.FixtureRequest, planting: Planting, set_extras: SetExtras, emulator: Any, masked: list[str]
) -> Task:
    """A task that can run, whose connection holds secrets."""
    del masked
    emulator.cancel_seconds = 1000  # there is something to wait for
    set_extras(planting.extras | CREDENTIALS[request.param](planting))
    return Task(FakeTaskInstance(), [emulator.add_operation() for _ in range(2)])


def _made(task: Task) -> Iterator[Any]:
    """Every kind of task, with what Airflow lets it hold."""
    notifier = EarthEngineCancelOperationsNotifier(operations=task.names)
    shared: dict[str, Any] = {"operations": task.names, "on_failure_callback": notifier, "timeout": 60}
    yield EarthEngineCancelOperationsOperator(task_id="cancel", deferrable=False, **shared)
    yield EarthEngineCancelOperationsOperator(
        task_id="defer", deferrable=True, impersonation_chain="robot@one.example", **shared
    )
    yield EarthEngineOperationsSensor(task_id="wait", deferrable=True, **shared)


def _deferrals(task: Task, dag: DAG | None = None) -> Iterator[TaskDeferred]:
    """Run each, some to their deferral."""
    for made in _made(task):
        if dag is not None:
            dag.add_task(made)
        task.ti.task = made
        try:
            made.execute(task.context)
        except TaskDeferred as deferred:
            yield deferred


def test_a_dag_is_stored_without_secrets_also_after_its_tasks_ran(
    task: Task, search: Search, capfd: pytest.CaptureFixture[str]
) -> None:
    with DAG(
        "exports", schedule=None, on_failure_callback=EarthEngineCancelOperationsNotifier(operations=task.names)
    ) as dag:
        EarthEngineCancelOperationsOperator.partial(task_id="mapped").expand(operations=[task.names])
    with EarthEngineOperationsHook() as hook:
        hook.get_operation(task.names[0])
        dag.default_args = {"hook": hook}  # what an author might try
        deferred = list(_deferrals(task, dag))
        stored = json.dumps(serialized(dag), default=repr)
    assert len(deferred) == 2
    assert all(f'"{each}"' in stored for each in dag.task_ids)
    assert "an access token" in search.planted
    assert search.found_in([stored, *capfd.readouterr()]) == []


def test_a_triggers_row_holds_no_secret(task: Task, search: Search, tmp_path: Path) -> None:
    path = tmp_path / "airflow.db"
    engine = create_engine(f"sqlite:///{path}")
    table: Any = Trigger.__table__
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE team (name VARCHAR(50) PRIMARY KEY)")
        table.create(connection)
    continuations = []
    with Session(engine) as session:
        for deferred in _deferrals(task):
            session.add(Trigger.from_object(deferred.trigger))
            continuations.append(stored_arguments(deferred.kwargs or {}))
        session.commit()
        stored = session.scalars(select(Trigger.encrypted_kwargs)).all()
        read = [repr(Trigger._decrypt_kwargs(each)) for each in stored]
    engine.dispose()
    assert len(read) == 2
    assert all(name.rpartition("/")[2] in row for row in read for name in task.names)
    assert "an access token" in search.planted
    with closing(sqlite3.connect(path)) as database:
        rows = [str(row) for row in database.execute("SELECT * FROM trigger")]
    assert search.found_in([*rows, *read, *continuations, path.read_bytes().decode("latin-1")]) == []
