"""Deadline Alerts, which Airflow 2 does not have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.notifications.operations import EarthEngineCancelOperationsNotifier
from tests.e2e.starting import hold, leave, push_rubbish

if find_spec("airflow.sdk") is not None:
    from airflow.sdk.definitions.deadline import (  # type: ignore[attr-defined] # where 3.1 has it
        AsyncCallback,
        DeadlineAlert,
        DeadlineReference,
    )

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
