"""Inside any Python task: record the operations it starts, and request their cancellation if it dies."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, get_current_context

from airflow_provider_eeops._compat import PAUSES
from airflow_provider_eeops.api.cancelling import cancel_in_haste, cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.logfields import log_fields, report_fields
from airflow_provider_eeops.api.models import Report, counted, listing
from airflow_provider_eeops.api.names import is_ee_task
from airflow_provider_eeops.api.policies import SETTLED
from airflow_provider_eeops.cleanups import warn_of_cleanups_that_do_not_run
from airflow_provider_eeops.exceptions import InvalidInputError, TaskKilledError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.killing import KillCanceller, Sending, wait_until_sent
from airflow_provider_eeops.links import push_links
from airflow_provider_eeops.retained import RetainedOperations
from airflow_provider_eeops.xcom import pull_own, push_operations

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["OperationTracker", "track_operations"]

log = logging.getLogger(__name__)

_START_SECONDS = 10.0
"""How long a task that ends by an exception waits for the answer to a start that is under way."""


_FIRST = 10
"""Operations of one ``add`` that have a line each in the log."""

_LEFTOVERS_SECONDS = 60.0
"""How long a try spends on what an earlier one left, before it goes on."""


class _Record:
    """What one task instance recorded, over all its blocks, and the blocks that are open.

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.ti: Any = context["ti"]
        self.retained = RetainedOperations(context.get("task_state_store"), try_number=self.ti.try_number)
        self.names: dict[str, None] = {}
        self.handed_on: set[str] = set()
        self.is_resumed = False
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

    def resume(self, hook: EarthEngineOperationsHook) -> list[str]:
        """Return what this try recorded before it deferred, if it did; once in a process.

        :param hook: reads names.
        """
        if self.is_resumed:
            return []
        self.is_resumed = True
        before = hook.parse(pull_own(self.ti), accept_ids=False).names
        self.names.update(dict.fromkeys(before))
        return before

    def push(self, names: Sequence[str] = ()) -> None:
        """Add names to what the task recorded, in XCom too."""
        is_first = not self.names
        self.names.update(dict.fromkeys(names))
        push_operations(self.ti, list(self.names))
        self._retain()
        if is_first:
            push_links(self._context, names)

    def hand_on(self, names: Sequence[str]) -> None:
        """Let operations go on whatever becomes of this try: their block has ended well.

        :param names: operation names.
        """
        self.handed_on.update(names)
        self._retain()

    def _retain(self) -> None:
        owned = [name for name in self.names if name not in self.handed_on]
        if owned or self.handed_on:
            self.retained.keep(owned)

    def _on_kill(self) -> None:
        """Run in a signal handler: the lock is not taken, as its holder may be the thread that was interrupted."""
        self.killed = True
        try:
            wait_until_sent([tracker.start_cancelling() for tracker in self._open if tracker.owns_any])
        except RuntimeError:  # no thread can be started: the block still cancels when it ends
            log.exception("No thread to request cancellation from.")
        finally:
            if self._own_on_kill is not None:
                self._own_on_kill()
            else:
                type(self.ti.task).on_kill(self.ti.task)


_record: _Record | None = None


def _record_of(context: Context) -> _Record:
    """One record a task instance; a process runs one after the other, if more than one at all."""
    global _record  # noqa: PLW0603 - the blocks of one task share it, however they are nested
    if _record is None or _record.ti is not context["ti"]:
        _record = _Record(context)
    return _record


