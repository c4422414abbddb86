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
    TaskDeferred,
    conf,
)

from airflow_provider_eeops._compat import AirflowRescheduleException
from airflow_provider_eeops.api.models import Report
from airflow_provider_eeops.api.policies import not_confirmed
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, poll
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.checks import require_choice, require_count
from airflow_provider_eeops.exceptions import NotConfirmedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.progress import log_poll
from airflow_provider_eeops.stopping import Stop
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger, backstop, deadline_of
from airflow_provider_eeops.xcom import push_report

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["EarthEngineOperationsSensor"]


class EarthEngineOperationsSensor(BaseSensorOperator):
    """Wait until every Earth Engine operation is confirmed, and return what became of each.

    Confirmed is what was observed to be terminal, whichever way, as a cleanup needs it. With
    ``accepted_states={"SUCCEEDED"}`` it is an export sensor: another terminal state fails the task at once, without
    retries, with the operation's own error message.

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
    :param max_concurrency: requests at once.
    :param deferrable: wait in the triggerer, without holding a worker slot. Default: ``[operators]
        default_deferrable``.
    """

    template_fields: Sequence[str] = ("operations", "project_id", "earthengine_conn_id", "impersonation_chain")
    ui_color = "#e4ecf0"

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
        self.max_concurrency = require_count("max_concurrency", max_concurrency)
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )
        self._hook: EarthEngineOperationsHook | None = None
        self._watch: Watch | None = None
        self._stop: Stop | None = None

    def execute(self, context: Context) -> Any:
        """Wait; return the report."""
        self._stop = Stop()
        try:
            if not self._watching().names:
                return self._nothing()
            return self._start_deferred(context) if self.deferrable else super().execute(context)
        except (TaskDeferred, AirflowRescheduleException):
            raise
        except BaseException as error:  # AirflowTaskTimeout is no Exception
            if self._watch is not None:
                push_report(context, self._watch.report())
            self._skip_if_flagged(error)
            raise
        finally:
            self._get_hook().close()
            self._hook = self._watch = self._stop = None

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Ask once; say whether every operation is confirmed."""
        watch = self._watching()
        changed = poll(self._get_hook().get_conn(), watch, max_concurrency=self.max_concurrency)
        log_poll(self.log, watch, changed)
        verdict = watch.verdict(now=time.time())
        if verdict is Verdict.WAITING:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(verdict, watch.message(verdict), watch.report()))

    def on_kill(self) -> None:
        """End the wait: SIGTERM raises nothing in a task of Airflow 3."""
        if self._stop is not None:
            self._stop.request()

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Sleep here, where a kill ends it, and leave Airflow's own sleep nothing."""
        interval: float = super()._get_next_poke_interval(*args, **kwargs)
        if self.reschedule or self._stop is None:
            return interval
        if self._stop.wait(interval):
            raise NotConfirmedError("the task was killed while it waited", report=self._watching().report())
        return 0.0

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Take what the trigger saw; return the report."""
        report = Report.from_dict(event["report"])
        try:
            return self._conclude(Verdict(event["verdict"]), event["message"], report)
        except Exception as error:
            push_report(context, report)
            self._skip_if_flagged(error)
            raise

    def _skip_if_flagged(self, error: BaseException) -> None:
        """Apply soft_fail and never_fail as Airflow does in poke mode, in every mode."""
        if self._stop is not None and self._stop.requested:
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
        message = "No operation to wait for: operations is empty."
        if self.if_empty == "fail":
            raise AirflowFailException(message)
        if self.if_empty == "skip":
            raise AirflowSkipException(message)
        self.log.info("%s", message)
        return Report().to_dict()

    def _start_deferred(self, context: Context) -> Any:
        """Ask once here, as what is confirmed already needs no trigger; then hand over."""
        first = self.poke(context)
        if first:
            return first.xcom_value
        return self._defer(context)

    def _defer(self, context: Context) -> NoReturn:
        now = time.time()
        deadline = deadline_of(self.timeout, context, now=now, deferred=True)
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
            ),
            method_name="execute_complete",
            timeout=backstop(deadline, now=now),
        )

    def _conclude(self, verdict: Verdict, message: str, report: Report) -> dict[str, Any]:
        """Return the report, or raise what the verdict means for a task."""
        if verdict is Verdict.NOT_ACCEPTED:
            raise AirflowFailException(message)
        if verdict is Verdict.TIMED_OUT:
            if self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout:
                raise NotConfirmedError(f"execution_timeout: {message}", report=report)
            raise AirflowSensorTimeout(message)
        if verdict is Verdict.POLLS_FAILED or not_confirmed(report, if_not_found=self.if_not_found):
            raise NotConfirmedError(message, report=report)
        self.log.info("%s", message)
        return report.to_dict()
