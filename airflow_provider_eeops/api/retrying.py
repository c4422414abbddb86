"""Whether a failed request is sent again, and when. Decisions only: :mod:`.transport` sleeps and sends."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_provider_eeops.exceptions import EarthEngineError

__all__ = ["Budget", "retry_after_seconds", "wait_before_retry"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one call may spend.

    :param retries: how often a request is sent again.
    :param deadline: seconds in which the call ends, waits and retries included.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for an answer.
    :param until: seconds of the clock's ``monotonic()`` at which every call ends, whatever its own deadline.
    """

    retries: int = 5
    deadline: float = 120.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    until: float | None = None

    def begun(self, now: float) -> float:
        """Tell the moment at which a call ends that begins now.

        :param now: seconds of the clock's ``monotonic()``.
        """
        return min(now + self.deadline, math.inf if self.until is None else self.until)


FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0


def wait_before_retry(
    error: EarthEngineError,
    *,
    attempt: int,
    elapsed: float,
    budget: Budget,
    retry_after: float | None = None,
    time_left: float = math.inf,
    jitter: Callable[[], float] = random.random,
) -> float | None:
    """Seconds to wait before the request is sent again, or None if it is not.

    Waits grow twofold from half a second to 30, spread by up to half (so that many callers do not come back at
    once). ``Retry-After`` is a least wait: where it does not fit into the deadline, the call ends now.

    :param error: what the last attempt met.
    :param attempt: how many attempts were made.
    :param elapsed: seconds since the call began.
    :param budget: what the call may spend.
    :param retry_after: seconds the server asked to wait, if it did.
    :param time_left: seconds that are left of the group of calls it belongs to.
    :param jitter: a number from 0 to 1.
    """
    if not error.retryable or attempt > budget.retries:
        return None
    backoff = min(FIRST_WAIT * 2 ** min(attempt - 1, 10), LONGEST_WAIT) * (0.5 + jitter() / 2)
    wait = max(backoff, retry_after or 0.0)
    left = min(budget.deadline - elapsed, time_left)
    return wait if wait < left else None


def retry_after_seconds(header: str | None, *, now: float) -> float | None:
    """Read ``Retry-After``, seconds or an HTTP date; None if it is absent or neither.

    :param header: the header's value.
    :param now: seconds since the epoch.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])  # more digits than that are decades: any budget is spent
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
