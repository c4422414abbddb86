"""Where the Airflow that is installed keeps what a task's process needs, for tests that run on every Airflow.

An Airflow that is started differs in :mod:`tests.support.airflow_2`.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.versions import IS_AIRFLOW_2

__all__ = [
    "DEFERRAL_TIMED_OUT",
    "TRIGGER_TIMEOUT",
    "rendered_fields",
    "set_current_context",
    "stored_arguments",
]

TRIGGER_TIMEOUT: Any
"""How Airflow tells a task that its deferral has timed out."""

DEFERRAL_TIMED_OUT: type[Exception]
"""What a sensor raises then."""

if IS_AIRFLOW_2:
    from airflow.exceptions import TaskDeferralError
    from airflow.models.taskinstance import set_current_context  # type: ignore[attr-defined,unused-ignore]

    TRIGGER_TIMEOUT, DEFERRAL_TIMED_OUT = "Trigger/execution timeout", TaskDeferralError
else:
    from airflow.providers.common.compat.sdk import AirflowSensorTimeout
    from airflow.sdk.bases.operator import TriggerFailureReason
    from airflow.sdk.execution_time.context import set_current_context  # type: ignore[assignment,unused-ignore]

    TRIGGER_TIMEOUT, DEFERRAL_TIMED_OUT = TriggerFailureReason.TRIGGER_TIMEOUT, AirflowSensorTimeout


def rendered_fields(task: Any) -> str:
    """What Airflow stores of a task's rendered fields, and shows on its page.

    :param task: the task.
    """
    if IS_AIRFLOW_2:
        from airflow.models.renderedtifields import get_serialized_template_fields

        return json.dumps(get_serialized_template_fields(task))
    from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields

    return json.dumps(_serialize_rendered_fields(task))


def stored_arguments(arguments: Any) -> str:
    """What Airflow stores of the arguments of a trigger, or of the method that resumes the task.

    :param arguments: by name.
    """
    try:
        from airflow.sdk.serde import serialize
    except ImportError:  # before Airflow 3.2
        from airflow.serialization.serialized_objects import BaseSerialization

        return json.dumps(BaseSerialization.serialize(arguments))
    return json.dumps(serialize(arguments))
