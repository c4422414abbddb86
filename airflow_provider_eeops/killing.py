"""Requests cancellation from a task that is being killed: prepared before, as Airflow can be asked nothing then."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.client import connect
from airflow_provider_eeops.api.models import OperationResult, Report
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.policies import SETTLED
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.telemetry import telemetry

__all__ = ["KillCanceller", "Sending", "wait_until_sent"]

log = logging.getLogger(__name__)

_SENT_SECONDS = 2.0
"""How long a signal handler waits for the requests to be sent: they may need a lock that only its return frees."""

_LOG_SECONDS = 0.5
"""How long it waits for their outcomes to be logged."""

_REST_SECONDS = 2.2
"""How long the task waits after that before it ends: SIGKILL comes 5 s after the signal."""


@dataclass(frozen=True)
class Sending:
    """Requests under way in another thread.

    :param sent: set when they are sent.
    :param logged: set when their outcomes are logged.
    :param handled: set when the signal handler has returned: a log can be written from then on.
    """

    sent: threading.Event = field(default_factory=threading.Event)
    logged: threading.Event = field(default_factory=threading.Event)
    handled: threading.Event = field(default_factory=threading.Event)


class KillCanceller:
    """Requests cancellation from a signal handler.

    It has connections of its own, so that it shares no lock with the thread that the signal interrupts.

    :param hook: whose settings and credentials to use; they are read here, as a dying task cannot ask for them.
    """

    def __init__(self, hook: EarthEngineOperationsHook) -> None:
        # A pace of its own too: the shared one has slots given away to requests that will not be sent any more.
        pace = Pace(hook.settings.requests_per_second)
        self._client = connect(hook.settings, hook.credentials, pace=pace, observer=telemetry())
        self._context = contextvars.copy_context()  # a log line and a span belong to the task by it
        self._results: dict[str, OperationResult] = {}
        self._sendings: list[Sending] = []

    @property
    def report(self) -> Report:
        """What became of the operations, as far as it is known."""
        return Report(tuple(self._results.values()))

    @property
    def settled(self) -> frozenset[str]:
        """Operations that need no further request."""
        return frozenset(result.name for result in self.report.having(*SETTLED))

    def start(self, names: Sequence[str], *, late: Callable[[], Iterable[str]] = tuple) -> Sending:
        """Request cancellation from another thread, as a signal may come while this one holds any lock.

        :param names: operation names.
        :param late: yields more names as they become known.
        """
        sending = Sending()
        arguments = (self._send, list(names), late, sending)
        threading.Thread(target=self._context.copy().run, args=arguments, name="eeops-kill", daemon=True).start()
        self._sendings.append(sending)
        return sending

    def cancel(self, names: Sequence[str], *, late: Callable[[], Iterable[str]] = tuple) -> None:
        """Request cancellation from ``on_kill``, and wait until it is sent, two and a half seconds at most.

        :param names: operation names.
        :param late: yields more names as they become known.
        """
        try:
            wait_until_sent([self.start(names, late=late)])
        except RuntimeError:  # no thread can be started
            log.exception("No thread to request cancellation from.")

    def finish(self) -> None:
        """Wait for what a kill began, before the task ends and takes the thread with it."""
        until = time.monotonic() + _REST_SECONDS
        for sending in self._sendings:
            sending.logged.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self, names: list[str], late: Callable[[], Iterable[str]], sending: Sending) -> None:
        lines = _Lines(sending.handled)
        try:
            self._request(names, lines)
            for name in late():
                self._request([name], lines)
        finally:
            sending.sent.set()
            lines.replay()
            sending.logged.set()

    def _request(self, names: Sequence[str], lines: _Lines) -> None:
        if names:
            cancel_in_haste(self._client, names, log=lines, because="The task is being killed.", on_result=self._learn)

    def _learn(self, result: OperationResult) -> None:
        self._results[result.name] = result


def wait_until_sent(sendings: Sequence[Sending]) -> None:
    """Wait until requests are sent and their outcomes logged; two and a half seconds at most.

    :param sendings: requests under way.
    """
    until = time.monotonic() + _SENT_SECONDS
    for sending in sendings:
        sending.sent.wait(max(0.0, until - time.monotonic()))
    until = time.monotonic() + _LOG_SECONDS
    for sending in sendings:
        sending.logged.wait(max(0.0, until - time.monotonic()))
        sending.handled.set()


class _Lines:
    """Keeps log lines until they can be written: logging takes a lock that the interrupted thread may hold.

    :param free: set when they can be.
    """

    def __init__(self, free: threading.Event) -> None:
        self._free = free
        self._lines: list[tuple[contextvars.Context, int, str, tuple[Any, ...]]] = []

    def info(self, message: str, /, *args: Any) -> None:
        self._add(logging.INFO, message, *args)

    def warning(self, message: str, /, *args: Any) -> None:
        self._add(logging.WARNING, message, *args)

    def error(self, message: str, /, *args: Any) -> None:
        self._add(logging.ERROR, message, *args)

    def _add(self, level: int, message: str, *args: Any) -> None:
        self._lines.append((contextvars.copy_context(), level, message, args))  # it holds the line's fields
        if self._free.is_set():
            self.replay()

    def replay(self) -> None:
        while self._lines:
            context, level, message, args = self._lines.pop(0)
            context.run(log.log, level, message, *args)
