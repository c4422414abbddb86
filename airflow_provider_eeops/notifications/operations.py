"""The notifier that cancels: for callbacks and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.xcom import pull_own

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["EarthEngineCancelOperationsNotifier"]


class EarthEngineCancelOperationsNotifier(BaseNotifier):
    """Request cancellation of operations from a callback.

    For ``on_failure_callback``, ``on_retry_callback``, ``on_skipped_callback``, and a Deadline Alert's
    ``AsyncCallback``. It requests and does not wait: a callback has seconds. What became of each request is in the
    log. It never raises a second error over the one that called it.

    :param operations: the operations (templated), any shape. Default: those that the failing task recorded in XCom
        under ``earthengine_operations``, its own only, not its mapped siblings'.
    :param project_id: project of operation ids given without one (templated). Default: the connection's.
    :param earthengine_conn_id: id of the connection (templated).
    :param impersonation_chain: service account to impersonate, or a chain of them (templated). Default: the
        connection's.
    """

    template_fields: Sequence[str] = ("operations", "project_id", "earthengine_conn_id", "impersonation_chain")

    def __init__(
        self,
        *,
        operations: Any = None,
        project_id: str | None = None,
        earthengine_conn_id: str = EarthEngineOperationsHook.default_conn_name,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.operations = operations
        self.project_id = project_id
        self.earthengine_conn_id = earthengine_conn_id
        self.impersonation_chain = impersonation_chain

    def __call__(self, *args: Any) -> None:
        """Cancel, from a worker or the DAG processor.

        :param args: the callback's context.
        """
        # Rendering changes the instance, and one instance may serve many tasks and calls.
        try:
            BaseNotifier.__call__(copy(self), *args)
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

    def notify(self, context: Context) -> None:
        """Cancel, from a worker or the DAG processor.

        :param context: the callback's context.
        """
        with self._hook() as hook:
            self._cancel(hook, context)

    async def async_notify(self, context: Context) -> None:
        """Cancel, from the triggerer.

        :param context: the callback's context; a deadline's has no task, so it needs ``operations``.
        """
        with self._hook() as hook:
            await hook.load()
            await asyncio.to_thread(self._cancel, hook, context)

    def _hook(self) -> EarthEngineOperationsHook:
        return EarthEngineOperationsHook(
            self.earthengine_conn_id,
            project_id=self.project_id,
            impersonation_chain=self.impersonation_chain,
        )

    def _cancel(self, hook: EarthEngineOperationsHook, context: Context) -> None:
        ti: Any = context.get("ti")
        if self.operations is not None:
            operations, source = self.operations, "operations is empty, or its template rendered to nothing"
        elif ti is None:
            operations, source = None, "none was given, and this callback has no task to ask"
        else:
            operations, source = pull_own(ti), f"none was given, and task {ti.task_id} recorded none"
        parsed = hook.parse(operations)
        if not parsed.names and not parsed.invalid:
            self.log.warning("No operation to cancel: %s.", source)
            return
        cancel_in_haste(
            hook.get_conn(), parsed.names, invalid=parsed.invalid, log=self.log, because="The callback was called."
        )
