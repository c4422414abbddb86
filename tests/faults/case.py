"""What a row of the fault matrix is, what is expected of it, and what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from airflow_provider_eeops.api.retrying import FIRST_WAIT, LONGEST_WAIT, Budget
from tests.support.faulty_line import Arrival, Way

__all__ = ["HURRIED", "METHODS", "Case", "Expect", "Fails", "Method", "Seen", "Tls", "backoff"]

Method = Literal["get", "list", "cancel", "token"]
METHODS: tuple[Method, ...] = ("get", "list", "cancel", "token")

Tls = Literal["good", "self-signed", "other host", "expired"]

HURRIED = Budget(retries=1, read_timeout=0.3, connect_timeout=0.3)
"""Where a socket has to time out, which it does on the machine's clock."""


def backoff(tries: int) -> float:
    """Seconds that are waited at most before so many tries, as no server asked for more."""
    return sum(min(FIRST_WAIT * 2.0**number, LONGEST_WAIT) for number in range(tries - 1))


class Expect(NamedTuple):
    """What is right.

    :param gets: what the call returns or raises.
    :param above: what is said by who builds on the call: a poll, or the report of a cancellation.
    :param tries: requests of the method, as the server counts them; connections if none got through.
    :param waits: seconds of sleep at most, and at least half of it; back-off if None.
    :param asked: whether the operation was in truth asked to cancel.
    :param other: requests of the other methods, but the first for a token.
    """

    gets: str
    above: str
    tries: int = 1
    waits: float | None = None
    asked: bool = False
    other: int = 0

    @property
    def longest(self) -> float:
        """Seconds of sleep at most."""
        return backoff(self.tries) if self.waits is None else self.waits


Fails = Mapping[str, Any]
"""A fault of the emulator, without its method: :class:`~airflow_provider_eeops.emulator.Fault`."""


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong, and what is right then for each method; a text says why it cannot be.

    :param what: what goes wrong, in words.
    :param part: the part of the page it belongs to.
    :param fault: what goes wrong in the emulator.
    :param way: what becomes of the request on a line to the emulator.
    :param arrival: what becomes of every connection before a request is read.
    :param nobody: nobody listens.
    :param tls: the certificate of a line that is encrypted; `plain` for a client that expects one.
    :param budget: what each call may spend.
    :param finished: whether the operation has finished before.
    :param prepare: more to be done with the place before the call.
    """

    what: str
    part: str
    get: Expect | str
    list: Expect | str
    cancel: Expect | str
    token: Expect | str
    fault: Fails | None = None
    way: Way | None = None
    arrival: Arrival | None = None
    nobody: bool = False
    tls: Tls | Literal["plain"] | None = None
    budget: Budget = field(default_factory=Budget)
    finished: bool = False
    prepare: Callable[[Any], None] | None = None

    def expected(self, method: Method) -> Expect | str:
        """What is right for a method, or why it makes no sense."""
        expected: Expect | str = getattr(self, method)
        return expected


class Seen(NamedTuple):
    """What was seen of a call.

    :param gets: what it returned or raised.
    :param tries: requests of the method.
    :param slept: seconds.
    :param asked: whether the operation was asked to cancel.
    :param other: requests of the other methods.
    """

    gets: str
    tries: int
    slept: float
    asked: bool
    other: int
