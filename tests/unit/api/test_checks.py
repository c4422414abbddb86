from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_eeops.checks import require_choice, require_count, require_moment, require_positive, seconds
from airflow_provider_eeops.exceptions import InvalidInputError


@pytest.mark.parametrize(("value", "count"), [(1, 1), (5, 5), (3.0, 3), (10**30, 10**30)])
def test_a_count(value: Any, count: int) -> None:
    found = require_count("most", value)
    assert (found, type(found)) == (count, int)


@pytest.mark.parametrize("value", [0, -1, 0.5, 1.5, True, "3", None, float("nan"), float("inf"), [3]])
def test_no_count(value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        require_count("most", value)
    assert str(caught.value) == f"most is {value!r}: it must be a whole number of at least 1"


@pytest.mark.parametrize("value", [None, 0, -5.0, 1e9])
def test_a_moment(value: Any) -> None:
    assert require_moment("deadline", value) == value


@pytest.mark.parametrize("value", [True, "soon", float("nan"), float("-inf")])
def test_no_moment(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"deadline is {value!r}: it must be seconds since the epoch, or None"):
        require_moment("deadline", value)


@pytest.mark.parametrize("value", [0, -1, True, "3", float("nan"), float("inf")])
def test_what_is_not_positive(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"wait is {value!r}: it must be a number greater than 0"):
        require_positive("wait", value)


def test_seconds() -> None:
    assert (seconds("wait", timedelta(minutes=1)), seconds("wait", 2), seconds("wait", None)) == (60.0, 2, None)
    with pytest.raises(InvalidInputError, match="wait is 0"):
        seconds("wait", timedelta(0))


def test_a_choice() -> None:
    assert require_choice("if_empty", "skip", ("skip", "fail")) == "skip"
    with pytest.raises(InvalidInputError, match="if_empty is 'no': it must be one of 'skip', 'fail'"):
        require_choice("if_empty", "no", ("skip", "fail"))
