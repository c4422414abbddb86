"""What a wait logs, the same wherever it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.models import Operation, counted
from airflow_provider_eeops.api.watching import Watch

__all__ = ["log_poll"]

_FIRST = 10
"""Operations of one poll that have a line each."""


def log_poll(log: Any, watch: Watch, changed: Sequence[Operation]) -> None:
    """Log the operations in which something changed, and a poll that failed.

    :param log: Airflow's logger or the standard library's.
    :param watch: the watch after the poll.
    :param changed: what it said had changed.
    """
    for operation in changed[:_FIRST]:
        with log_fields(operation=operation.name, state=str(operation.state), progress=operation.progress):
            log.info("%s: %s", operation.name, operation.progress_words)
    if len(changed) > _FIRST:
        rest = Counter(str(operation.state) for operation in changed[_FIRST:])
        states = ", ".join(f"{count} {state}" for state, count in rest.items())
        with log_fields(operations=len(changed) - _FIRST, counts=rest):
            log.info("And %s more: %s. %s.", counted(len(changed) - _FIRST), states, watch.standing)
    if watch.last_failure:
        http_status = getattr(watch.last_failure, "http_status", None)
        with log_fields(operations=len(watch.pending), failed_polls=watch.failed_polls, http_status=http_status):
            log.warning(
                "Poll failed (%d in a row, %d end the wait): %s",
                watch.failed_polls,
                watch.poll_failure_limit,
                watch.last_failure,
            )