class _Start:
    """A start in a thread of its own, so that a timeout or a kill cannot lose its answer.

    :param start: starts an operation.
    :param then: records it; called as soon as it has started.
    """

    def __init__(self, start: Callable[[], object], then: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.begun = False
        self.answered = threading.Event()  # Thread.join() takes the thread for ended once an exception interrupted it
        self._start = start
        self._then = then

    def begin(self) -> None:
        """Start it."""
        self.begun = True
        threading.Thread(target=self._run, name="eeops-start", daemon=True).start()

    def _run(self) -> None:
        try:
            self._start()
            self._then()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked for the start
            self.error = error
        finally:
            self.answered.set()


class OperationTracker:
    """The operations that were started in one block. Made by :func:`track_operations`.

    :param hook: reads names and cancels.
    :param record: what the task recorded.
    """

    def __init__(self, hook: EarthEngineOperationsHook, record: _Record) -> None:
        self.hook = hook
        self._record = record
        self._names: dict[str, None] = {}
        self._starts: list[_Start] = []
        self._client: EarthEngineOperationsClient | None = None
        self._killing: KillCanceller | None = None

    def prepare(self) -> None:
        """Make the clients, as a dying task can ask Airflow for nothing; own what the try owned before it deferred."""
        self._client = self.hook.get_conn()
        self._killing = KillCanceller(self.hook)
        self._names.update(dict.fromkeys(self._record.resume(self.hook)))

    @property
    def names(self) -> list[str]:
        """Names of the operations recorded in this block so far, in order."""
        return list(self._names)

    @property
    def owns_any(self) -> bool:
        """Whether an operation is recorded, or about to be."""
        return bool(self._names or self._starts)

    def start(self, task: Any) -> str:
        """Start an operation and record it in one step; return its name.

        A timeout or a kill that comes while Earth Engine is asked does not lose the answer: the operation is recorded
        all the same, and its cancellation requested.

        :param task: an ``ee.batch.Task`` that was not started.
        :raises InvalidInputError: it is nothing that can be started.
        :raises TaskKilledError: the task was asked to stop.
        """
        if not is_ee_task(task):
            raise InvalidInputError(f"tracker.start needs an ee.batch.Task, not a {type(task).__name__}")
        self.check_not_killed()
        start = _Start(task.start, lambda: self._names.update(dict.fromkeys(self.hook.parse(task).names)))
        self._starts.append(start)  # before it begins: a signal may come in between
        start.begin()
        start.answered.wait()
        self._starts.remove(start)
        if start.error is not None:
            raise start.error
        return self.add(task)[0]

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
        for name in parsed.names[:_FIRST]:
            with log_fields(operation=name):
                log.info("Recorded %s.", name)
        if len(parsed.names) > _FIRST:
            with log_fields(operations=len(parsed.names) - _FIRST):
                log.info("Recorded %s more.", counted(len(parsed.names) - _FIRST))
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
        self._wait_for_starts()
        if self._client is None or self._killing is None:
            return Report()
        self._killing.finish()
        settled = self._killing.settled
        names = [name for name in self._names if name not in settled]
        if not names:
            return Report()
        return cancel_in_haste(self._client, names, log=log, because=because)

    def start_cancelling(self) -> Sending:
        """Request cancellation from another thread, as a signal may come while this one holds any lock."""
        if self._killing is None:
            raise RuntimeError("the tracker was not prepared")
        known = self.names
        return self._killing.start(known, late=lambda: self._late_names(known))

    def cancel_leftovers(self) -> None:
        """Request cancellation of what an earlier try of this task left: it died without being able to."""
        retained = self._record.retained
        names = self.hook.parse(retained.of_earlier_tries, accept_ids=False).names
        if self._client is None or not names:
            return
        with log_fields(operations=len(names)):
            log.info("Requesting cancellation of %s that an earlier try recorded.", counted(len(names)))
        report = cancel_operations(self._client, names, until=self._client.clock.monotonic() + _LEFTOVERS_SECONDS)
        failed = [result for result in report.results if result.outcome not in SETTLED]
        with report_fields(report):
            log.log(logging.ERROR if failed else logging.INFO, "%s\n%s", report.summary, listing(report.results))
        retained.drop([result.name for result in report.having(*SETTLED)])

    def hand_on(self) -> None:
        """Let the operations of this block go on: it has ended well."""
        self._record.hand_on(self.names)

    def close(self) -> None:
        """Close the connections that were kept for a kill."""
        if self._killing is not None:
            self._killing.close()

    def _late_names(self, known: Sequence[str]) -> Iterator[str]:
        """Names that the starts under way add to the known ones, as they are answered."""
        self._wait_for_starts()
        yield from (name for name in self.names if name not in known)

    def _wait_for_starts(self) -> None:
        for start in list(self._starts):
            if start.begun and not start.answered.wait(_START_SECONDS):
                log.error("A start had no answer in %g s: it may have started an operation.", _START_SECONDS)


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
    when it ends. To defer or reschedule the task is not to die: its operations go on.

    ::

        with track_operations() as tracker:
            task = ee.batch.Export.image.toCloudStorage(...)
            tracker.start(task)
            ...

    :param earthengine_conn_id: id of the connection.
    :param project_id: project of operation ids given without one. Default: the connection's.
    :param impersonation_chain: service account to impersonate, or a chain of them. Default: the connection's.
    :raises RuntimeError: no task is running here.
    """
    context = _running_context()
    process = os.getpid()  # one forked in the block leaves it too, with operations that are not its own
    with EarthEngineOperationsHook(
        earthengine_conn_id, project_id=project_id, impersonation_chain=impersonation_chain
    ) as hook:
        record = _record_of(context)
        tracker = OperationTracker(hook, record)
        try:
            with closing(tracker), record.opened(tracker):
                tracker.prepare()
                record.push()  # says that this task tracks, so that a cleanup reads nothing else from it
                tracker.check_not_killed()
                tracker.cancel_leftovers()
                yield tracker
            tracker.check_not_killed()
            if tracker.names and os.getpid() == process:
                tracker.hand_on()
        except PAUSES:
            raise
        except BaseException as error:  # AirflowTaskTimeout is no Exception
            if tracker.owns_any and os.getpid() == process:
                try:
                    tracker.cancel(because=f"{type(error).__name__} left the block.")
                except Exception:  # it must not hide why the task died
                    log.exception("Cancellation of %s could not be requested.", ", ".join(tracker.names))
            warn_of_cleanups_that_do_not_run(record.ti.task)
            raise


def _running_context() -> Context:
    try:
        return get_current_context()
    except (RuntimeError, AirflowException) as error:
        raise RuntimeError("track_operations works in a running Airflow task only: call it inside a task") from error
