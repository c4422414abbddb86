"""Owner: a task whose operations a callback cancels, as the task itself may be dead."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined] # where 3.1 has it

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from tests.e2e.starting import hold, leave

with DAG("dag_callback", schedule=None, on_failure_callback=EarthEngineCancelOperationsNotifier()):
    task(task_id="sibling")(leave)() >> task(task_id="work")(hold)()

with DAG("task_callback", schedule=None):
    work = task(task_id="work", on_failure_callback=EarthEngineCancelOperationsNotifier())(hold)
    task(task_id="sibling")(leave)() >> work()

with DAG("retry_callback", schedule=None):
    work = task(
        task_id="work",
        retries=1,
        retry_delay=timedelta(seconds=20),
        on_retry_callback=EarthEngineCancelOperationsNotifier(),
    )(hold)
    task(task_id="sibling")(leave)() >> work()

with DAG("mapped_callback", schedule=None):
    work = task(task_id="work", on_failure_callback=EarthEngineCancelOperationsNotifier())(hold)
    work.expand(index=list(range(20)))

with DAG(
    "deadline",
    schedule=None,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=30),
        callback=AsyncCallback(EarthEngineCancelOperationsNotifier),
    ),
):
    task(task_id="sibling")(leave)() >> task(task_id="work")(hold)()
