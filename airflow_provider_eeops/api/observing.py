"""What is told of the work while it goes on: the metrics and the spans, each defined here once, and whom to tell.

Nothing here sends anything: an :class:`Observer` does, such as the one of ``airflow_provider_eeops.telemetry``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from airflow_provider_eeops.api.models import Operation, Report
from airflow_provider_eeops.api.names import known_project, project_of

__all__ = [
    "CANCEL",
    "CANCELS_REQUESTED",
    "METRICS",
    "OUTCOMES",
    "PACE_WAITS",
    "POLLS",
    "RATE_LIMIT_WAITS",
    "RETRIES",
    "SPANS",
    "TIME_TO_CONFIRMATION",
    "UNOBSERVED",
    "WAIT",
    "Metric",
    "Observer",
    "Span",
    "SpanKind",
    "Unobserved",
    "tell_confirmed",
    "tell_outcomes",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that is sent.

    :param name: its name.
    :param kind: ``counter``, or ``timing``, whose unit is the millisecond.
    :param tags: what it is told apart by; never by operation, of which there are too many.
    :param when: when it is sent.
    """

    name: str
    kind: Literal["counter", "timing"]
    tags: tuple[str, ...]
    when: str


CANCELS_REQUESTED = Metric(
    "eeops.cancels_requested", "counter", ("project",), "Earth Engine accepted a request to cancel"
)
OUTCOMES = Metric(
    "eeops.outcomes",
    "counter",
    ("outcome", "project"),
    "once for each operation when its request to cancel is answered, and when a wait for it ends by itself",
)
TIME_TO_CONFIRMATION = Metric(
    "eeops.time_to_confirmation",
    "timing",
    ("outcome", "project"),
    "an operation whose cancellation was requested is seen to have ended; since its request was accepted or, of"
    " those that a wait is for, since the last of them was",
)
POLLS = Metric("eeops.polls", "counter", ("method", "project"), "the state is asked for, by `get` or a page of `list`")
RETRIES = Metric(
    "eeops.retries",
    "counter",
    ("http_status", "project"),
    "a request is sent again; `http_status` is that of the answer before, `none` without one",
)
RATE_LIMIT_WAITS = Metric(
    "eeops.rate_limit_waits", "timing", ("project",), "a request met HTTP 429; how long requests are held back for it"
)
PACE_WAITS = Metric(
    "eeops.pace_waits", "timing", ("project",), "a request had to wait for its turn at `requests_per_second`"
)

METRICS: tuple[Metric, ...] = (
    CANCELS_REQUESTED,
    OUTCOMES,
    TIME_TO_CONFIRMATION,
    POLLS,
    RETRIES,
    RATE_LIMIT_WAITS,
    PACE_WAITS,
)
"""All there are."""


@dataclass(frozen=True, slots=True)
class SpanKind:
    """A stretch of work that a trace shows.

    :param name: its name.
    :param what: what it spans.
    """

    name: str
    what: str


CANCEL = SpanKind("eeops.cancel", "the requests that cancel operations, one or thousands, and the look at them after")
WAIT = SpanKind("eeops.wait", "a wait of the operator, the hook, the command line, or a trigger")

SPANS: tuple[SpanKind, ...] = (CANCEL, WAIT)
"""All there are. Requests have none of their own: OpenTelemetry's instrumentation of requests makes them."""


class Span:
    """One such stretch. It begins when it is entered, and is told of once, when it has ended.

    :param kind: which.
    :param names: the operations it is about.
    :param now: tells the seconds since the epoch.
    :param then: told the span at its end.
    """

    def __init__(
        self, kind: SpanKind, names: Sequence[str], *, now: Callable[[], float], then: Callable[[Span], None]
    ) -> None:
        self.kind = kind
        self.began = self.ended = 0.0
        self.error: str | None = None
        """What kind of thing went wrong, if one did."""
        projects = [known_project(name) for name in names]
        self.attributes: dict[str, Any] = {
            "eeops.operations": len(names),
            "eeops.projects": sorted({project for project in projects if project is not None}),
        }
        if len(names) == 1 and projects[0] is not None:
            self.attributes["eeops.operation"] = names[0]
        self._now = now
        self._then = then

    def __enter__(self) -> Self:
        self.began = self._now()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended = self._now()
        if exc_type is not None:
            self.error = exc_type.__qualname__  # its text may say more than a trace should
        self._then(self)

    def conclude(self, report: Report, *, error: str | None = None) -> None:
        """Say what became of the operations.

        :param report: what became of them.
        :param error: what kind of thing went wrong, if one did.
        """
        self.attributes |= {f"eeops.outcomes.{outcome}": count for outcome, count in report.counts.items()}
        self.error = error


class Observer(Protocol):
    """Who is told. Any thread calls it, also one of a task that is dying: it must neither raise nor block."""

    def count(self, metric: Metric, number: int = 1, /, **tags: str) -> None:
        """Take note that a counter goes up."""

    def time(self, metric: Metric, seconds: float, /, **tags: str) -> None:
        """Take note of how long something took."""

    def span(self, kind: SpanKind, names: Sequence[str], *, now: Callable[[], float]) -> Span:
        """Make a span, to be entered.

        :param kind: which.
        :param names: the operations it is about.
        :param now: tells the seconds since the epoch.
        """


class Unobserved:
    """Tells nobody."""

    def count(self, metric: Metric, number: int = 1, /, **tags: str) -> None:
        """Do nothing."""

    def time(self, metric: Metric, seconds: float, /, **tags: str) -> None:
        """Do nothing."""

    def span(self, kind: SpanKind, names: Sequence[str], *, now: Callable[[], float]) -> Span:
        """Make a span that nobody is told of."""
        return Span(kind, names, now=now, then=lambda _span: None)


UNOBSERVED = Unobserved()


def tell_outcomes(observer: Observer, report: Report) -> None:
    """Tell what became of operations, all of one project and outcome at once.

    :param observer: whom.
    :param report: what became of them.
    """
    found = Counter((known_project(each.name), each.outcome) for each in report.results)
    for (project, outcome), number in found.items():
        if project is not None:
            observer.count(OUTCOMES, number, outcome=outcome.value, project=project)


def tell_confirmed(observer: Observer, changed: Iterable[Operation], *, requested_at: float | None, now: float) -> None:
    """Tell how long it took from the request to cancel until operations were seen to have ended.

    :param observer: whom.
    :param changed: operations in which something changed just now.
    :param requested_at: when cancellation was requested, in seconds since the epoch; None if it was not.
    :param now: seconds since the epoch.
    """
    if requested_at is None:
        return
    for operation in changed:
        if operation.outcome is not None:
            seconds = max(0.0, now - requested_at)
            tags = {"outcome": operation.outcome.value, "project": project_of(operation.name)}
            observer.time(TIME_TO_CONFIRMATION, seconds, **tags)
