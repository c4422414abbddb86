"""Inside any Python task: record the operations it starts, and request their cancellation if it dies."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred, get_current_context

from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.models import Report
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.xcom import push_operations

__all__ = ["OperationTracker", "track_operations"]

log = logging.getLogger(__name__)


class OperationTracker:
    """The operations that one task started. Made by :func:`track_operations`.

    :param hook: reads names and cancels.
    :param ti: the task instance whose XCom records them.
    """

    def __init__(self, hook: EarthEngineOperationsHook, ti: Any) -> None:
        self.hook = hook
        self._ti = ti
        self._client = hook.get_conn()  # made now: a dying task can ask Airflow for nothing
        self._names: dict[str, None] = {}

    @property
    def names(self) -> list[str]:
        """Names of the operations recorded so far, in order."""
        return list(self._names)

    def add(self, *operations: Any) -> list[str]:
        """Record operations that were just started, in XCom under ``earthengine_operations``; return their names.

        Call it right after each start: what is not recorded cannot be cancelled.

        :param operations: an ``ee.batch.Task`` that was started, an operation name, or any shape that holds them.
        :raises InvalidOperationNameError: one of them is none; the others are recorded all the same.
        """
        parsed = self.hook.parse(operations)
        self._names.update(dict.fromkeys(parsed.names))
        push_operations(self._ti, self.names)
        parsed.require_valid()
        return parsed.names

    def cancel(self, *, because: str) -> Report:
        """Request cancellation of all that was recorded, and log what became of each.

        :param because: what happened, to begin the log with.
        """
        return cancel_in_haste(self._client, self.names, log=log, because=because)


@contextmanager
def track_operations(
    *,
    earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
    project_id: str | None = None,
    impersonation_chain: str | Sequence[str] | None = None,
) -> Iterator[OperationTracker]:
    """Record the operations started in this block, and request their cancellation if an exception leaves it.

    ``execution_timeout`` is such an exception. To defer the task (``TaskDeferred``) is none: its operations go on.

    ::

        with track_operations() as tracker:
            task = ee.batch.Export.image.toCloudStorage(...)
            task.start()
            tracker.add(task)
            ...

    :param earthengine_conn_id: id of the connection.
    :param project_id: project of operation ids given without one. Default: the connection's.
    :param impersonation_chain: service account to impersonate, or a chain of them. Default: the connection's.
    """
    ti = get_current_context()["ti"]
    with EarthEngineOperationsHook(
        earthengine_conn_id, project_id=project_id, impersonation_chain=impersonation_chain
    ) as hook:
        tracker = OperationTracker(hook, ti)
        try:
            yield tracker
        except TaskDeferred:
            raise
        except BaseException as error:  # AirflowTaskTimeout is no Exception
            if tracker.names:
                tracker.cancel(because=f"{type(error).__name__} left the block.")
            raise
