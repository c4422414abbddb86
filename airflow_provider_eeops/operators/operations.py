"""The operator that cancels operations by name or from an upstream XCom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, conf

from airflow_provider_eeops.api.cancelling import cancel_operations, invalid_results
from airflow_provider_eeops.api.deadlines import backstop, deadline_of
from airflow_provider_eeops.api.models import OperationResult, Outcome, Report, counted, listing
from airflow_provider_eeops.api.names import ParsedNames
from airflow_provider_eeops.api.policies import failed_to_cancel, nothing_was_left
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, wait
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.checks import require_choice, require_count, require_positive, seconds
from airflow_provider_eeops.exceptions import CancellationFailedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.killing import KillCanceller
from airflow_provider_eeops.progress import log_poll
from airflow_provider_eeops.stopping import Stop, execution_deadline
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from airflow_provider_eeops.xcom import (
    RETURN_VALUE,
    pull_from_tasks,
    pull_own,
    push_owned,
    push_report,
    source_task_ids,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["EarthEngineCancelOperationsOperator"]


class EarthEngineCancelOperationsOperator(BaseOperator):
    """Request cancellation of Earth Engine operations, and return what became of each.

    Every operation is tried before the task fails; the error lists each failure. The report (counts by outcome, and
    per operation its name, outcome, last state, error code and message) is pushed to XCom also when the task fails.

    Earth Engine cancels asynchronously and by best effort: without ``wait_for_completion`` the task ends when the
    requests were accepted, and operations may still be running, or finish all the same.

    :param operations: the operations (templated): names, ids, Operations, ``ee.batch.Task.status()``, lists of
        these, an XComArg, a template that renders to any of these.
    :param xcom_task_ids: instead of ``operations``, the upstream tasks whose XComs hold them (templated): whatever
        those tasks pushed, failed or not, all mapped instances.
    :param xcom_key: with ``xcom_task_ids``, the XCom key (templated). Default: ``return_value``, and
        ``earthengine_operations``, which ``track_operations`` pushes.
    :param project_id: project of operation ids given without one (templated). Default: the connection's.
    :param earthengine_conn_id: id of the connection (templated).
    :param impersonation_chain: service account to impersonate, or a chain of them (templated). Default: the
        connection's.
    :param wait_for_completion: end only when every operation is confirmed.
    :param deferrable: the same, without holding a worker slot. Default: ``wait_for_completion`` decides whether to
        wait, and ``[operators] default_deferrable`` decides how.
    :param timeout: seconds to wait, or a timedelta; then the task fails, listing what is not confirmed. None waits
        without a limit.
    :param poll_interval: seconds between polls while waiting.
    :param cancel_on_kill: request cancellation again, of what is not confirmed yet, when the task is killed while it
        waits.
    :param max_concurrency: requests at once.
    :param validate_only: log and return what would be cancelled; no request is made.
    :param if_finished: what to do about operations that finished first. ``ignore``: nothing; ``skip``: skip the task
        if none was left to cancel; ``fail``: fail if any finished first.
    :param if_not_found: ``fail`` or ``ignore`` operations that the server does not know.
    :param if_empty: what to do if there is no operation at all: ``ignore`` (succeed), ``skip`` or ``fail``.
    """

    template_fields: Sequence[str] = (
        "operations",
        "xcom_task_ids",
        "xcom_key",
        "project_id",
        "earthengine_conn_id",
        "impersonation_chain",
    )
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        operations: Any = None,
        xcom_task_ids: str | Sequence[str] | None = None,
        xcom_key: str | None = None,
        project_id: str | None = None,
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        timeout: float | timedelta | None = 3600.0,
        poll_interval: float = 10.0,
        cancel_on_kill: bool = True,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        validate_only: bool = False,
        if_finished: Literal["ignore", "skip", "fail"] = "ignore",
        if_not_found: Literal["ignore", "fail"] = "fail",
        if_empty: Literal["ignore", "skip", "fail"] = "ignore",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if operations is None and xcom_task_ids is None:
            raise ValueError(f"task {self.task_id}: give operations, or xcom_task_ids")
        if operations is not None and xcom_task_ids is not None:
            raise ValueError(f"task {self.task_id}: operations and xcom_task_ids are both given: remove one")
        if xcom_key is not None and xcom_task_ids is None:
            raise ValueError(f"task {self.task_id}: xcom_key means nothing without xcom_task_ids")
        self.operations = operations
        self.xcom_task_ids = xcom_task_ids
        self.xcom_key = xcom_key
        self.project_id = project_id
        self.earthengine_conn_id = earthengine_conn_id
        self.impersonation_chain = impersonation_chain
        # A site-wide default says how to wait; it must not make a task wait that was not asked to.
        self.wait_for_completion = wait_for_completion or deferrable is True
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )
        self.timeout = seconds("timeout", timeout)
        self.poll_interval = require_positive("poll_interval", poll_interval)
        self.cancel_on_kill = cancel_on_kill
        self.max_concurrency = require_count("max_concurrency", max_concurrency)
        self.validate_only = validate_only
        self.if_finished = require_choice("if_finished", if_finished, ("ignore", "skip", "fail"))
        self.if_not_found = require_choice("if_not_found", if_not_found, ("ignore", "fail"))
        self.if_empty = require_choice("if_empty", if_empty, ("ignore", "skip", "fail"))
        self._stop = Stop()
        self._killing: KillCanceller | None = None
        self._watch: Watch | None = None
        self._source_task_ids = source_task_ids(operations)

    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel, and wait if asked to; return the report."""
        self._stop.begin()
        try:
            with EarthEngineOperationsHook(
                self.earthengine_conn_id,
                project_id=self.project_id,
                impersonation_chain=self.impersonation_chain,
            ) as hook:
                return self._execute(context, hook)
        finally:
            if self._killing is not None:
                self._killing.close()
            self._stop.end()
            self._killing = self._watch = None

    def _execute(self, context: Context, hook: EarthEngineOperationsHook) -> dict[str, Any]:
        parsed = self._find(context, hook)
        if not parsed.names and not parsed.invalid:
            return self._nothing(context)
        if not parsed.names:
            push_report(context, Report(tuple(invalid_results(parsed.invalid))))
            parsed.require_valid()
        if self.validate_only:
            return self._validated(context, parsed)
        self.log.info("Requesting cancellation of %s.", counted(len(parsed.names)))
        report = cancel_operations(
            hook.get_conn(), parsed.names, invalid=parsed.invalid, max_concurrency=self.max_concurrency
        )
        self.log.info("%s\n%s", report.summary, listing(report.results))
        open_names = tuple(result.name for result in report.having(Outcome.CANCEL_REQUESTED))
        if open_names and self.wait_for_completion:
            report = self._wait(context, hook, report, open_names)
        if self._stop.requested and report.having(Outcome.CANCEL_REQUESTED, Outcome.NOT_CONFIRMED):
            raise self._killed(context, report)
        return self._finish(context, report)

    def _find(self, context: Context, hook: EarthEngineOperationsHook) -> ParsedNames:
        if self.xcom_task_ids is None:
            return hook.parse(self.operations)
        return pull_from_tasks(context["ti"], self.xcom_task_ids, hook=hook, key=self.xcom_key)

    def _nothing(self, context: Context) -> dict[str, Any]:
        source = (
            "operations is empty, or its template rendered to nothing"
            if self.xcom_task_ids is None
            else f"{self.xcom_task_ids} pushed none"
        )
        message = f"No operation to cancel: {source}."
        if self.if_empty == "fail":
            push_report(context, Report())
            raise CancellationFailedError(message, report=Report())
        if self.if_empty == "skip":
            push_report(context, Report())
            raise AirflowSkipException(message)
        self.log.warning("%s The task succeeds all the same; if_empty='skip' or 'fail' changes that.", message)
        return Report().to_dict()

    def _validated(self, context: Context, parsed: ParsedNames) -> dict[str, Any]:
        would = tuple(OperationResult(name, Outcome.NOT_REQUESTED) for name in parsed.names)
        report = Report((*would, *invalid_results(parsed.invalid)))
        self.log.info("validate_only: nothing was sent. Would cancel:\n%s", listing(would))
        if parsed.invalid:
            push_report(context, report)
            parsed.require_valid()
        return report.to_dict()

    def _wait(
        self, context: Context, hook: EarthEngineOperationsHook, report: Report, names: tuple[str, ...]
    ) -> Report:
        limit = execution_deadline(context) if self.deferrable else None
        deadline = deadline_of(self.timeout, now=time.time(), limit=limit)
        push_report(context, report)  # what was requested is known whatever happens to the wait
        if self.cancel_on_kill:
            push_owned(context, names)
        if self.deferrable:
            self.defer(
                trigger=EarthEngineOperationsTrigger(
                    operations=list(names),
                    earthengine_conn_id=self.earthengine_conn_id,
                    impersonation_chain=self.impersonation_chain,
                    poll_interval=self.poll_interval,
                    deadline=deadline,
                    max_concurrency=self.max_concurrency,
                    cancel_on_kill=self.cancel_on_kill,
                    source_task_ids=self._source_task_ids,
                ),
                method_name="execute_complete",
                kwargs={"requested": report.to_dict()},
                timeout=backstop(deadline, now=time.time()),
            )
        self._watch = watch = Watch(names, deadline=deadline)
        if self.cancel_on_kill:
            self._killing = KillCanceller(hook)
        try:
            verdict = wait(
                hook.get_conn(),
                watch,
                poll_interval=self.poll_interval,
                max_concurrency=self.max_concurrency,
                on_poll=lambda changed: log_poll(self.log, watch, changed),
                sleep=lambda duration: self._sleep(duration, context, report.updated(watch.report().results)),
            )
        except BaseException:  # AirflowTaskTimeout is no Exception
            push_report(context, report.updated(watch.report().results))
            raise
        if verdict is not Verdict.SETTLED:
            self.log.warning("%s", watch.message(verdict))
        return report.updated(watch.report().results)

    def _sleep(self, duration: float, context: Context, report: Report) -> None:
        if self._stop.wait(duration):
            if self._killing is not None:
                self._killing.finish()
            raise self._killed(context, report)

    def _killed(self, context: Context, report: Report) -> CancellationFailedError:
        push_report(context, report)
        return CancellationFailedError(f"the task was killed. {report.summary}", report=report)

    def on_kill(self) -> None:
        """Stop waiting. Requests to cancel go on while the process lives: they are what the task is for."""
        self._stop.request()
        if self._killing is not None and self._watch is not None:
            self._killing.cancel(self._watch.pending)

    def execute_complete(
        self, context: Context, event: dict[str, Any], requested: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Take what the trigger saw; return the report."""
        if requested is None:  # dag.test() drops what defer() was given
            requested = pull_own(context["ti"], RETURN_VALUE)
        if event["verdict"] != Verdict.SETTLED:
            self.log.warning("%s", event["message"])
        seen = Report.from_dict(event["report"])
        report = seen if requested is None else Report.from_dict(requested).updated(seen.results)
        return self._finish(context, report)

    def _finish(self, context: Context, report: Report) -> dict[str, Any]:
        failures = failed_to_cancel(report, if_finished=self.if_finished, if_not_found=self.if_not_found)
        if failures:
            push_report(context, report)
            raise CancellationFailedError(
                f"{len(failures)} of {report.total} failed ({report.counts_words}):\n{listing(failures)}", report=report
            )
        if self.if_finished == "skip" and nothing_was_left(report):
            push_report(context, report)
            raise AirflowSkipException(f"No operation was left to cancel. {report.summary}")
        self.log.info("%s", report.summary)
        return report.to_dict()
