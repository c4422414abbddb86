from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_eeops.api.deadlines import backstop, deadline_of


@pytest.mark.parametrize(
    ("timeout", "limit", "deadline"),
    [(None, None, None), (60.0, None, 1060.0), (None, 1030.0, 1030.0), (60.0, 1030.0, 1030.0), (60.0, 2000.0, 1060.0)],
)
def test_a_wait_ends_at_the_first_of_its_limits(
    timeout: float | None, limit: float | None, deadline: float | None
) -> None:
    assert deadline_of(timeout, now=1000.0, limit=limit) == deadline


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [(1060.0, 180), (900.0, 120)],
    ids=["ahead", "past"],
)
def test_airflows_timeout_comes_after_ours(deadline: float, seconds: float) -> None:
    assert backstop(deadline, now=1000.0) == timedelta(seconds=seconds)


def test_without_a_deadline_airflow_has_none_either() -> None:
    assert backstop(None, now=1000.0) is None
