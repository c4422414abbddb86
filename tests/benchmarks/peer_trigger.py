"""A trigger as the peers write it: each asks for its own operation, whatever the others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

__all__ = ["OneGetEachTrigger"]

_hooks: dict[str, EarthEngineOperationsHook] = {}
_loading = asyncio.Lock()


async def _loaded(conn_id: str) -> EarthEngineOperationsHook:
    """One hook for all: kinder than the peers, whose triggers each ask Airflow for the connection.

    A triggerer of Airflow 3.3.2 with 3000 triggers answers some twenty of those a second; the GETs would hardly begin.
    """
    async with _loading:
        if conn_id not in _hooks:
            hook = EarthEngineOperationsHook(conn_id)
            await hook.load()
            _hooks[conn_id] = hook
    return _hooks[conn_id]


class OneGetEachTrigger(BaseTrigger):
    """Waits until one operation is confirmed: a loop, a GET in a thread through a hook, a sleep.

    :param operation: operation name.
    :param earthengine_conn_id: id of the connection.
    :param poll_interval: seconds between polls.
    """

    def __init__(self, *, operation: str, earthengine_conn_id: str, poll_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operation = operation
        self.earthengine_conn_id = earthengine_conn_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "operation": self.operation,
                "earthengine_conn_id": self.earthengine_conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        hook = await _loaded(self.earthengine_conn_id)
        while True:
            await asyncio.sleep(self.poll_interval)
            operation = await asyncio.to_thread(hook.get_operation, self.operation)
            if operation.confirmed:
                break
        yield TriggerEvent({"operation": self.operation, "state": operation.state})  # type: ignore[no-untyped-call]
