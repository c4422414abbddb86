"""The operator that cancels operations by name, from an upstream XCom, or by selection."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, conf

from airflow_provider_eeops.api.cancelling import cancel_operations, invalid_results
from airflow_provider_eeops.api.deadlines import backstop, deadline_of
from airflow_provider_eeops.api.logfields import log_fields, report_fields
from airflow_provider_eeops.api.models import OperationResult, Outcome, Report, counted, listing
from airflow_provider_eeops.api.names import ParsedNames
from airflow_provider_eeops.api.pace import shortfall
from airflow_provider_eeops.api.policies import failed_to_cancel, nothing_was_left
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, wait
from airflow_provider_eeops.api.watching import Verdict, Watch
from airflow_provider_eeops.checks import require_choice, require_count, require_positive, seconds
from airflow_provider_eeops.exceptions import CancellationFailedError, InvalidInputError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.links import LINKS, push_links
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
    task_ids_among,
    what_was_pulled,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_eeops.api.models import Operation
    from airflow_provider_eeops.api.selecting import Selection
    from airflow_provider_eeops.killing import KillCanceller

__all__ = ["EarthEngineCancelOperationsOperator"]

_FIRST_FEW = 10


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
    :param selector: instead of ``operations``, which operations of a project to take (templated): an
        OperationSelector, or a mapping of its parameters. All operations of the project are looked at, other people's
        too.
    :param max_operations: fail, before any request to cancel, if there are more operations than this. Default: 100
        with a ``selector``, else no limit.
    :param project_id: project of operation ids given without one, and of a ``selector`` without one (templated).
        Default: the connection's.
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
    :param validate_only: log and return what would be cancelled; nothing is asked to cancel (templated).
    :param if_finished: what to do about operations that finished first. ``ignore``: nothing; ``skip``: skip the task
        if none was left to cancel; ``fail``: fail if any finished first.
    :param if_not_found: ``fail`` or ``ignore`` operations that the server does not know. Default: ``ignore`` with a
        ``selector``, as what is gone since it was listed is not left running, else ``fail``.
    :param if_empty: what to do if there is no operation at all: ``ignore`` (succeed), ``skip`` or ``fail``.
    """

    template_fields: Sequence[str] = (
        "operations",
        "xcom_task_ids",
        "xcom_key",
        "selector",
        "project_id",
        "earthengine_conn_id",
        "impersonation_chain",
        "validate_only",
    )
    ui_color = "#e8f0e4"
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        operations: Any = None,
        xcom_task_ids: str | Sequence[str] | None = None,
        xcom_key: str | None = None,
        selector: Any = None,
        max_operations: int | None = None,
        project_id: str | None = None,
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        timeout: float | timedelta | None = 3600.0,
        poll_interval: float = 10.0,
        cancel_on_kill: bool = True,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        validate_only: bool | str = False,
        if_finished: Literal["ignore", "skip", "fail"] = "ignore",
        if_not_found: Literal["ignore", "fail"] | None = None,
        if_empty: Literal["ignore", "skip", "fail"] = "ignore",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given = {"operations": operations, "xcom_task_ids": xcom_task_ids, "selector": selector}
        sources = [name for name, value in given.items() if value is not None]
        if not sources:
            raise ValueError(f"task {self.task_id}: give operations, xcom_task_ids, or a selector")
        if len(sources) > 1:
            raise ValueError(f"task {self.task_id}: {' and '.join(sources)} are both given: remove one")
        if xcom_key is not None and xcom_task_ids is None:
            raise ValueError(f"task {self.task_id}: xcom_key means nothing without xcom_task_ids")
        self.operations = operations
        self.xcom_task_ids = xcom_task_ids
        self.xcom_key = xcom_key
        self.selector = _as_mapping(selector)
        self._by_selection = selector is not None
        self.max_operations = None if max_operations is None else require_count("max_operations", max_operations)
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
        self.validate_only = _truth("validate_only", validate_only, rendered=False)
        self.if_finished = require_choice("if_finished", if_finished, ("ignore", "skip", "fail"))
        if if_not_found is None:
            if_not_found = "ignore" if self._by_selection else "fail"
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
        validate_only = _truth("validate_only", self.validate_only)
        selection = self._select(hook) if self._by_selection else None
        parsed = self._find(context, hook) if selection is None else _names_of(selection, hook)
        if not parsed.names and not parsed.invalid:
            return self._nothing(context, selection)
        if not parsed.names:
            push_report(context, Report(tuple(invalid_results(parsed.invalid))))
            parsed.require_valid()
        push_links(context, parsed.names)
        found = _not_requested(parsed, selection)
        self._check_count(context, parsed, found)
        if validate_only:
            return self._validated(context, parsed, found, selection)
        if selection is not None and self._stop.requested:  # who kills a selection may have seen it take too much
            raise self._killed(context, found)
        client = hook.get_conn()
        with log_fields(operations=len(parsed.names)):
            self.log.info("Requesting cancellation of %s.", counted(len(parsed.names)))
        self._warn_if_too_many(context, len(parsed.names), client.requests_per_second)
        report = cancel_operations(client, parsed.names, invalid=parsed.invalid, max_concurrency=self.max_concurrency)
        with report_fields(report):
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

    def _select(self, hook: EarthEngineOperationsHook) -> Selection:
        from airflow_provider_eeops.api.selecting import OperationSelector

        selector = OperationSelector.of(self.selector)
        self.log.info("Looking for operations that are %s.", selector.criteria())
        selection = hook.select_operations(selector)
        self.log.info("%s%s", selection, f"\n{selection.lines()}" if selection else "")
        return selection

    def _check_count(self, context: Context, parsed: ParsedNames, found: Report) -> None:
        from airflow_provider_eeops.api.selecting import DEFAULT_MAX_OPERATIONS

        count = len(parsed.names)
        limit = self.max_operations
        if limit is None:
            limit = DEFAULT_MAX_OPERATIONS if self._by_selection else count
        if count <= limit:
            return
        push_report(context, found)
        remedy = "Narrow the selector" if self._by_selection else "Give fewer"
        raise CancellationFailedError(
            f"{counted(count)} found, and max_operations is {limit}: nothing was asked to cancel. {remedy}, or raise"
            f" max_operations. The first:\n{listing(found.results, most=_FIRST_FEW)}",
            report=found,
        )

    def _warn_if_too_many(self, context: Context, requests: int, requests_per_second: float) -> None:
        limit = execution_deadline(context)
        if limit is not None and (
            told := shortfall(requests, requests_per_second=requests_per_second, seconds=limit - time.time())
        ):
            self.log.warning("execution_timeout: %s", told)

    def _nothing(self, context: Context, selection: Selection | None) -> dict[str, Any]:
        if selection is not None:
            reason = str(selection)
        elif self.xcom_task_ids is None:
            reason = "operations is empty, or its template rendered to nothing."
        else:
            reason = f"{what_was_pulled(self.xcom_task_ids, self.xcom_key)}."
        message = f"No operation to cancel: {reason}"
        if self.if_empty == "fail":
            push_report(context, Report())
            raise CancellationFailedError(message, report=Report())
        if self.if_empty == "skip":
            push_report(context, Report())
            raise AirflowSkipException(message)
        if selection is None:
            self.log.warning("%s The task succeeds all the same; if_empty='skip' or 'fail' changes that.", message)
        return Report().to_dict()

    def _validated(
        self, context: Context, parsed: ParsedNames, found: Report, selection: Selection | None
    ) -> dict[str, Any]:
        would = found.having(Outcome.NOT_REQUESTED)
        lines = f":\n{listing(would)}" if selection is None else ", as listed above"
        self.log.info("validate_only: nothing was sent. Would cancel %s%s", counted(len(would)), lines)
        if parsed.invalid:
            push_report(context, found)
            parsed.require_valid()
        return found.to_dict()

    def _wait(
        self, context: Context, hook: EarthEngineOperationsHook, report: Report, names: tuple[str, ...]
    ) -> Report:
        requested_at = time.time()
        limit = execution_deadline(context) if self.deferrable else None
        deadline = deadline_of(self.timeout, now=requested_at, limit=limit)
        is_pushed = push_report(context, report)  # what was requested is known whatever happens to the wait
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
                    requested_at=requested_at,
                ),
                method_name="execute_complete",
                kwargs=None if is_pushed else {"requested": report.to_dict()},  # of thousands of operations, it is long
                timeout=backstop(deadline, now=time.time()),
            )
        self._watch = watch = Watch(names, deadline=deadline, requested_at=requested_at)
        if self.cancel_on_kill:
            from airflow_provider_eeops.killing import KillCanceller

            self._killing = KillCanceller(hook)
        try:
            verdict = wait(
                hook.get_conn(),
                watch,
                poll_interval=self.poll_interval,
                max_concurrency=self.max_concurrency,
                on_poll=lambda changed: self._polled(hook, watch, changed),
                sleep=lambda duration: self._sleep(duration, context, report.updated(watch.report().results)),
            )
        except BaseException:  # AirflowTaskTimeout is no Exception
            push_report(context, report.updated(watch.report().results))
            raise
        if verdict is not Verdict.SETTLED:
            with report_fields(watch.report(), verdict=verdict):
                self.log.warning("%s", watch.message(verdict))
        return report.updated(watch.report().results)

    def _polled(self, hook: EarthEngineOperationsHook, watch: Watch, changed: Sequence[Operation]) -> None:
        hook.come_by()
        log_poll(self.log, watch, changed)

    def _sleep(self, duration: float, context: Context, report: Report) -> None:
        if self._stop.wait(duration):
            if self._killing is not None:
                self._killing.finish()
            raise self._killed(context, report)

    def _killed(self, context: Context, report: Report) -> CancellationFailedError:
        push_report(context, report)
        return CancellationFailedError(f"the task was killed. {report.summary}", report=report)

    def on_kill(self) -> None:
        """Stop waiting, or selecting. Requests that were begun go on while the process lives: the task is for them."""
        self._stop.request()
        if self._killing is not None and self._watch is not None:
            self._killing.cancel(self._watch.pending)

    def execute_complete(
        self, context: Context, event: dict[str, Any], requested: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Take what the trigger saw; return the report."""
        if requested is None:
            requested = pull_own(context["ti"], RETURN_VALUE)
        seen = Report.from_dict(event["report"])
        if event["verdict"] != Verdict.SETTLED:
            with report_fields(seen, verdict=event["verdict"]):
                self.log.warning("%s", event["message"])
        if requested is None:
            self.log.warning("The report of the requests is not in XCom: what they met before the wait is not known.")
        report = seen if requested is None else Report.from_dict(requested).updated(seen.results)
        return self._finish(context, report)

    def _finish(self, context: Context, report: Report) -> dict[str, Any]:
        failures = failed_to_cancel(report, if_finished=self.if_finished, if_not_found=self.if_not_found)
        if failures:
            push_report(context, report)
            message = f"{len(failures)} of {report.total} failed ({report.counts_words}):\n{listing(failures)}"
            if mistaken := task_ids_among(failures, self):
                message += (
                    f"\n{', '.join(map(repr, mistaken))}: a task id of this DAG, and no operation: pass it as"
                    " xcom_task_ids"
                )
            raise CancellationFailedError(message, report=report)
        if self.if_finished == "skip" and nothing_was_left(report):
            push_report(context, report)
            raise AirflowSkipException(f"No operation was left to cancel. {report.summary}")
        with report_fields(report):
            self.log.info("%s", report.summary)
        return report.to_dict()


def _as_mapping(selector: Any) -> Any:
    """Check a selector; Airflow renders a mapping anew for each task instance, an object it would change in place."""
    if selector is None:
        return None
    from airflow_provider_eeops.api.selecting import OperationSelector, is_template  # most DAGs need none

    if is_template(selector) and not isinstance(selector, Mapping):
        return selector
    return OperationSelector.of(selector).parameters()


def _names_of(selection: Selection, hook: EarthEngineOperationsHook) -> ParsedNames:
    return hook.parse(list(selection), accept_ids=False)


def _not_requested(parsed: ParsedNames, selection: Selection | None) -> Report:
    """Report of what was found, before any request about it."""
    states = {operation.name: operation.state for operation in selection or ()}
    would = (OperationResult(name, Outcome.NOT_REQUESTED, state=states.get(name)) for name in parsed.names)
    return Report((*would, *invalid_results(parsed.invalid)))


def _truth(name: str, value: Any, *, rendered: bool = True) -> Any:
    """Read a flag, which a template renders as text; what is neither is refused, as not to do what was not meant."""
    if isinstance(value, bool):
        return value
    from airflow_provider_eeops.api.selecting import is_template

    if not rendered and is_template(value):
        return value
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise InvalidInputError(f"{name} is {value!r}: it must be True or False")
