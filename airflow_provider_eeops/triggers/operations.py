"""The trigger: thin; it asks what :mod:`airflow_provider_eeops.api.watching` decides, in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_eeops.api.polling import DEFAULT_CONCURRENCY, poll
from airflow_provider_eeops.api.watching import Verdict, Watch, parse_states
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.progress import log_poll

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["EarthEngineOperationsTrigger", "backstop", "deadline_of"]

_BACKSTOP = 120.0
"""Seconds after our deadline at which Airflow's own deferral timeout ends a wait whose triggerer is gone."""


class EarthEngineOperationsTrigger(BaseTrigger):
    """Waits until every operation is confirmed, and says what became of each.

    Its arguments are stored as plain JSON: they name a connection and hold nothing secret.

    :param operations: operation names.
    :param earthengine_conn_id: id of the connection.
    :param impersonation_chain: service account to impersonate, or a chain of them. Default: the connection's.
    :param poll_interval: seconds between polls.
    :param deadline: seconds since the epoch at which the wait ends; None for no limit.
    :param accepted_states: terminal states that do not end the wait at once. Default: all.
    :param poll_failure_limit: polls that may fail in a row before the wait ends.
    :param max_concurrency: requests at once.
    """

    def __init__(
        self,
        *,
        operations: Sequence[str],
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        accepted_states: Sequence[str] | None = None,
        poll_failure_limit: int = 10,
        max_concurrency: int = DEFAULT_CONCURRENCY,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = list(operations)
        self.earthengine_conn_id = earthengine_conn_id
        self.impersonation_chain = impersonation_chain
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.accepted_states = accepted_states
        self.poll_failure_limit = poll_failure_limit
        self.max_concurrency = max_concurrency

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        chain = self.impersonation_chain
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "operations": self.operations,
                "earthengine_conn_id": self.earthengine_conn_id,
                "impersonation_chain": chain if chain is None or isinstance(chain, str) else list(chain),
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "accepted_states": None if self.accepted_states is None else sorted(self.accepted_states),
                "poll_failure_limit": self.poll_failure_limit,
                "max_concurrency": self.max_concurrency,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the watch ends; yield one event with the verdict, its message and the report."""
        watch = Watch(
            tuple(self.operations),
            deadline=self.deadline,
            accepted_states=parse_states(self.accepted_states),
            poll_failure_limit=self.poll_failure_limit,
        )
        with EarthEngineOperationsHook(self.earthengine_conn_id, impersonation_chain=self.impersonation_chain) as hook:
            await hook.load()
            client = await asyncio.to_thread(hook.get_conn)
            while True:
                changed = await asyncio.to_thread(poll, client, watch, max_concurrency=self.max_concurrency)
                log_poll(self.log, watch, changed)
                now = time.time()
                verdict = watch.verdict(now=now)
                if verdict is not Verdict.WAITING:
                    break
                await asyncio.sleep(watch.wait_before_poll(now=now, poll_interval=self.poll_interval))
        yield TriggerEvent(  # type: ignore[no-untyped-call]
            {
                "verdict": verdict.value,
                "message": watch.message(verdict),
                "report": watch.report().to_dict(),
            }
        )


def deadline_of(timeout: float | None, context: Context, *, now: float, deferred: bool) -> float | None:
    """Seconds since the epoch at which a wait ends.

    Airflow does not enforce ``execution_timeout`` while a task is deferred, so the wait does.

    :param timeout: seconds the task may wait; None for no limit.
    :param context: the task's context.
    :param now: seconds since the epoch.
    :param deferred: whether the wait is deferred.
    """
    limits = [] if timeout is None else [now + timeout]
    ti = context["ti"]
    execution_timeout = getattr(ti.task, "execution_timeout", None) if deferred else None
    if execution_timeout is not None and ti.start_date is not None:
        limits.append(ti.start_date.timestamp() + execution_timeout.total_seconds())
    return min(limits, default=None)


def backstop(deadline: float | None, *, now: float) -> timedelta | None:
    """Airflow's own deferral timeout, some time after our deadline: it only counts if no trigger runs.

    :param deadline: seconds since the epoch; None for no limit.
    :param now: seconds since the epoch.
    """
    return None if deadline is None else timedelta(seconds=max(0.0, deadline - now) + _BACKSTOP)
