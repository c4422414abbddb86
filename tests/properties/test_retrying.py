from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_eeops.api.retrying import Budget, retry_after_seconds, wait_before_retry
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    EarthEngineError,
    NotFoundError,
    QuotaExceededError,
    UnexpectedAnswerError,
)
from tests.properties.anything import TEXT

NOW = 1_800_000_000.0

HEADERS = st.one_of(
    st.none(),
    st.text(),
    TEXT,
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.from_regex(r"[A-Z][a-z]{2}, \d{1,30} Jan \d{1,30} \d\d:\d\d:\d{1,9} [+-]\d{1,30}", fullmatch=True),
    st.lists(
        st.sampled_from(
            ["Mon", ",", " ", "1", "99", "Jan", "0000", "2026", "9999", ":", "00:00:00", "GMT", "+9999", "-"]
        ),
        max_size=10,
    ).map("".join),
)
ERRORS = st.sampled_from(
    [
        ConnectionFailedError("x"),
        EarthEngineError("x"),
        NotFoundError("x", http_status=404, status="NOT_FOUND"),
        QuotaExceededError("x", http_status=429, status="RESOURCE_EXHAUSTED"),
        UnexpectedAnswerError("x", http_status=502),
        UnexpectedAnswerError("x", http_status=200),
    ]
)
SPANS = st.floats(0, 1e12)


@given(header=HEADERS, now=st.floats(0, 1e11))
def test_any_retry_after_is_a_finite_wait_or_none(header: str | None, now: float) -> None:
    seconds = retry_after_seconds(header, now=now)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(seconds=st.integers(0, 10**12))
def test_seconds_are_read_as_they_are_or_as_too_long_for_any_budget(seconds: int) -> None:
    read = retry_after_seconds(str(seconds), now=NOW)
    assert read == seconds if seconds < 10**9 else read is not None and read >= 10**8


@given(
    error=ERRORS,
    attempts=st.integers(1, 10**6),
    elapsed=SPANS,
    retries=st.integers(0, 10**6),
    deadline=SPANS,
    retry_after=st.one_of(st.none(), SPANS),
    time_left=st.one_of(SPANS, st.just(math.inf)),
    jitter=st.floats(0, 1),
)
def test_a_wait_fits_into_the_budget(
    error: EarthEngineError,
    attempts: int,
    elapsed: float,
    retries: int,
    deadline: float,
    retry_after: float | None,
    time_left: float,
    jitter: float,
) -> None:
    wait = wait_before_retry(
        error,
        attempt=attempts,
        elapsed=elapsed,
        budget=Budget(retries=retries, deadline=deadline),
        retry_after=retry_after,
        time_left=time_left,
        jitter=lambda: jitter,
    )
    if wait is None:
        return
    assert error.retryable
    assert attempts <= retries
    assert 0.25 <= wait < min(deadline - elapsed, time_left)
    assert wait >= (retry_after or 0)
    assert wait <= max(30, retry_after or 0)


@given(header=HEADERS, now=st.floats(0, 1e11), deadline=st.floats(0, 1000))
def test_what_a_server_asks_for_never_outlasts_the_budget(header: str | None, now: float, deadline: float) -> None:
    asked = retry_after_seconds(header, now=now)
    wait = wait_before_retry(
        ConnectionFailedError("x"),
        attempt=1,
        elapsed=0,
        budget=Budget(deadline=deadline),
        retry_after=asked,
    )
    assert wait is None or max(asked or 0, 0.25) <= wait < deadline
