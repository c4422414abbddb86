"""Sends what :mod:`airflow_provider_eeops.api.observing` defines: metrics by Airflow's Stats, spans by OpenTelemetry.

All of it is sent by one thread of the process. Who tells of something puts it into a queue, which never blocks: so a
metric delays no request, the event loop of a triggerer sends nothing, and a task that is dying waits for none of the
locks that its other threads may hold in Stats or in OpenTelemetry.
"""

from __future__ import annotations

import atexit
import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from typing import Any

from airflow_provider_eeops import __version__
from airflow_provider_eeops.api.forking import renew_when_forked
from airflow_provider_eeops.api.observing import UNOBSERVED, Metric, Span, SpanKind

__all__ = ["Telemetry", "telemetry"]

log = logging.getLogger(__name__)

_MOST_WAITING = 10_000
"""What is told while so much waits to be sent is lost."""

_EXIT_SECONDS = 1.0
"""How long a process that ends waits for what is left to be sent."""

_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.-]")
"""What a line of StatsD has no place for, such as the colon of ``example.com:project``."""


class Telemetry:
    """Takes note of what is told, in the order it is, and sends it from a thread of its own.

    :param stats: Airflow's Stats; None to send no metric.
    :param tracer: OpenTelemetry's tracer; None to send no span.
    """

    def __init__(self, stats: Any, tracer: Any) -> None:
        self._stats = stats
        self._tracer = tracer
        self._begin()
        renew_when_forked(self, type(self)._begin)  # noqa: SLF001 - it is this very class

    def _begin(self) -> None:
        # Not a Queue: a thread that a signal interrupts may hold its lock.
        self._queue: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def start(self) -> None:
        """Start the thread, if there is none."""
        if self._thread is None:
            thread = threading.Thread(target=self._send, args=(self._queue,), name="eeops-telemetry", daemon=True)
            with suppress(RuntimeError):  # no thread can be started: nothing is sent
                thread.start()
                self._thread = thread

    def count(self, metric: Metric, number: int = 1, /, **tags: str) -> None:
        """Take note that a counter goes up."""
        if self._stats is not None:
            self._put(partial(self._stats.incr, metric.name, number, tags=_tags(tags)))

    def time(self, metric: Metric, seconds: float, /, **tags: str) -> None:
        """Take note of how long something took."""
        if self._stats is not None:
            self._put(partial(self._stats.timing, metric.name, timedelta(seconds=seconds), tags=_tags(tags)))

    def span(self, kind: SpanKind, names: Sequence[str], *, now: Callable[[], float]) -> Span:
        """Make a span, which belongs below the one that is current here."""
        if self._tracer is None:
            return UNOBSERVED.span(kind, names, now=now)
        from opentelemetry.context import get_current

        parent = get_current()
        return Span(kind, names, now=now, then=lambda span: self._put(partial(self._export, span, parent)))

    def flush(self, seconds: float) -> bool:
        """Wait until what was told is sent; return whether it is.

        :param seconds: how long at most.
        """
        if self._thread is None:
            return False
        sent = threading.Event()
        self._queue.put(sent.set)
        return sent.wait(seconds)

    def _put(self, send: Callable[[], object]) -> None:
        self.start()  # of a forked process, which has none of its parent's
        if self._queue.qsize() < _MOST_WAITING:
            self._queue.put(send)

    def _send(self, queue: SimpleQueue[Callable[[], object]]) -> None:
        while True:
            send = queue.get()
            try:
                send()
            except Exception as error:  # noqa: BLE001 - nothing else is to go wrong for it
                if not self._has_failed:
                    self._has_failed = True
                    log.warning("A metric or a span could not be sent, nor may others be: %s", type(error).__name__)

    def _export(self, span: Span, parent: Any) -> None:
        from opentelemetry.trace import StatusCode

        made = self._tracer.start_span(
            span.kind.name, context=parent, attributes=span.attributes, start_time=_nanoseconds(span.began)
        )
        if span.error is not None:
            made.set_attribute("error.type", span.error)
            made.set_status(StatusCode.ERROR)
        made.end(end_time=_nanoseconds(span.ended))


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {name: _NOT_IN_TAGS.sub("_", value) for name, value in tags.items()}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


_telemetry: Telemetry | None = None


def telemetry() -> Telemetry:
    """Return the one of this process, ready to be told: not for an event loop or a dying task, as it may take a moment.

    What it needs of Airflow and OpenTelemetry is loaded and connected here.
    """
    global _telemetry  # noqa: PLW0603 - there is one in a process
    if _telemetry is None:
        _telemetry = Telemetry(_stats(), _tracer())
        atexit.register(_telemetry.flush, _EXIT_SECONDS)
    _telemetry.start()
    return _telemetry


def _stats() -> Any:
    try:
        from airflow_provider_eeops._compat import airflow_stats  # of triggers too, which the hook needs not

        return airflow_stats()
    except Exception as error:  # noqa: BLE001 - what is set for metrics cannot be used
        log.warning("No metric is sent: %s", type(error).__name__)
        return None


def _tracer() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("airflow_provider_eeops", __version__)
