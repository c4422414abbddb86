"""The trigger: thin; it asks what :mod:`airflow_provider_eeops.api.watching` decides, in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_eeops._compat import TRIGGERS_HAVE_ON_KILL
from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.models import counted
from airflow_provider_eeops.api.names import check_operation_name, packed, unpacked
from airflow_provider_eeops.api.observing import WAIT, Observer, tell_confirmed
from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, conclude_wait
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.checks import require_count, require_positive
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.instances import Instance, Run
from airflow_provider_eeops.progress import log_poll
from airflow_provider_eeops.telemetry import telemetry
from airflow_provider_eeops.xcom import pull_recorded, task_states

if TYPE_CHECKING:
    from airflow_provider_eeops.ownership import Judgement
    from airflow_provider_eeops.triggers.sharing import Follower, SharedConnection

__all__ = ["EarthEngineOperationsTrigger"]

_LOOK_SECONDS = 2.0
"""Between the first two looks at who owns the operations."""

_LONGEST_LOOK_SECONDS = 60.0
"""Between two looks, after many."""

_UNDECIDED_SECONDS = 24 * 3600.0
"""How long the next try may be on its way, or Airflow give no answer."""

_FIRST_ANSWER_SECONDS = 10.0
"""How long the first wait of a process waits for Airflow's first answer."""

_CANCEL_SECONDS = 25.0
"""What all requests of one kill may take together."""


class _Event(TriggerEvent):
    """Shows no more of itself in the triggerer's log, which has each event, than how the wait ended."""

    def __init__(self, payload: dict[str, Any]) -> None:
        super().__init__(payload)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        verdict, message = self.payload["verdict"], self.payload["message"]
        return f"TriggerEvent<{verdict}: {message.partition(chr(10))[0]}>"


_at_work: set[asyncio.Task[None]] = set()
"""Strong references: the event loop itself holds its tasks weakly."""


