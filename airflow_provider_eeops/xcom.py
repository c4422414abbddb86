"""Where operation names travel between tasks: the XCom key that tracked operations have, and how to read it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_eeops.api.names import ParsedNames
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_eeops.api.models import Report

__all__ = ["OPERATIONS_KEY", "RETURN_VALUE", "pull_from_tasks", "pull_own", "push_operations", "push_report"]

OPERATIONS_KEY = "earthengine_operations"
"""XCom key of the operations a task started."""

RETURN_VALUE = "return_value"
"""XCom key of what a task returns."""

log = logging.getLogger(__name__)


def push_operations(ti: Any, names: Sequence[str]) -> None:
    """Push the operations that a task started so far.

    :param ti: the task instance.
    :param names: operation names.
    """
    ti.xcom_push(key=OPERATIONS_KEY, value=list(names))


def push_report(context: Context, report: Report) -> None:
    """Push a report as the task's return value now, as a task that fails, skips or defers returns nothing.

    :param context: the task's context.
    :param report: the report.
    """
    context["ti"].xcom_push(key=RETURN_VALUE, value=report.to_dict())


def pull_own(ti: Any, key: str = OPERATIONS_KEY) -> Any:
    """Pull what this very task instance pushed; without ``map_indexes`` its mapped siblings' would come too.

    :param ti: the task instance.
    :param key: XCom key.
    """
    return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)


def pull_from_tasks(
    ti: Any, task_ids: str | Iterable[str], *, hook: EarthEngineOperationsHook, key: str | None = None
) -> ParsedNames:
    """Pull the operations that upstream tasks pushed, failed or not, all mapped instances.

    :param ti: the pulling task instance.
    :param task_ids: the upstream tasks.
    :param hook: reads the names.
    :param key: XCom key. Default: both ``return_value`` and :data:`OPERATIONS_KEY`. Where a task has the latter, the
        former may be anything: only operation names in it count.
    """
    ids = [task_ids] if isinstance(task_ids, str) else list(task_ids)
    if key is not None:
        return hook.parse([ti.xcom_pull(task_ids=task_id, key=key) for task_id in ids])
    found: list[Any] = []
    for task_id in ids:
        returned = ti.xcom_pull(task_ids=task_id, key=RETURN_VALUE)
        tracked = ti.xcom_pull(task_ids=task_id, key=OPERATIONS_KEY)
        if hook.parse(tracked).names:
            certain = hook.parse(returned, accept_ids=False)
            if certain.invalid:
                log.info("Task %s returned something else than operations; taking those it tracked.", task_id)
            found += [certain.names, tracked]
        else:
            found.append(returned)
    return hook.parse(found)
