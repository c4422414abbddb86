"""The notifier that cancels: for callbacks and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.names import ParsedNames
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

    def notify(self, context: Context) -> None:
        """Cancel, from a worker or the DAG processor.

        :param context: the callback's context.
        """
        with self._hook() as hook:
            try:
                self._cancel(hook, hook.parse(self._find(context)))
            except Exception:
                self.log.exception("No cancellation could be requested.")

    async def async_notify(self, context: Context) -> None:
        """Cancel, from the triggerer.

        :param context: the callback's context; a deadline's has no task, so it needs ``operations``.
        """
        with self._hook() as hook:
            try:
                await hook.load()
                await asyncio.to_thread(lambda: self._cancel(hook, hook.parse(self._find(context))))
            except Exception:
                self.log.exception("No cancellation could be requested.")

    def _hook(self) -> EarthEngineOperationsHook:
        return EarthEngineOperationsHook(
            self.earthengine_conn_id,
            project_id=self.project_id,
            impersonation_chain=self.impersonation_chain,
        )

    def _find(self, context: Context) -> Any:
        if self.operations is not None:
            return self.operations
        ti: Any = context.get("ti")
        return None if ti is None else pull_own(ti)

    def _cancel(self, hook: EarthEngineOperationsHook, parsed: ParsedNames) -> None:
        if not parsed.names and not parsed.invalid:
            self.log.info("No operation to cancel: none was given, and the task recorded none.")
            return
        cancel_in_haste(
            hook.get_conn(), parsed.names, invalid=parsed.invalid, log=self.log, because="The callback was called."
        )
