"""The sensor that waits until operations are confirmed."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_eeops._compat import PAUSES, is_ended_before_it_resumes
from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.deadlines import backstop, deadline_of
from airflow_provider_eeops.api.logfields import report_fields
from airflow_provider_eeops.api.models import Outcome, Report
from airflow_provider_eeops.api.observing import tell_outcomes
from airflow_provider_eeops.api.policies import not_confirmed
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, poll
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.checks import require_choice, require_count
from airflow_provider_eeops.cleanups import warn_of_cleanups_that_do_not_run
from airflow_provider_eeops.exceptions import NotConfirmedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.links import LINKS, push_links
from airflow_provider_eeops.progress import log_poll
from airflow_provider_eeops.stopping import DEFERRAL_FAILED, Stop, execution_deadline
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from airflow_provider_eeops.xcom import pull_own, push_owned, push_report, source_task_ids, task_ids_among

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_eeops.killing import KillCanceller

__all__ = ["EarthEngineOperationsSensor"]

_KILL_SECONDS = 2.0
"""What all requests may take that on_kill could not make: SIGKILL is near."""

_CANCEL_SECONDS = 30.0
"""What all requests at a timeout may take together."""


class EarthEngineOperationsSensor(BaseSensorOperator):
    """Wait until every Earth Engine operation is confirmed, and return what became of each.

    Confirmed is what was observed to be terminal, whichever way, as a cleanup needs it. With
    ``accepted_states={"SUCCEEDED"}`` it is an export sensor: another terminal state fails the task at once, without
    retries, with the operation's own error message.

    It owns the operations it waits for, unless ``cancel_on_kill`` is off: when the task is killed, their cancellation
    is requested. Its XCom ``earthengine_operations`` lists them, for callbacks and cleanups.

    The report is pushed to XCom also when the task fails.

    :param operations: the operations (templated): names, ids, Operations, ``ee.batch.Task.status()``, the report of
        EarthEngineCancelOperationsOperator, lists of these, an XComArg, a template that renders to any of these.
    :param project_id: project of operation ids given without one (templated). Default: the connection's.
    :param earthengine_conn_id: id of the connection (templated).
    :param impersonation_chain: service account to impersonate, or a chain of them (templated). Default: the
        connection's.
    :param accepted_states: terminal states that are not a failure. Default: all, SUCCEEDED, CANCELLED and FAILED.
    :param if_not_found: ``fail`` or ``ignore`` operations that the server does not know.
    :param if_empty: what to do if there is no operation at all: ``fail``, ``skip`` or ``ignore`` (succeed).
    :param poll_failure_limit: polls that may fail in a row before the task fails.
    :param cancel_on_kill: request cancellation of what is not confirmed when the task is marked failed or success or
        cleared, its DAG run ends, ``execution_timeout`` passes, or its worker is asked to stop. While it is deferred
        too; a cleared task that waits for the same operations again keeps them.
    :param cancel_on_timeout: the same when the wait ends without confirmation: ``timeout`` passes, polls fail
        ``poll_failure_limit`` times in a row, or Airflow ends the deferral.
    :param max_concurrency: requests at once.
    :param deferrable: wait in the triggerer, without holding a worker slot. Default: ``[operators]
        default_deferrable``.
    """

    template_fields: Sequence[str] = ("operations", "project_id", "earthengine_conn_id", "impersonation_chain")
    ui_color = "#e4ecf0"
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        operations: Any,
        project_id: str | None = None,
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        accepted_states: Collection[str] | str | None = None,
        if_not_found: Literal["ignore", "fail"] = "fail",
        if_empty: Literal["ignore", "skip", "fail"] = "fail",
        poll_failure_limit: int = 10,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.operations = operations
        self.project_id = project_id
        self.earthengine_conn_id = earthengine_conn_id
        self.impersonation_chain = impersonation_chain
        self.accepted_states = sorted(parse_states(accepted_states))
        self.if_not_found = require_choice("if_not_found", if_not_found, ("ignore", "fail"))
        self.if_empty = require_choice("if_empty", if_empty, ("ignore", "skip", "fail"))
        self.poll_failure_limit = require_count("poll_failure_limit", poll_failure_limit)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.max_concurrency = require_count("max_concurrency", max_concurrency)
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )
        self._hook: EarthEngineOperationsHook | None = None
        self._watch: Watch | None = None
        self._stop = Stop()
        self._killing: KillCanceller | None = None
        self._resumed = False
        self._requested = Report()  # what became of the operations at a timeout
        self._source_task_ids = source_task_ids(operations)

    def execute(self, context: Context) -> Any:
        """Wait; return the report."""
        self._stop.begin()
        try:
            watch = self._watching()
            if not watch.names:
                return self._nothing()
            if self.cancel_on_kill:
                from airflow_provider_eeops.killing import KillCanceller

                self._killing = KillCanceller(self._get_hook())
                push_owned(context, watch.names)
            push_links(context, watch.names)
            self._check_not_killed()
            return self._start_deferred(context) if self.deferrable else super().execute(context)
        except PAUSES:
            raise
        except BaseException as error:  # AirflowTaskTimeout is no Exception
            error = self._cancelled_for(error)
            if self._watch is not None:
                push_report(context, self._report())
            self._skip_if_flagged(error)
            warn_of_cleanups_that_do_not_run(self)
            raise error  # noqa: TRY201 - it may be another than was caught
        finally:
            self._close()

    def _close(self) -> None:
        self._get_hook().close()
        if self._killing is not None:
            self._killing.close()
        self._stop.end()
        self._hook = self._watch = self._killing = None
        self._requested = Report()

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Ask once; say whether every operation is confirmed."""
        watch = self._watching()
        client = self._get_hook().get_conn()
        changed = poll(client, watch, max_concurrency=self.max_concurrency)
        log_poll(self.log, watch, changed)
        verdict = watch.verdict(now=time.time())
        if verdict is Verdict.WAITING:
            return PokeReturnValue(is_done=False)
        report = watch.report()
        tell_outcomes(client.observer, report)
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(verdict, watch.message(verdict), report))

    def on_kill(self) -> None:
        """End the wait, as SIGTERM raises nothing in a task of Airflow 3, and request cancellation."""
        self._stop.request()
        if self._killing is not None and self._watch is not None:
            self._killing.cancel(self._watch.pending)
        elif self.cancel_on_kill and not self._resumed and not self._stop.begun and is_ended_before_it_resumes():
            try:
                names = self._get_hook().parse(self.operations).names
                self._request_cancellation(names, because="The time was over while the task was deferred.")
            finally:
                self._close()

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Sleep here, where a kill ends it, and leave Airflow's own sleep nothing."""
        interval: float = super()._get_next_poke_interval(*args, **kwargs)
        if self.reschedule:
            return interval
        self._stop.wait(interval)
        self._check_not_killed()
        return 0.0

    def _check_not_killed(self) -> None:
        if self._killed:
            raise NotConfirmedError("the task was killed while it waited", report=self._report())

    def execute_complete(
        self, context: Context, event: dict[str, Any], execution_ends: float | None = None
    ) -> dict[str, Any]:
        """Take what the trigger saw; return the report.

        :param context: the task's context.
        :param event: the trigger's.
        :param execution_ends: when ``execution_timeout`` is over, as it was known when the task deferred.
        """
        report = Report.from_dict(event["report"])
        verdict, message = Verdict(event["verdict"]), event["message"]
        # Airflow 3.1 tells a task that resumes no start but that of its resumption.
        limit = execution_deadline(context) if execution_ends is None else execution_ends
        by_execution_timeout = verdict is Verdict.TIMED_OUT and limit is not None and time.time() >= limit
        try:
            if self._cancels(verdict, by_execution_timeout=by_execution_timeout):
                names = [result.name for result in report.having(Outcome.NOT_CONFIRMED)]
                requested = self._request_cancellation(names, because=message.partition("\n")[0])
                report = report.updated(requested.results)
                message = f"{message}\n{_told(requested)}"
            return self._conclude(verdict, message, report, by_execution_timeout=by_execution_timeout)
        except Exception as error:
            push_report(context, report)
            self._skip_if_flagged(error)
            warn_of_cleanups_that_do_not_run(self)
            raise
        finally:
            self._close()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral. If Airflow ended it, nothing of ours was asked to cancel yet."""
        self._resumed = True
        if next_method == DEFERRAL_FAILED:
            limit = execution_deadline(context)
            by_execution_timeout = limit is not None and time.time() >= limit
            if self._cancels(Verdict.TIMED_OUT, by_execution_timeout=by_execution_timeout):
                try:
                    names = self._owned(context)
                    requested = self._request_cancellation(names, because="Airflow ended the deferral.")
                    push_report(context, requested)
                finally:
                    self._close()
        return super().resume_execution(next_method, next_kwargs, context)

    def _owned(self, context: Context) -> list[str]:
        """What was recorded before the deferral; else what the operations are by now."""
        try:
            hook = self._get_hook()
            return hook.parse(pull_own(context["ti"])).names or hook.parse(self.operations).names
        except Exception:
            self.log.exception("The operations cannot be read: no cancellation is requested.")
            return []

    def _cancels(self, verdict: Verdict, *, by_execution_timeout: bool) -> bool:
        """Whether the end of the wait is one at which cancellation is to be requested."""
        if verdict not in (Verdict.TIMED_OUT, Verdict.POLLS_FAILED):
            return False
        return self.cancel_on_timeout or (self.cancel_on_kill and by_execution_timeout)

    def _cancelled_for(self, error: BaseException) -> BaseException:
        """Request cancellation of what is not confirmed, if this error is one at which to do so; have it say so."""
        if self._watch is None or not self._watch.pending:
            return error
        if self._killed:
            self._finish_killing(self._watch.pending)
            return error
        ended_by = _behind(error)
        is_timeout = isinstance(ended_by, AirflowSensorTimeout | NotConfirmedError)
        if not (self.cancel_on_timeout and is_timeout) and not (
            self.cancel_on_kill and isinstance(ended_by, AirflowTaskTimeout)
        ):
            return error
        self._requested = self._request_cancellation(self._watch.pending, because=f"{type(ended_by).__name__}.")
        message = f"{error}\n{_told(self._requested)}"
        if isinstance(error, NotConfirmedError):
            return NotConfirmedError(message, report=self._report())
        return type(error)(message)

    def _finish_killing(self, names: Sequence[str]) -> None:
        """Wait for what ``on_kill`` began, and request what it could not, before the process ends."""
        if not self.cancel_on_kill:
            return
        settled: frozenset[str] = frozenset()
        if self._killing is not None:
            self._killing.finish()
            settled = self._killing.settled
        left = [name for name in names if name not in settled]
        if left:
            self._requested = self._request_cancellation(left, because="The task was killed.", seconds=_KILL_SECONDS)

    def _request_cancellation(self, names: Sequence[str], *, because: str, seconds: float = _CANCEL_SECONDS) -> Report:
        """Ask, whatever goes wrong: the task is failing already, and not for this."""
        try:
            client = self._get_hook().get_conn()
            return cancel_in_haste(client, names, log=self.log, because=because, seconds=seconds)
        except Exception:
            self.log.exception("Cancellation of %s could not be requested.", ", ".join(names))
            return Report()

    def _report(self) -> Report:
        """What was seen, and what became of the operations when their cancellation was requested."""
        report = self._watching().report().updated(self._requested.results)
        return report if self._killing is None else report.updated(self._killing.report.results)

    @property
    def _killed(self) -> bool:
        return self._stop.requested

    def _skip_if_flagged(self, error: BaseException) -> None:
        """Apply soft_fail and never_fail as Airflow does in poke mode, in every mode."""
        if self._killed:
            return  # a kill is no failed check
        soft = isinstance(error, (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException))
        if (self.soft_fail and soft) or (self.never_fail and isinstance(error, Exception)):
            raise AirflowSkipException(str(error)) from error

    def _get_hook(self) -> EarthEngineOperationsHook:
        if self._hook is None:
            self._hook = EarthEngineOperationsHook(
                self.earthengine_conn_id,
                project_id=self.project_id,
                impersonation_chain=self.impersonation_chain,
            )
        return self._hook

    def _watching(self) -> Watch:
        if self._watch is None:
            self._watch = Watch(
                tuple(self._get_hook().parse(self.operations).require_valid()),
                accepted_states=frozenset(self.accepted_states),
                poll_failure_limit=self.poll_failure_limit,
            )
        return self._watch

    def _nothing(self) -> dict[str, Any]:
        message = "No operation to wait for: operations is empty, or its template rendered to nothing."
        if self.if_empty == "fail":
            raise AirflowFailException(message)
        if self.if_empty == "skip":
            raise AirflowSkipException(message)
        self.log.warning("%s The task succeeds all the same; if_empty='skip' or 'fail' changes that.", message)
        return Report().to_dict()

    def _start_deferred(self, context: Context) -> Any:
        """Ask once here, as what is confirmed already needs no trigger; then hand over."""
        first = self.poke(context)
        if first:
            return first.xcom_value
        self._check_not_killed()
        return self._defer(context)

    def _defer(self, context: Context) -> NoReturn:
        now = time.time()
        limit = execution_deadline(context)
        deadline = deadline_of(self.timeout, now=now, limit=limit)
        self.defer(
            trigger=EarthEngineOperationsTrigger(
                operations=self._watching().names,
                earthengine_conn_id=self.earthengine_conn_id,
                impersonation_chain=self.impersonation_chain,
                poll_interval=self.poke_interval,
                deadline=deadline,
                accepted_states=self.accepted_states,
                poll_failure_limit=self.poll_failure_limit,
                max_concurrency=self.max_concurrency,
                cancel_on_kill=self.cancel_on_kill,
                source_task_ids=self._source_task_ids,
            ),
            method_name="execute_complete",
            kwargs=None if limit is None else {"execution_ends": limit},
            timeout=backstop(deadline, now=now),
        )

    def _conclude(
        self, verdict: Verdict, message: str, report: Report, *, by_execution_timeout: bool = False
    ) -> dict[str, Any]:
        """Return the report, or raise what the verdict means for a task."""
        if verdict is Verdict.NOT_ACCEPTED:
            raise AirflowFailException(message)
        if verdict is Verdict.TIMED_OUT:
            if by_execution_timeout:
                raise NotConfirmedError(f"execution_timeout: {message}", report=report)
            raise AirflowSensorTimeout(message)
        failures = not_confirmed(report, if_not_found=self.if_not_found)
        if verdict is Verdict.POLLS_FAILED or failures:
            if mistaken := task_ids_among(failures, self):
                message += (
                    f"\n{', '.join(map(repr, mistaken))}: a task id of this DAG, and no operation: pass what the task"
                    " returns"
                )
            raise NotConfirmedError(message, report=report)
        with report_fields(report, verdict=verdict):
            self.log.info("%s", message)
        return report.to_dict()


def _told(requested: Report) -> str:
    """Say in an error what was requested."""
    return f"Cancellation was requested: {requested.summary}"


def _behind(error: BaseException) -> BaseException:
    """What ended the wait, where soft_fail or never_fail made a skip of it; a timeout then is no cause of the skip."""
    if not isinstance(error, AirflowSkipException):
        return error
    return error.__cause__ or AirflowSensorTimeout()
