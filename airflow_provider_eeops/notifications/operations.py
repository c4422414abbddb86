"""The notifier that cancels: for callbacks and deadlines."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_eeops.api.cancelling import cancel_in_haste, invalid_results
from airflow_provider_eeops.api.logfields import result_fields
from airflow_provider_eeops.api.models import counted
from airflow_provider_eeops.api.names import ParsedNames
from airflow_provider_eeops.callbacks import (
    Caller,
    caller_of,
    find_instances,
    is_about_run,
    may_cancel,
    run_of,
)
from airflow_provider_eeops.exceptions import InvalidOperationNameError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.instances import Instance, Run
from airflow_provider_eeops.recovering import add_recovered, intents_in
from airflow_provider_eeops.xcom import (
    STARTING_KEY,
    pull_from_instance,
    pull_own,
    pull_recorded,
    task_states,
    unknown_task,
    with_starting_of,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["EarthEngineCancelOperationsNotifier"]

_WORKER_SECONDS = 15.0
"""What a call may take in the worker, which ends a callback after 20 s."""

_ELSEWHERE_SECONDS = 30.0
"""What it may take in the DAG processor, which ends a callback after 50 s, and in the triggerer. The first question to
Airflow's API takes up to 10 s there."""

_READ_SECONDS = 7.0
"""After this no further task instance is read; the rest of the time is for the requests."""

_NAMED = 100
"""Operations or task instances that one line of the log names at most."""

_NEVER_RAN = frozenset({"upstream_failed", "removed", None})