class EarthEngineOperationsTrigger(BaseTrigger):
    """Waits until every operation is confirmed, and says what became of each.

    Its arguments are stored as plain JSON: they name a connection and hold nothing secret.

    :param operations: operation names, or the ids by project as :meth:`serialize` stores them.
    :param earthengine_conn_id: id of the connection.
    :param impersonation_chain: service account to impersonate, or a chain of them. Default: the connection's.
    :param poll_interval: seconds between polls, and before the first, as who defers has just asked.
    :param deadline: seconds since the epoch at which the wait ends; None for no limit.
    :param accepted_states: terminal states that do not end the wait at once. Default: all.
    :param poll_failure_limit: polls that may fail in a row before the wait ends.
    :param max_concurrency: requests at once.
    :param cancel_on_kill: request cancellation when a person ends or clears the deferred task, or its DAG run ends.
        Never when the triggerer stops or another one takes over.
    :param source_task_ids: tasks that the operations come from: if one is cleared too, it starts others.
    :param requested_at: when their cancellation was requested, in seconds since the epoch; None if it was not.
    :raises InvalidInputError: one is no operation name, or another parameter is out of its range.
    """

    _has_asked: ClassVar[bool] = False

    def __init__(
        self,
        *,
        operations: Sequence[str] | Mapping[str, Sequence[str]],
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        accepted_states: Sequence[str] | None = None,
        poll_failure_limit: int = 10,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        cancel_on_kill: bool = True,
        source_task_ids: Sequence[str] = (),
        requested_at: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = [check_operation_name(name) for name in dict.fromkeys(unpacked(operations))]
        self.earthengine_conn_id = earthengine_conn_id
        self.impersonation_chain = impersonation_chain
        self.poll_interval = require_positive("poll_interval", poll_interval)
        self.deadline = deadline
        self.accepted_states = accepted_states
        self.poll_failure_limit = poll_failure_limit
        self.max_concurrency = require_count("max_concurrency", max_concurrency)
        self.cancel_on_kill = cancel_on_kill
        self.source_task_ids = list(source_task_ids)
        self.requested_at = requested_at
        self._watch: Watch | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        chain = self.impersonation_chain
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "operations": packed(self.operations),
                "earthengine_conn_id": self.earthengine_conn_id,
                "impersonation_chain": chain if chain is None or isinstance(chain, str) else list(chain),
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "accepted_states": None if self.accepted_states is None else sorted(self.accepted_states),
                "poll_failure_limit": self.poll_failure_limit,
                "max_concurrency": self.max_concurrency,
                "cancel_on_kill": self.cancel_on_kill,
                "source_task_ids": self.source_task_ids,
                "requested_at": self.requested_at,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the watch ends; yield one event with the verdict, its message and the report."""
        self._watch = watch = Watch(
            tuple(self.operations),
            deadline=self.deadline,
            accepted_states=parse_states(self.accepted_states),
            poll_failure_limit=self.poll_failure_limit,
            requested_at=self.requested_at,
        )
        try:
            verdict = await self._wait(watch)
        except asyncio.CancelledError:
            if not TRIGGERS_HAVE_ON_KILL:
                await self.on_kill()
            raise
        yield _Event(
            {
                "verdict": verdict.value,
                "message": watch.message(verdict),
                "report": watch.report().to_dict(),
            }
        )

    async def _wait(self, watch: Watch) -> Verdict:
        from airflow_provider_eeops.triggers.sharing import follow

        observer = await asyncio.to_thread(telemetry)  # the first one in a process takes a moment
        async with self._connection() as connection:
            with suppress(TimeoutError):
                async with asyncio.timeout(watch.seconds_left(now=time.time())):
                    await connection.client()  # that it cannot be had is an error now, and not a poll that failed
            await self._ask_first()
            async with follow(
                connection, watch, poll_interval=self.poll_interval, max_concurrency=self.max_concurrency
            ) as follower:
                with observer.span(WAIT, watch.names, now=time.time) as span:
                    verdict = await self._learn(follower, observer)
                    conclude_wait(observer, span, watch, verdict)
                    return verdict

    async def _learn(self, follower: Follower, observer: Observer) -> Verdict:
        watch = follower.watch
        while True:
            changed = await follower.news()
            if changed is not None:
                tell_confirmed(observer, changed, requested_at=watch.requested_at, now=time.time())
                # In a thread: while a triggerer sends triggers it takes no log, and waits until they are read.
                await asyncio.to_thread(log_poll, self.log, watch, changed)
            verdict = watch.verdict(now=time.time())
            if verdict is not Verdict.WAITING:
                return verdict

    async def _ask_first(self) -> None:
        """Ask Airflow once in a process: its first answer can take many seconds, for which a kill should not wait."""
        if self.cancel_on_kill and self.task_instance is not None and not EarthEngineOperationsTrigger._has_asked:
            EarthEngineOperationsTrigger._has_asked = True
            with suppress(Exception):  # a kill will ask again, and say so
                await asyncio.wait_for(self._judge(self.operations), _FIRST_ANSWER_SECONDS)

    async def on_kill(self) -> None:
        """Request cancellation of what is not confirmed, if nobody owns it any more.

        Airflow cancels this very method a second after it has called it, and calls it too when another triggerer
        takes over (facts of 3.3.2): so the work is a task of its own, and begins by asking whose the operations are.
        """
        if not self.cancel_on_kill:
            with log_fields(operations=len(self.operations)):
                self.log.info("cancel_on_kill is off: %s go on.", counted(len(self.operations)))
            return
        work = asyncio.create_task(self._cancel_if_unowned())
        _at_work.add(work)
        work.add_done_callback(_at_work.discard)
        while not work.done():
            with suppress(asyncio.CancelledError):  # of this method, every second; the work has its own
                await asyncio.shield(work)

    async def _cancel_if_unowned(self) -> None:
        try:
            names = await self._unowned()
            if names:
                await self._request_cancellation(names)
        except asyncio.CancelledError:
            self.log.error(  # noqa: TRY400 - the triggerer stops, which says nothing more
                "The triggerer stops before it is known whose these are; cancel them if nobody waits for them: %s",
                ", ".join(self.operations),
            )
            raise
        except Exception:
            self.log.exception("Cancellation of %s could not be requested.", ", ".join(self.operations))

    async def _unowned(self) -> tuple[str, ...]:
        """Ask until it is decided whose the operations are."""
        names = tuple(self.operations) if self._watch is None else self._watch.pending
        if self.task_instance is None:  # dag.test()
            return ()
        until = time.monotonic() + _UNDECIDED_SECONDS
        pause, was_undecided = _LOOK_SECONDS, False
        while time.monotonic() < until:
            try:
                judgement = await self._judge(names, was_undecided=was_undecided)
            except Exception:
                self.log.exception("Airflow did not say whose the operations are; asking again.")
            else:
                if not judgement.undecided:
                    kept = [name for name in names if name not in judgement.cancel]
                    if kept:
                        self.log.info(
                            "Of these the task is the owner still, and no cancel is sent: %s", ", ".join(kept)
                        )
                    return judgement.cancel
                was_undecided = True
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_LOOK_SECONDS)
        self.log.error("No next try was seen to wait in %g s: %s go on.", _UNDECIDED_SECONDS, ", ".join(names))
        return ()

    async def _judge(self, names: Sequence[str], *, was_undecided: bool = False) -> Judgement:
        from asgiref.sync import sync_to_async

        from airflow_provider_eeops.ownership import all_ended, judge_killed

        ti: Any = self.task_instance
        run, instance = Run(ti.dag_id, ti.run_id), Instance(ti.task_id, ti.map_index)
        # In this order: what is recorded when a try is seen to be deferred is that try's, or a later one's.
        states = await sync_to_async(task_states)(run, [ti.task_id, *self.source_task_ids])
        recorded = await sync_to_async(pull_recorded)(run, instance)
        return judge_killed(
            names,
            state=states.get(instance.key, "removed"),
            recorded=recorded if isinstance(recorded, list) else None,
            sources_ended=all_ended(states, self.source_task_ids, map_index=ti.map_index),
            was_undecided=was_undecided,
        )

    async def _request_cancellation(self, names: Sequence[str]) -> None:
        async with self._connection() as connection:
            await connection.cancel(
                partial(
                    cancel_in_haste,
                    names=names,
                    log=self.log,
                    because="The deferred task was ended or cleared.",
                    seconds=_CANCEL_SECONDS,
                )
            )

    def _connection(self) -> AbstractAsyncContextManager[SharedConnection]:
        from airflow_provider_eeops.triggers.sharing import shared_connection

        return shared_connection(self.earthengine_conn_id, self.impersonation_chain)
