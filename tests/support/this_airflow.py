"""Where the Airflow that is installed keeps what a task's process needs, for tests that run on every Airflow.

An Airflow that is started differs in :mod:`tests.support.airflow_2`.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from tests.support.versions import IS_AIRFLOW_2

__all__ = [
    "DEFERRAL_TIMED_OUT",
    "TRIGGER_TIMEOUT",
    "link_keys",
    "registered_hook",
    "rendered_fields",
    "serialized",
    "serialized_and_back",
    "set_current_context",
    "stats_with_tags",
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


def serialized_and_back(dag: Any) -> Any:
    """The DAG as the scheduler and the API server read it; what is stored is checked against Airflow's schema.

    :param dag: the DAG.
    """
    stored = json.loads(json.dumps(serialized(dag)))
    _dag_serialization().validate_schema(stored)
    return _dag_serialization().from_dict(stored)


def serialized(dag: Any) -> dict[str, Any]:
    """What Airflow stores of a DAG.

    :param dag: the DAG.
    """
    stored: dict[str, Any] = _dag_serialization().to_dict(dag)
    return stored


def _dag_serialization() -> Any:
    serialized_objects: Any = importlib.import_module("airflow.serialization.serialized_objects")
    # Before Airflow 3.2 one class is both what is stored and how.
    return getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG


def registered_hook(connection_type: str) -> Any:
    """What Airflow knows of the hook of a connection type, once it has imported it.

    :param connection_type: the type.
    """
    manager: Any
    try:
        manager = importlib.import_module("airflow.sdk.providers_manager_runtime").ProvidersManagerTaskRuntime
    except ImportError:  # before Airflow 3.2
        manager = importlib.import_module("airflow.providers_manager").ProvidersManager
    return manager().hooks[connection_type]


def link_keys(task: Any) -> dict[str, str]:
    """XCom keys of the addresses of a stored task's links, by the links' names.

    :param task: a task that was read back.
    """
    return {link.name: getattr(link, "xcom_key", None) or link.XCOM_KEY for link in task.operator_extra_links}


def stats_with_tags(port: int) -> Any:
    """What Airflow sends metrics with when StatsD's tags are switched on.

    :param port: of a StatsD server on this machine.
    """
    from statsd import StatsClient

    try:
        logger = importlib.import_module("airflow.sdk._shared.observability.metrics.statsd_logger")
    except ModuleNotFoundError:  # before Airflow 3.2
        logger = importlib.import_module("airflow.metrics.statsd_logger")
        return logger.SafeStatsdLogger(StatsClient("127.0.0.1", port, prefix="airflow"), influxdb_tags_enabled=True)
    return logger.get_statsd_logger(
        stats_class=StatsClient,
        host="127.0.0.1",
        port=port,
        prefix="airflow",
        influxdb_tags_enabled=True,
        statsd_influxdb_enabled=True,
    )
