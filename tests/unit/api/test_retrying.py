from __future__ import annotations

from email.utils import formatdate

import pytest

from airflow_provider_eeops.api.retrying import Budget, retry_after_seconds, wait_before_retry
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    EarthEngineError,
    NotFoundError,
    UnexpectedAnswerError,
)

NOW = 1_800_000_000.0
BROKEN = ConnectionFailedError("x")


@pytest.mark.parametrize(
    ("attempt", "jitter", "wait"),
    [
        (1, 0.0, 0.25),
        (1, 1.0, 0.5),
        (2, 1.0, 1.0),
        (3, 1.0, 2.0),
        (7, 1.0, 30.0),
        (7, 0.0, 15.0),
        (5000, 1.0, 30.0),
    ],
)
def test_waits_grow_twofold_and_are_spread(attempt: int, jitter: float, wait: float) -> None:
    budget = Budget(retries=10_000)
    assert wait_before_retry(BROKEN, attempt=attempt, elapsed=0, budget=budget, jitter=lambda: jitter) == wait


@pytest.mark.parametrize(
    ("error", "attempt", "elapsed", "retry_after", "wait"),
    [
        (BROKEN, 3, 0.0, None, 2.0),
        (BROKEN, 4, 0.0, None, None),
        (BROKEN, 1, 99.4, None, 0.5),
        (BROKEN, 1, 99.5, None, None),
        (BROKEN, 1, 0.0, 0.0, 0.5),
        (BROKEN, 1, 0.0, 7.0, 7.0),
        (BROKEN, 3, 0.0, 1.0, 2.0),
        (BROKEN, 1, 0.0, 99.0, 99.0),
        (BROKEN, 1, 0.0, 100.0, None),
        (BROKEN, 1, 50.0, 60.0, None),
        (UnexpectedAnswerError("x", http_status=503), 1, 0.0, None, 0.5),
        (UnexpectedAnswerError("x", http_status=501), 1, 0.0, None, None),
        (NotFoundError("x", http_status=404, status="NOT_FOUND"), 1, 0.0, None, None),
    ],
)
def test_whether_and_when(
    error: EarthEngineError, attempt: int, elapsed: float, retry_after: float | None, wait: float | None
) -> None:
    budget = Budget(retries=3, deadline=100.0)
    decided = wait_before_retry(
        error, attempt=attempt, elapsed=elapsed, budget=budget, retry_after=retry_after, jitter=lambda: 1.0
    )
    assert decided == wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 999_999_999.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (formatdate(NOW - 30, usegmt=True), 0.0),
        ("Fri, 15 Jan 2027 08:00:07", 7.0),
        ("Fri, 15 Jan 2027 09:00:07 +0100", 7.0),
        ("1 Jan 99999999999999999999 00:00:00", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


@pytest.mark.parametrize(("until", "end"), [(None, 30.0), (25.0, 25.0), (15.0, 15.0), (100.0, 30.0)])
def test_a_call_ends_at_its_deadline_or_with_its_group(until: float | None, end: float) -> None:
    assert Budget(deadline=10.0, until=until).begun(20.0) == end


@pytest.mark.parametrize(("time_left", "wait"), [(0.6, 0.5), (0.5, None), (-1.0, None)])
def test_no_retry_that_the_group_has_no_time_for(time_left: float, wait: float | None) -> None:
    error = ConnectionFailedError("x")
    found = wait_before_retry(error, attempt=1, elapsed=0.0, budget=Budget(), time_left=time_left, jitter=lambda: 1.0)
    assert found == wait
