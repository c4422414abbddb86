"""What goes wrong on purpose: faults, and the request quota."""

import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from airflow_provider_eeops.emulator.errors import ApiError

__all__ = ["Action", "Fault", "FaultQueue", "Quota"]

Action = Literal["answer", "reset_before", "reset_after", "hang", "half_body", "trickle"]

METHODS: Final = frozenset(
    {
        *("get", "list", "cancel", "delete", "wait", "export", "token", "discovery", "algorithms"),
        *("impersonate", "sts", "other", "any"),
    }
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with the next requests that match.

    A fault with a status or a body stands in for the answer, and the request has no effect unless `takes_effect`.
    A fault without either leaves the answer as it is, but late, in part, with more headers, or lost.

    :param method: which requests: a method of the request log, or `any`
    :param status: answer with this status and Google's JSON error format
    :param rpc_status: name of the google.rpc.Code; derived from the status if absent
    :param message: message of the error
    :param headers: headers added to the answer
    :param body: raw body in place of JSON
    :param content_type: content type of the answer
    :param action: `reset_before` breaks the connection and the request has no effect; `reset_after` lets it
        take effect and loses the answer; `hang` holds it, without effect, and then breaks the connection;
        `half_body` breaks off in the middle of the answer; `trickle` spreads the answer over `seconds`
    :param seconds: delay of the answer; for `hang`, how long (0: until one side leaves)
    :param times: how many requests it hits; None for all
    :param name: only this operation; a glob
    :param takes_effect: the request takes effect though a status or a body stands in for its answer
    """

    method: str
    status: int | None = None
    rpc_status: str | None = None
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str | None = None
    action: Action = "answer"
    seconds: float = 0.0
    times: int | None = 1
    name: str | None = None
    takes_effect: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"a fault's method is one of {', '.join(sorted(METHODS))}, not {self.method!r}")
        if self.action not in get_args(Action):
            raise ValueError(f"a fault's action is one of {', '.join(get_args(Action))}, not {self.action!r}")

    @property
    def stands_in(self) -> bool:
        """Whether it replaces the answer."""
        return self.status is not None or self.body is not None

    @property
    def lets_through(self) -> bool:
        """Whether the request takes effect."""
        if self.action == "reset_after":
            return True
        if self.action in {"reset_before", "hang"}:
            return False
        return self.takes_effect or not self.stands_in

    def hits(self, method: str, name: str | None) -> bool:
        """Whether a request is one it is meant for."""
        if self.method not in {method, "any"}:
            return False
        return self.name is None or (name is not None and fnmatch.fnmatchcase(name, self.name))


class FaultQueue:
    """Faults in the order they were added; the first that matches is taken."""

    def __init__(self) -> None:
        self._left: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """Put a fault at the end."""
        self._left.append((fault, fault.times))

    def clear(self) -> None:
        """Forget all faults."""
        self._left.clear()

    def take(self, method: str, name: str | None) -> Fault | None:
        """Fault that hits this request, if any, counted down."""
        for position, (fault, left) in enumerate(self._left):
            if not fault.hits(method, name):
                continue
            if left is not None and left <= 1:
                del self._left[position]
            elif left is not None:
                self._left[position] = (fault, left - 1)
            return fault
        return None


class Quota:
    """Requests per second of one project: a token bucket that holds one second.

    :param clock: seconds, as time.time
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def spend(self, project: str, per_second: float | None) -> None:
        """Count a request.

        :raises ApiError: 429 if it is one too many
        """
        if per_second is None:
            return
        capacity = max(1.0, per_second)
        now = self._clock()
        tokens, then = self._buckets.get(project, (capacity, now))
        tokens = min(capacity, tokens + (now - then) * per_second)
        if tokens < 1.0:
            self._buckets[project] = (tokens, now)
            raise _quota_exceeded(project, (1.0 - tokens) / per_second)
        self._buckets[project] = (tokens - 1.0, now)


def _quota_exceeded(project: str, wait: float) -> ApiError:
    return ApiError(
        429,
        "Quota exceeded for quota metric 'Number of read requests' and limit 'Number of read requests per minute "
        f"per user' of service 'earthengine.googleapis.com' for consumer 'project_number:{project}'.",
        reason="RATE_LIMIT_EXCEEDED",
        metadata={
            "service": "earthengine.googleapis.com",
            "consumer": f"projects/{project}",
            "quota_metric": "earthengine.googleapis.com/read_requests",
            "quota_limit": "ReadRequestsPerMinutePerUser",
        },
        headers={"Retry-After": str(max(1, math.ceil(wait)))},
    )
