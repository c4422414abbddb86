"""Inside any Python task: record the operations it starts, and request their cancellation if it dies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred, get_current_context

from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.models import Report, counted
from airflow_provider_eeops.api.policies import SETTLED
from airflow_provider_eeops.exceptions import TaskKilledError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.xcom import push_operations

__all__ = ["OperationTracker", "track_operations"]

log = logging.getLogger(__name__)

_SENT_SECONDS = 2.0
"""How long the signal handler waits for the requests to be sent: they may need a lock that only its return frees."""

_LOG_SECONDS = 0.5
"""How long it waits for their outcomes to be logged."""


class _Record:
    """What one task instance recorded, over all its blocks, and the blocks that are open.

    :param ti: the task instance.
    """

    def __init__(self, ti: Any) -> None:
        self.ti = ti
        self.names: dict[str, None] = {}
        self.killed = False
        self._open: list[OperationTracker] = []
        self._lock = threading.Lock()
        self._own_on_kill: Callable[[], None] | None = None

    @contextmanager
    def opened(self, tracker: OperationTracker) -> Iterator[None]:
        """Have ``task.on_kill``, which Airflow calls at SIGTERM, reach the tracker for the length of the block."""
        with self._lock:
            self._open.append(tracker)
            if len(self._open) == 1:
                self._own_on_kill = self.ti.task.__dict__.get("on_kill")
                self.ti.task.on_kill = self._on_kill
        try:
            yield
        finally:
            with self._lock:
                self._open.remove(tracker)
                if not self._open:
                    del self.ti.task.on_kill
                    if self._own_on_kill is not None:
                        self.ti.task.on_kill = self._own_on_kill

    def push(self, names: Sequence[str] = ()) -> None:
        """Add names to what the task recorded, in XCom too."""
        self.names.update(dict.fromkeys(names))
        push_operations(self.ti, list(self.names))

    def _on_kill(self) -> None:
        """Run in a signal handler: the lock is not taken, as its holder may be the thread that was interrupted."""
        self.killed = True
        try:
            sent = [tracker.start_cancelling() for tracker in self._open if tracker.names]
            until = time.monotonic() + _SENT_SECONDS
            for event, _ in sent:
                event.wait(max(0.0, until - time.monotonic()))
            until = time.monotonic() + _LOG_SECONDS
            for _, sender in sent:
                sender.join(max(0.0, until - time.monotonic()))
        except RuntimeError:  # no thread can be started: the block still cancels when it ends
            log.exception("No thread to request cancellation from.")
        finally:
            if self._own_on_kill is not None:
                self._own_on_kill()
            else:
                type(self.ti.task).on_kill(self.ti.task)


_record: _Record | None = None


def _record_of(ti: Any) -> _Record:
    """One record a task instance; a process runs one after the other, if more than one at all."""
    global _record  # noqa: PLW0603 - the blocks of one task share it, however they are nested
    if _record is None or _record.ti is not ti:
        _record = _Record(ti)
    return _record


class OperationTracker:
    """The operations that were started in one block. Made by :func:`track_operations`.

    :param hook: reads names and cancels.
    :param record: what the task recorded.
    """

    def __init__(self, hook: EarthEngineOperationsHook, record: _Record) -> None:
        self.hook = hook
        self._record = record
        self._names: dict[str, None] = {}
        self._settled: set[str] = set()  # what the kill has asked for already
        self._client: EarthEngineOperationsClient | None = None
        self._kill_client: EarthEngineOperationsClient | None = None

    def prepare(self) -> None:
        """Make the clients: a dying task can ask Airflow for nothing.

        The second shares no lock with the first, as a signal may come while this thread holds one.
        """
        self._client = self.hook.get_conn()
        self._kill_client = connect(self.hook.settings, self.hook.credentials)

    @property
    def names(self) -> list[str]:
        """Names of the operations recorded in this block so far, in order."""
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
        self._record.push(parsed.names)
        for name in parsed.names:
            log.info("Recorded %s.", name)
        if self._record.killed:
            self.cancel(because="Started after the kill.")
        parsed.require_valid()
        self.check_not_killed()
        return parsed.names

    def check_not_killed(self) -> None:
        """Raise if the task was asked to stop: SIGTERM raises nothing in a task of Airflow 3.

        :raises TaskKilledError: it was.
        """
        if self._record.killed:
            about = f"; the log says what became of its {counted(len(self._names))}" if self._names else ""
            raise TaskKilledError(f"the task was killed{about}")

    def cancel(self, *, because: str) -> Report:
        """Request cancellation of what was recorded, but for what a kill has settled, and log what became of each.

        :param because: what happened, to begin the log with.
        """
        names = [name for name in self._names if name not in self._settled]
        if self._client is None or not names:
            return Report()
        return cancel_in_haste(self._client, names, log=log, because=because)

    def start_cancelling(self) -> tuple[threading.Event, threading.Thread]:
        """Request cancellation from another thread, as a signal may come while this one holds any lock.

        :return: what is set when the requests are sent, and the thread, which logs then.
        """
        sent = threading.Event()
        sender = threading.Thread(target=self._send, args=(sent,), name="eeops-kill", daemon=True)
        sender.start()
        return sent, sender

    def _send(self, sent: threading.Event) -> None:
        lines = _Lines()
        try:
            if self._kill_client is not None:
                report = cancel_in_haste(self._kill_client, self.names, log=lines, because="The task is being killed.")
                self._settled.update(result.name for result in report.having(*SETTLED))
        finally:
            sent.set()
            lines.replay()

    def close(self) -> None:
        """Close the connections that were kept for a kill."""
        if self._kill_client is not None:
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
        record = _record_of(ti)
        tracker = OperationTracker(hook, record)
        try:
            with closing(tracker), record.opened(tracker):
                tracker.prepare()
                record.push()  # says that this task tracks, so that a cleanup reads nothing else from it
                tracker.check_not_killed()
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


def _running_task() -> Any:
    try:
        return get_current_context()["ti"]
    except (RuntimeError, AirflowException) as error:
        raise RuntimeError("track_operations works in a running Airflow task only: call it inside a task") from error
