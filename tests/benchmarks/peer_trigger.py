"""A trigger as the peers write it: each asks for its own operation, whatever the others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

__all__ = ["OneGetEachTrigger"]


class OneGetEachTrigger(BaseTrigger):
    """Waits until one operation is confirmed: a loop, a GET in a thread through a hook of its own, a sleep.

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
        hook = EarthEngineOperationsHook(self.earthengine_conn_id)
        await hook.load()
        while True:
            await asyncio.sleep(self.poll_interval)
            operation = await asyncio.to_thread(hook.get_operation, self.operation)
            if operation.confirmed:
                break
        yield TriggerEvent({"operation": self.operation, "state": operation.state})  # type: ignore[no-untyped-call]