class EarthEngineCancelOperationsNotifier(BaseNotifier):
    """Request cancellation of operations from a callback.

    For a task's ``on_failure_callback``, ``on_retry_callback`` and ``on_skipped_callback``, a DAG's
    ``on_failure_callback``, and a Deadline Alert's ``AsyncCallback``. It requests and does not wait: a callback has
    seconds. What became of each request is in the log. It never raises a second error over the one that called it.

    Without ``operations`` and ``xcom_task_ids`` it takes what was recorded in XCom under
    ``earthengine_operations``: by the task instance whose callback this is, not by its mapped siblings; as a DAG's
    callback or a deadline's, by the tasks of the run that have not succeeded. What a later try may have recorded is
    left alone; the log names it.

    :param operations: the operations (templated), any shape. Default: those that were recorded.
    :param xcom_task_ids: cancel what these tasks recorded or returned, all mapped instances, whatever their state
        (templated).
    :param project_id: project of operation ids given without one (templated). Default: the connection's.
    :param earthengine_conn_id: id of the connection (templated).
    :param impersonation_chain: service account to impersonate, or a chain of them (templated). Default: the
        connection's.
    """

    template_fields: Sequence[str] = (
        "operations",
        "xcom_task_ids",
        "project_id",
        "earthengine_conn_id",
        "impersonation_chain",
    )

    def __init__(
        self,
        *,
        operations: Any = None,
        xcom_task_ids: str | Sequence[str] | None = None,
        project_id: str | None = None,
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if operations is not None and xcom_task_ids is not None:
            raise ValueError("operations and xcom_task_ids are both given: remove one")
        self.operations = operations
        self.xcom_task_ids = xcom_task_ids
        self.project_id = project_id
        self.earthengine_conn_id = earthengine_conn_id
        self.impersonation_chain = impersonation_chain

    def __call__(self, *args: Any) -> None:
        """Cancel, from a worker or the DAG processor.

        :param args: the callback's context.
        """
        # Rendering changes the instance, and one instance may serve many tasks and calls.
        one = copy(self)
        in_worker = len(args) == 1 and "exception" in args[0]
        seconds = _WORKER_SECONDS if in_worker else _ELSEWHERE_SECONDS
        try:
            if not _ends_within(seconds, lambda: one._call(*args)):  # noqa: SLF001 - it is this very class
                self._gave_up(seconds)
        except _StillWaitingError:
            self.log.error(  # noqa: TRY400 - there is nothing to trace
                "No cancellation could be requested: an earlier callback in this process still waits for Airflow's"
                " answer, and this one would wait behind it."
            )

    def _call(self, *args: Any) -> None:
        try:
            super().__call__(*args)
        except Exception:
            self.log.exception("No cancellation could be requested.")

    def __await__(self) -> Generator[Any, Any, None]:
        """Cancel, from the triggerer."""
        one = copy(self)
        return one._call_async().__await__()  # noqa: SLF001 - it is this very class

    async def _call_async(self) -> None:
        try:
            self._update_context(self.context)
            self.render_template_fields(self.context)
            await self.async_notify(self.context)
        except Exception:
            self.log.exception("No cancellation could be requested.")

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the templated fields. Airflow 2 would leave the template where it renders to nothing.

        :param context: the callback's context.
        :param jinja_env: to render with. Default: the DAG's.
        """
        env = jinja_env or self.get_template_env(dag=context.get("dag"))
        for field in self.template_fields:
            setattr(self, field, self.render_template(getattr(self, field), context, env))

    def notify(self, context: Context) -> None:
        """Cancel, from a worker or the DAG processor.

        :param context: the callback's context.
        """
        with self._hook() as hook:
            self._cancel(hook, context)

    async def async_notify(self, context: Context) -> None:
        """Cancel, from the triggerer.

        :param context: the callback's context; a deadline's has the run, but no task.
        """
        from asgiref.sync import sync_to_async

        async def cancel() -> None:
            with self._hook() as hook:
                await hook.load()
                await sync_to_async(self._cancel, thread_sensitive=False)(hook, context)

        try:
            await asyncio.wait_for(cancel(), _ELSEWHERE_SECONDS)
        except TimeoutError:
            self._gave_up(_ELSEWHERE_SECONDS)

    def _gave_up(self, seconds: float) -> None:
        self.log.error(
            "Not done after %g s, and not waited for any longer: Airflow does not answer, or a template asks for what"
            " is never answered here, such as xcom_push. The lines above are all that is known; cancel what they do"
            " not name in a task with the trigger rule all_done.",
            seconds,
        )

    def _hook(self) -> EarthEngineOperationsHook:
        return EarthEngineOperationsHook(
            self.earthengine_conn_id,
            project_id=self.project_id,
            impersonation_chain=self.impersonation_chain,
        )

    def _cancel(self, hook: EarthEngineOperationsHook, context: Context) -> None:
        _ = hook.settings  # without the connection nothing can be requested, so nothing need be read
        parsed, source = self._find(hook, context)
        if not parsed.names:
            for result in invalid_results(parsed.invalid):
                with result_fields(result):
                    self.log.error("%s", result)
            if not parsed.invalid:
                self.log.warning("No operation to cancel: %s.", source)
            return
        cancel_in_haste(
            hook.get_conn(), parsed.names, invalid=parsed.invalid, log=self.log, because="The callback was called."
        )

    # Which operations

    def _find(self, hook: EarthEngineOperationsHook, context: Context) -> tuple[ParsedNames, str]:
        """Find the operations; say what had none, for the case that there are none."""
        if self.operations is not None:
            return hook.parse(self.operations), "operations is empty, or its template rendered to nothing"
        run = run_of(context)
        if run is None:
            return ParsedNames(), "none was given, and this callback has no DAG run to ask"
        if self.xcom_task_ids is not None:
            return self._of_tasks(hook, run)
        if is_about_run(context):
            return (
                self._of_run(hook, run, caller_of(context)),
                f"none was given, and no task of run {run.run_id} has left one that may be cancelled",
            )
        ti: Any = context["ti"]
        instance = Instance(ti.task_id, ti.map_index)
        starting = intents_in(pull_own(ti, STARTING_KEY))
        recorded = {
            instance: add_recovered(hook.parse(pull_own(ti)), starting, hook, is_certain=instance.map_index < 0)
        }
        if not any(_holds(parsed) for parsed in recorded.values()):
            return ParsedNames(), f"none was given, and task {ti.task_id} recorded none"
        return (
            self._permitted(run, recorded, caller_of(context)),
            f"none was given, and none that task {ti.task_id} recorded may be cancelled",
        )

    def _of_tasks(self, hook: EarthEngineOperationsHook, run: Run) -> tuple[ParsedNames, str]:
        """Find what the tasks that were named recorded or returned."""
        given = self.xcom_task_ids
        task_ids: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
        task_ids = [task_id for task_id in task_ids if task_id not in ("", None)]
        if not task_ids:
            return ParsedNames(), "xcom_task_ids is empty, or its template rendered to nothing"
        instances = find_instances(lambda some: task_states(run, some))
        known = dict.fromkeys(instance.task_id for instance in instances)
        recorded = self._read(
            [instance for instance in instances if instance.task_id in task_ids],
            lambda instance: pull_from_instance(run, instance, hook=hook),
        )
        found = _together(recorded.values())
        found.invalid += [
            unknown_task(task_id, known, where=f"run {run.run_id} of DAG {run.dag_id}")
            for task_id in task_ids
            if task_id not in known
        ]
        return found, f"{', '.join(map(str, task_ids))} recorded none"

    def _of_run(self, hook: EarthEngineOperationsHook, run: Run, caller: Caller) -> ParsedNames:
        """Find what the tasks of the run recorded that have not succeeded: who has handed its operations on."""
        instances = find_instances(lambda some: task_states(run, some))
        wanted = sorted(
            (instance for instance, state in instances.items() if state != "success"),
            key=lambda instance: instances[instance] in _NEVER_RAN,
        )
        recorded = self._read(
            wanted, lambda instance: with_starting_of(run, instance, hook.parse(pull_recorded(run, instance)), hook)
        )
        return self._permitted(run, recorded, caller)

    def _read(
        self, instances: Sequence[Instance], pull: Callable[[Instance], ParsedNames]
    ) -> dict[Instance, ParsedNames]:
        """Read what these task instances recorded, for as long as there is time."""
        until = time.monotonic() + _READ_SECONDS
        recorded: dict[Instance, ParsedNames] = {}
        for count, instance in enumerate(instances):
            if time.monotonic() > until:
                self.log.error(
                    "No time was left to read what these recorded: %s. Cancel it in a task with the trigger rule"
                    " all_done.",
                    _named(instances[count:]),
                )
                break
            try:
                recorded[instance] = pull(instance)
            except Exception:  # the others are read all the same
                self.log.exception("What task %s recorded cannot be read.", instance)
        return recorded

    def _permitted(self, run: Run, recorded: Mapping[Instance, ParsedNames], caller: Caller) -> ParsedNames:
        """Leave out what a later try may have recorded. The states are read after the names: see may_cancel."""
        permitted: list[ParsedNames] = []
        states: dict[str, dict[str, str | None]] = {}
        for instance, parsed in recorded.items():
            if not _holds(parsed):
                continue
            if instance.task_id not in states:
                states[instance.task_id] = self._states(run, instance.task_id)
            state = states[instance.task_id].get(instance.key, "unknown")
            if may_cancel(state, caller):
                permitted.append(parsed)
                continue
            self.log.warning(
                "Left alone: %s of task %s, whose state is %s, so that %s. If they are to be cancelled, name them to"
                " EarthEngineCancelOperationsOperator: %s",
                counted(len(parsed.names)),
                instance,
                state,
                "its operations are handed on" if caller is Caller.DEADLINE else "a later try may have started them",
                _named(parsed.names),
            )
        return _together(permitted)

    def _states(self, run: Run, task_id: str) -> dict[str, str | None]:
        try:
            return task_states(run, [task_id])
        except Exception as error:  # noqa: BLE001 - what is in doubt is decided by may_cancel
            self.log.warning("The state of task %s cannot be asked for: %s", task_id, error)
            return {}


def _holds(parsed: ParsedNames) -> bool:
    return bool(parsed.names or parsed.invalid)


def _together(found: Iterable[ParsedNames]) -> ParsedNames:
    names: dict[str, None] = {}
    invalid: list[InvalidOperationNameError] = []
    for parsed in found:
        names.update(dict.fromkeys(parsed.names))
        invalid += parsed.invalid
    return ParsedNames(list(names), invalid)


def _named(things: Sequence[object]) -> str:
    more = f" and {len(things) - _NAMED} more" if len(things) > _NAMED else ""
    return ", ".join(map(str, things[:_NAMED])) + more


class _StillWaitingError(Exception):
    """An earlier call was left behind and has not ended: it holds the line to Airflow."""


_left_behind: list[threading.Thread] = []


def _ends_within(seconds: float, call: Callable[[], None]) -> bool:
    """Whether a call ends in time. One that does not is left behind: Airflow may never answer what it asked.

    :raises _StillWaitingError: it would wait behind such a call.
    """
    if any(thread.is_alive() for thread in _left_behind):
        raise _StillWaitingError
    thread = threading.Thread(target=contextvars.copy_context().run, args=(call,), name="eeops-callback", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started
        call()
        return True
    thread.join(seconds)
    if thread.is_alive():
        _left_behind.append(thread)
    return not thread.is_alive()
