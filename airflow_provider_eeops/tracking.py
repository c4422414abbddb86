"""Inside any Python task: record the operations it starts, and request their cancellation if it dies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred, get_current_context

from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.client import connect
from airflow_provider_eeops.api.models import Report, counted
from airflow_provider_eeops.exceptions import TaskKilledError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.xcom import push_operations

__all__ = ["OperationTracker", "track_operations"]

log = logging.getLogger(__name__)

KILL_SECONDS = 4.0
_LOG_SECONDS = 0.5


class OperationTracker:
    """The operations that one task started. Made by :func:`track_operations`.

    :param hook: reads names and cancels.
    :param ti: the task instance whose XCom records them.
    """

    def __init__(self, hook: EarthEngineOperationsHook, ti: Any) -> None:
        self.hook = hook
        self._ti = ti
        # Both are made now: a dying task can ask Airflow for nothing. The second shares no lock with the first, as
        # a signal may come while this thread holds one.
        self._client = hook.get_conn()
        self._kill_client = connect(hook.settings, hook.credentials)
        self._killed = False
        self._names: dict[str, None] = {}
        push_operations(ti, [])  # says that this task tracks, so that a cleanup reads nothing else from it

    @property
    def names(self) -> list[str]:
        """Names of the operations recorded so far, in order."""
        return list(self._names)

    def add(self, *operations: Any) -> list[str]:
        """Record operations that were just started, in XCom under ``earthengine_operations``; return their names.

        Call it right after each start: what is not recorded cannot be cancelled.

        :param operations: an ``ee.batch.Task`` that was started, an operation name, or any shape that holds them.
        :raises InvalidOperationNameError: one of them is none; the others are recorded all the same.
        :raises TaskKilledError: the task was asked to stop; they are recorded and cancelled all the same.
        """
        parsed = self.hook.parse(operations)
        self._names.update(dict.fromkeys(parsed.names))
        push_operations(self._ti, self.names)
        for name in parsed.names:
            log.info("Recorded %s.", name)
        if self._killed:
            cancel_in_haste(self._client, parsed.names, log=log, because="Started after the kill.")
            self.check_not_killed()
        parsed.require_valid()
        return parsed.names

    def check_not_killed(self) -> None:
        """Raise if the task was asked to stop: SIGTERM raises nothing in a task of Airflow 3.

        :raises TaskKilledError: it was.
        """
        if self._killed:
            raise TaskKilledError(f"the task was killed; cancellation of {counted(len(self._names))} was requested")

    def cancel(self, *, because: str) -> Report:
        """Request cancellation of all that was recorded, and log what became of each.

        :param because: what happened, to begin the log with.
        """
        return cancel_in_haste(self._client, self.names, log=log, because=because)

    def on_kill(self) -> None:
        """Request cancellation from a signal handler: Airflow kills the process 5 s after it asked it to stop."""
        self._killed = True
        if not self._names:
            return
        # The signal may have come while this very thread holds a lock, the log's for one: another one sends the
        # requests, and logs only when they are sent.
        sent = threading.Event()
        sender = threading.Thread(target=self._send, args=(sent,), name="eeops-kill", daemon=True)
        sender.start()
        sent.wait(KILL_SECONDS)
        sender.join(_LOG_SECONDS)

    def _send(self, sent: threading.Event) -> None:
        lines = _Lines()
        try:
            cancel_in_haste(self._kill_client, self.names, log=lines, because="The task is being killed.")
        finally:
            sent.set()
            lines.replay()

    def close(self) -> None:
        """Close the connections that were kept for a kill."""
        self._kill_client.close()


class _Lines:
    """Keeps log lines until they can be written."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str, tuple[Any, ...]]] = []

    def info(self, message: str, /, *args: Any) -> None:
        self._lines.append((logging.INFO, message, args))

    def error(self, message: str, /, *args: Any) -> None:
        self._lines.append((logging.ERROR, message, args))

    def replay(self) -> None:
        for level, message, args in self._lines:
            log.log(level, message, *args)


@contextmanager
def track_operations(
    *,
    earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
    project_id: str | None = None,
    impersonation_chain: str | Sequence[str] | None = None,
) -> Iterator[OperationTracker]:
    """Record the operations started in this block, and request their cancellation if the task dies in it.

    That is: if an exception leaves the block, ``execution_timeout``'s too; or if Airflow asks the task to stop (marked
    failed, cleared, DAG run failed or timed out, the worker is shut down), which raises nothing, so the block raises
    when it ends. To defer the task (``TaskDeferred``) is not to die: its operations go on.

    ::

        with track_operations() as tracker:
            task = ee.batch.Export.image.toCloudStorage(...)
            task.start()
            tracker.add(task)
            ...

    :param earthengine_conn_id: id of the connection.
    :param project_id: project of operation ids given without one. Default: the connection's.
    :param impersonation_chain: service account to impersonate, or a chain of them. Default: the connection's.
    :raises RuntimeError: no task is running here.
    """
    ti = _running_task()
    with EarthEngineOperationsHook(
        earthengine_conn_id, project_id=project_id, impersonation_chain=impersonation_chain
    ) as hook:
        tracker = OperationTracker(hook, ti)
        try:
            with closing(tracker), _on_kill(ti.task, tracker.on_kill):
                yield tracker
            tracker.check_not_killed()
        except TaskDeferred:
            raise
        except BaseException as error:  # AirflowTaskTimeout is no Exception
            if tracker.names:
                try:
                    tracker.cancel(because=f"{type(error).__name__} left the block.")
                except Exception:  # it must not hide why the task died
                    log.exception("Cancellation of %s could not be requested.", ", ".join(tracker.names))
            raise


@contextmanager
def _on_kill(task: Any, first: Callable[[], None]) -> Iterator[None]:
    """Have ``task.on_kill``, which Airflow calls at SIGTERM, call something first, for the length of the block."""
    original = task.on_kill

    def on_kill() -> None:
        first()
        original()

    task.on_kill = on_kill
    try:
        yield
    finally:
        task.on_kill = original


def _running_task() -> Any:
    try:
        return get_current_context()["ti"]
    except (RuntimeError, AirflowException) as error:
        raise RuntimeError("track_operations works in a running Airflow task only: call it inside a task") from error
