"""The operator that starts exports, and owns them until they have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    conf,
    context_merge,
    determine_kwargs,
    get_current_context,
)

from airflow_provider_eeops._compat import PAUSES, is_ended_before_it_resumes
from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.deadlines import backstop, deadline_of
from airflow_provider_eeops.api.ee_state import initialized_project
from airflow_provider_eeops.api.exports import Export, exports_in
from airflow_provider_eeops.api.models import OperationState, Report, counted, listing
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, observe, poll
from airflow_provider_eeops.api.results import NotStarted, failure_of, rows_of
from airflow_provider_eeops.api.starts import Asked, goes_on
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.checks import require_choice, require_count, require_positive, seconds
from airflow_provider_eeops.exceptions import InvalidInputError, NotConfirmedError, OperationsError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.links import LINKS, push_links
from airflow_provider_eeops.progress import log_poll
from airflow_provider_eeops.stopping import DEFERRAL_FAILED, Stop, execution_deadline
from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger
from airflow_provider_eeops.xcom import pull_own, push_result

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_eeops.exporting import ExportOwner

__all__ = ["EarthEngineExportOperator"]

_QUEUE_SECONDS = 300.0
"""How long a task whose queue is full is deferred: a queue of thousands does not run empty in that time."""


class EarthEngineExportOperator(BaseOperator):
    """Start the exports that a function returns, wait until all have ended, and return what became of each.

    ::

        def export_ndvi(month):
            return [ee.batch.Export.image.toCloudStorage(...), ...]

    The function returns ``ee.batch.Task`` objects, operation names, or any shape that holds them, started or not. What
    is not started is started with request ids of the task's own, so that neither a lost answer nor a crashed worker
    starts an export twice. A retry, and a task that waits for room in Earth Engine's queue, call the function again: it
    must return its exports in the same order.

    The task fails if an export does, with Earth Engine's own message, and requests the cancellation of what still runs
    when it is killed, times out, or ends by an error for good. It returns, and pushes also when it fails, a list with a
    mapping for each export: ``name``, ``description``, ``state``, ``destination_uris``, ``eecu_seconds``,
    ``start_time`` and ``end_time`` in ISO 8601, and ``error_message``.

    :param python_callable: the function.
    :param op_args: its positional arguments (templated).
    :param op_kwargs: its keyword arguments (templated); it can ask for the variables of the context by name too.
    :param templates_dict: mapping whose values are rendered, and passed as ``templates_dict`` (templated).
    :param project_id: project that the exports are started in (templated). Default: the connection's.
    :param earthengine_conn_id: id of the connection (templated).
    :param impersonation_chain: service account to impersonate, or a chain of them (templated). Default: the
        connection's.
    :param initialize: initialise ``ee`` from the connection around the call of the function.
    :param on_retry: what a retry does. ``reattach``: waits for what still runs, keeps what has succeeded, and starts
        again what has failed or was cancelled; ``restart``: sees what the earlier try started cancelled first, and
        starts all again.
    :param fail_fast: at the first export that fails or is refused, request cancellation of the others, and fail; else
        start and wait for them all first.
    :param if_empty: what to do if the function returns no export: ``fail``, ``skip`` or ``ignore`` (succeed).
    :param timeout: seconds until the last end, counted anew in each try, or a timedelta; then the task requests
        cancellation of what is left, and fails. Default: no limit.
    :param poll_interval: seconds between polls.
    :param deferrable: wait without holding a worker slot. Default: ``[operators] default_deferrable``.
    :param max_concurrency: requests at once.
    """

    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        "templates_dict",
        "project_id",
        "earthengine_conn_id",
        "impersonation_chain",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_args": "py", "op_kwargs": "py", "templates_dict": "json"}
    shallow_copy_attrs: Sequence[str] = ("python_callable",)
    ui_color = "#e8f0e4"
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        templates_dict: dict[str, Any] | None = None,
        project_id: str | None = None,
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        initialize: bool = True,
        on_retry: Literal["reattach", "restart"] = "reattach",
        fail_fast: bool = True,
        if_empty: Literal["fail", "skip", "ignore"] = "fail",
        timeout: float | timedelta | None = None,
        poll_interval: float = 30.0,
        deferrable: bool | None = None,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(python_callable):
            raise InvalidInputError(f"python_callable is {python_callable!r}: it must be a function")
        self.python_callable = python_callable
        self.op_args = op_args or ()
        self.op_kwargs = op_kwargs or {}
        self.templates_dict = templates_dict
        self.project_id = project_id
        self.earthengine_conn_id = earthengine_conn_id
        self.impersonation_chain = impersonation_chain
        self.initialize = initialize
        self.on_retry = require_choice("on_retry", on_retry, ("reattach", "restart"))
        self.fail_fast = fail_fast
        self.if_empty = require_choice("if_empty", if_empty, ("fail", "skip", "ignore"))
        self.timeout = seconds("timeout", timeout)
        self.poll_interval = require_positive("poll_interval", poll_interval)
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )
        self.max_concurrency = require_count("max_concurrency", max_concurrency)
        self._stop = Stop()
        self._owner: ExportOwner | None = None

    def execute(self, context: Context) -> Any:
        """Start the exports and wait for them; return a row for each."""
        limit = execution_deadline(context)
        deadline = deadline_of(self.timeout, now=time.time(), limit=limit)
        with self._owning(context, deadline=deadline, execution_ends=limit) as owner:
            owner.ledger.save()  # Airflow has cleared the XComs of the earlier try, and the function may take long
            return self._start(owner, is_resumed=False)

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any],
        *,
        deadline: float | None = None,
        execution_ends: float | None = None,
        not_started: Sequence[dict[str, Any]] = (),
        waits_for_room: bool = True,
    ) -> Any:
        """Take what the trigger saw, and go on. ``dag.test()`` drops all but the event: what is left to do is found.

        :param context: the task's context.
        :param event: the trigger's.
        :param deadline: when the wait ends, in seconds since the epoch.
        :param execution_ends: when ``execution_timeout`` is over, as it was known when the task deferred.
        :param not_started: exports without an operation.
        :param waits_for_room: whether exports are still to be started.
        """
        verdict = Verdict(event["verdict"])
        with self._owning(context, deadline=deadline, execution_ends=execution_ends) as owner:
            owner.resume(Report.from_dict(event["report"]), [NotStarted(**each) for each in not_started])
            looks_again = verdict is Verdict.TIMED_OUT and (deadline is None or time.time() < deadline)
            if waits_for_room and (verdict is Verdict.SETTLED or looks_again):
                return self._start(owner, is_resumed=True)
            return self._conclude(owner, verdict, event["message"])

    def on_kill(self) -> None:
        """Stop, as SIGTERM raises nothing in a task of Airflow 3, and request cancellation of what was started."""
        self._stop.request()
        if self._owner is not None:
            self._owner.on_kill()
        elif not self._stop.begun and is_ended_before_it_resumes():
            with self._hook() as hook:
                names = hook.parse(pull_own(get_current_context()["ti"]), accept_ids=False).names
                because = "The time was over while the task was deferred."
                cancel_in_haste(hook.get_conn(), names, log=self.log, because=because)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral. If Airflow ended it, the operations go on to the next try, or are cancelled."""
        if next_method != DEFERRAL_FAILED:
            return super().resume_execution(next_method, next_kwargs, context)
        with self._owning(context, deadline=None, execution_ends=None) as owner:
            owner.take_over()
            return super().resume_execution(next_method, next_kwargs, context)

    @contextmanager
    def _owning(
        self, context: Context, *, deadline: float | None, execution_ends: float | None
    ) -> Iterator[ExportOwner]:
        self._stop.begin()
        try:
            with (
                self._hook() as hook,
                self._make_owner(context, hook, deadline=deadline, execution_ends=execution_ends) as owner,
            ):
                self._owner = owner
                try:
                    yield owner
                except PAUSES:
                    raise
                except BaseException as error:  # AirflowTaskTimeout is no Exception
                    self._end(owner, error)
                    raise
        finally:
            self._stop.end()
            self._owner = None

    def _make_owner(
        self,
        context: Context,
        hook: EarthEngineOperationsHook,
        *,
        deadline: float | None,
        execution_ends: float | None,
    ) -> ExportOwner:
        from airflow_provider_eeops.exporting import ExportOwner, record_unowned

        try:
            return ExportOwner(
                context,
                hook,
                self._stop,
                deadline=deadline,
                execution_ends=execution_ends,
                restart=self.on_retry == "restart",
                poll_interval=self.poll_interval,
                max_concurrency=self.max_concurrency,
            )
        except Exception:
            record_unowned(context, project_id=self.project_id)
            raise

    def _hook(self) -> EarthEngineOperationsHook:
        return EarthEngineOperationsHook(
            self.earthengine_conn_id, project_id=self.project_id, impersonation_chain=self.impersonation_chain
        )

    def _end(self, owner: ExportOwner, error: BaseException) -> None:
        """Let the operations go on to the next try, or request their cancellation, whatever goes wrong with that."""
        ti: Any = owner.context["ti"]
        is_retried = (
            not isinstance(error, (AirflowFailException, AirflowSkipException))
            and bool(self.retries and ti.try_number <= ti.max_tries)
            and not self._is_failed_by_policy(owner.context, error)
        )
        try:
            if goes_on(
                is_killed=self._stop.requested,
                is_retried=is_retried,
                restart=self.on_retry == "restart",
                is_retained=owner.ledger.is_retained,
            ):
                owner.let_go_on()
            else:
                owner.cancel(because=f"{type(error).__name__} ended the task.")
        except Exception:  # it must not hide why the task ends
            self.log.exception("Cancellation of %s could not be requested.", ", ".join(owner.open_names))

    def _is_failed_by_policy(self, context: Context, error: BaseException) -> bool:
        """Whether the task's retry policy, which Airflow has from 3.3 on, lets it have no next try."""
        policy: Any = getattr(self, "retry_policy", None)
        if policy is None:
            return False
        ti: Any = context["ti"]
        try:
            decision = policy.evaluate(
                exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=context
            )
            return bool(decision.action.value == "fail")
        except Exception:  # Airflow retries then
            self.log.exception("The retry policy did not say whether there is a next try.")
            return False

    def _start(self, owner: ExportOwner, *, is_resumed: bool) -> Any:
        def waits_for_room() -> bool:
            return not (self.deferrable and owner.open_names)

        with self._session(owner.hook):
            returned, positions = self._positions(owner)
            if not positions and not owner.ledger.names:
                return self._nothing(returned)
            left = owner.start(
                positions, is_resumed=is_resumed, stop_at_failure=self.fail_fast, waits_for_room=waits_for_room
            )
        push_links(owner.context, owner.names)
        if owner.is_over and (left or owner.not_started):
            return self._conclude(owner, Verdict.TIMED_OUT, _not_started_in_time(left, owner.not_started))
        if owner.not_started and self.fail_fast:
            self._fail(owner)
        states = [OperationState.SUCCEEDED] if self.fail_fast else None
        watch = Watch(tuple(owner.names), deadline=owner.deadline, accepted_states=parse_states(states))
        verdict = self._look(owner, watch)
        if verdict is Verdict.WAITING and self.deferrable:
            self._defer(owner, watch, waits_for_room=bool(left))
        if verdict is Verdict.WAITING:
            verdict = owner.wait(watch)
        return self._conclude(owner, verdict, watch.message(verdict))

    def _positions(self, owner: ExportOwner) -> tuple[Any, list[Export | str]]:
        """Call the function; return what it returned, and the exports and operations in it."""
        context, hook = owner.context, owner.hook
        context_merge(context, self.op_kwargs, templates_dict=self.templates_dict)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        try:
            returned = self.python_callable(*self.op_args, **kwargs)
            parsed = hook.parse(returned, accept_unstarted=True)  # it may be a generator
        except Exception as error:
            is_of_ee = type(error).__module__.partition(".")[0] == "ee"
            if self.initialize or not is_of_ee or initialized_project() is not None:
                raise
            raise InvalidInputError(
                f"{error} (Earth Engine is not initialised here: leave initialize=True, or call ee.Initialize in the"
                " function)"
            ) from error
        parsed.require_valid()
        return returned, exports_in(parsed.in_order, project_id=hook.project_id)

    @contextmanager
    def _session(self, hook: EarthEngineOperationsHook) -> Iterator[None]:
        if not self.initialize:
            yield
            return
        from airflow_provider_eeops.session import session_of

        with session_of(hook):
            yield

    def _nothing(self, returned: Any) -> list[dict[str, Any]]:
        message = f"{getattr(self.python_callable, '__name__', 'the function')} returned no export."
        if returned is None or (type(returned) in {list, tuple} and set(map(type, returned)) == {type(None)}):
            message += (
                " It returned None: return what ee.batch.Export made, and leave start() to this task, as start()"
                " returns None."
            )
        if self.if_empty == "fail":
            raise AirflowFailException(f"{message} if_empty='skip' or 'ignore' changes that.")
        if self.if_empty == "skip":
            raise AirflowSkipException(message)
        self.log.info("%s", message)
        return []

    def _look(self, owner: ExportOwner, watch: Watch) -> Verdict:
        """Ask once, as what has ended already needs no trigger."""
        changed = poll(owner.client, watch, max_concurrency=self.max_concurrency)
        owner.saw(changed)
        log_poll(self.log, watch, changed)
        return watch.verdict(now=time.time())

    def _defer(self, owner: ExportOwner, watch: Watch, *, waits_for_room: bool) -> NoReturn:
        now = time.time()
        owner.ledger.hand_over()
        look_again = now + _QUEUE_SECONDS if waits_for_room else None
        self.defer(
            trigger=EarthEngineOperationsTrigger(
                operations=list(watch.names),
                earthengine_conn_id=self.earthengine_conn_id,
                impersonation_chain=self.impersonation_chain,
                poll_interval=self.poll_interval,
                deadline=min((each for each in (watch.deadline, look_again) if each is not None), default=None),
                accepted_states=sorted(watch.accepted_states),
                max_concurrency=self.max_concurrency,
            ),
            method_name="execute_complete",
            kwargs={
                "deadline": watch.deadline,
                "execution_ends": owner.execution_ends,
                "not_started": [each.to_dict() for each in owner.not_started],
                "waits_for_room": waits_for_room,
            },
            timeout=backstop(watch.deadline, now=now),
        )

    def _conclude(self, owner: ExportOwner, verdict: Verdict, message: str) -> list[dict[str, Any]]:
        """Return the rows, or raise what the end of the wait means."""
        if verdict is Verdict.TIMED_OUT and owner.execution_ends is not None and time.time() >= owner.execution_ends:
            raise AirflowTaskTimeout(f"execution_timeout: {message}")
        if verdict is Verdict.TIMED_OUT:
            requested = owner.cancel(because=message.partition("\n")[0])
            raise NotConfirmedError(f"{message}\nCancellation was requested: {requested.summary}", report=requested)
        if verdict is Verdict.POLLS_FAILED:
            raise NotConfirmedError(message, report=Report())
        if verdict is Verdict.NOT_ACCEPTED:
            self._fail(owner)
        rows, error = self._results(owner)
        if error is not None:
            push_result(owner.context, rows)
            raise error
        owner.ledger.close()
        self.log.info("%s.", message)
        return rows

    def _fail(self, owner: ExportOwner) -> NoReturn:
        """Request cancellation of what still runs, and fail with what Earth Engine says of the rest."""
        owner.cancel(because="An export failed.")
        rows, error = self._results(owner)
        push_result(owner.context, rows)
        raise error or NotConfirmedError("an export was seen to fail, and is not any more", report=Report())

    def _results(self, owner: ExportOwner) -> tuple[list[dict[str, Any]], OperationsError | None]:
        """Ask a last time: neither a trigger nor a wait keeps all that a row says."""
        seen = observe(owner.client, owner.names, max_concurrency=self.max_concurrency)
        watch = Watch(tuple(owner.names))
        watch.learn(seen.operations, seen.errors)
        rows = rows_of(owner.names, owner.not_started, seen.operations, seen.errors)
        return rows, failure_of(watch.report(), owner.not_started)


def _not_started_in_time(left: Sequence[Asked], not_started: Sequence[NotStarted]) -> str:
    told = [f"{counted(len(left))} to start found no room in Earth Engine's queue in time"] if left else []
    if not_started:
        told.append(f"not started in time:\n{listing([each.result for each in not_started])}")
    return "; ".join(told)
