"""Callbacks whose input is bad. They may keep no DAG of this file from being parsed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined] # where 3.1 has it

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from tests.e2e.starting import push_rubbish

with DAG("bad_xcom_dag_callback", schedule=None, on_failure_callback=EarthEngineCancelOperationsNotifier()):
    task(task_id="work")(push_rubbish)()

with DAG(
    "bad_template_dag_callback",
    schedule=None,
    on_failure_callback=EarthEngineCancelOperationsNotifier(operations="{{ dag_run.conf.get('nothing', '') }}"),
):
    task(task_id="work")(push_rubbish)()

with DAG("bad_xcom_task_callback", schedule=None):
    task(
        task_id="work",
        retries=1,
        retry_delay=timedelta(seconds=1),
        on_retry_callback=EarthEngineCancelOperationsNotifier(),
        on_failure_callback=EarthEngineCancelOperationsNotifier(),
    )(push_rubbish)()

with DAG(
    "bad_deadline",
    schedule=None,
    deadline=DeadlineAlert(
        reference=DeadlineReference.FIXED_DATETIME(datetime(2020, 1, 1, tzinfo=UTC)),
        interval=timedelta(seconds=1),
        callback=AsyncCallback(EarthEngineCancelOperationsNotifier),
    ),
):
    task(task_id="work")(push_rubbish)()

with DAG("bad_neighbour", schedule=None):
    task(task_id="work")(push_rubbish)()
