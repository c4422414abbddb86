"""No operation outlives its task: each row of the matrix, executed on a real Airflow, is a test of its own."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tests.e2e.bad_input import BAD_INPUT_DAGS
from tests.e2e.conftest import Matrix
from tests.e2e.rows import ALL
from tests.e2e.versions import CANNOT_RUN, SECONDS

AIRFLOW = version("apache-airflow")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("key", [row.key for row in ALL])
def test_row(matrix: Matrix, key: str) -> None:
    if key in CANNOT_RUN:
        pytest.skip(CANNOT_RUN[key])
    if key not in matrix.cases:
        pytest.skip("left out by --rows")
    case = matrix.cases[key]
    problems = "; ".join(case.record.problems)
    if not case.row.holds_on(AIRFLOW):
        assert problems, f"it holds on {AIRFLOW}, and is marked to hold since {case.row.since} only"
        pytest.xfail(f"does not hold on {AIRFLOW}: {problems}; use instead: {case.row.instead}")
    assert not problems


def test_nothing_of_a_run_in_peace_was_touched(matrix: Matrix) -> None:
    assert matrix.touched == []


def test_bad_input_keeps_no_dag_from_being_parsed(matrix: Matrix) -> None:
    assert matrix.callbacks.problems == []
    assert matrix.callbacks.ended == dict.fromkeys(BAD_INPUT_DAGS, "failed")
    assert matrix.callbacks.parsed == set(BAD_INPUT_DAGS)
    assert not matrix.callbacks.killed, "a callback hung"


def test_bad_input_is_logged(matrix: Matrix) -> None:
    assert "projects/../operations/x" in matrix.callbacks.log
    assert "rendered to nothing" in matrix.callbacks.log


def test_it_ends_soon(matrix: Matrix) -> None:
    assert matrix.seconds < SECONDS


def test_no_process_is_left(matrix: Matrix) -> None:
    assert matrix.left == []
