"""Runs the rows: most side by side, some while a part of Airflow is down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.e2e import rows
from tests.e2e.cases import Case
from tests.e2e.matrix import Row
from tests.e2e.peace import InPeace
from tests.e2e.place import Place
from tests.e2e.versions import ALONE, AT_ONCE, CANNOT_RUN
from tests.support.airflow_parts import SCHEDULER, TASKS_API

__all__ = ["run_all"]

_BEGAN = time.monotonic()

Stage = Callable[[Case], None]


def run_all(place: Place, wanted: Sequence[str]) -> list[Case]:
    """Run the rows, those that disturb others after these.

    :param place: where.
    :param wanted: how the keys of the rows to run begin.
    """

    def chosen(some: list[Row]) -> list[Row]:
        return [row for row in some if row.key.startswith(tuple(wanted)) and row.key not in CANNOT_RUN]

    return [
        *_side_by_side(place, [row for row in chosen(rows.ROWS) if row.key not in ALONE], at_once=AT_ONCE),
        *_side_by_side(place, [row for row in chosen(rows.ROWS) if row.key in ALONE], at_once=1),
        *_while_cancel_fails(place, chosen(rows.WHILE_CANCEL_FAILS)),
        *_side_by_side(place, chosen(rows.ASKING), at_once=1),
        *_while_stopped(place, chosen(rows.WHILE_API_SERVER_STOPPED), TASKS_API),
        *_while_stopped(place, chosen(rows.WHILE_SCHEDULER_STOPPED), SCHEDULER),
        *_each_in_turn(place, chosen(rows.WITHOUT_TRIGGERER)),
        *_each_in_turn(place, chosen(rows.EXPORTS_WITHOUT_TRIGGERER)),
    ]


def _side_by_side(place: Place, rows: Sequence[Row], *, at_once: int) -> list[Case]:
    """Run rows that do not disturb each other.

    :param place: where.
    :param rows: which.
    :param at_once: how many, so that the machine is not what is measured.
    """
    cases = [Case(row, place) for row in sorted(rows, key=lambda row: -row.bound.seconds)]  # the longest first
    in_peace = InPeace(place)
    _do(cases, in_peace.start_beside, Case.prepare, Case.strike, Case.judge_requests, Case.judge_end, at_once=at_once)
    return cases


def _while_stopped(place: Place, rows: Sequence[Row], part: str) -> list[Case]:
    """Run rows whose event happens, and whose operations are asked to cancel, while a part of Airflow is stopped."""
    cases = [Case(row, place) for row in rows]
    if not cases:
        return []
    _do(cases, Case.prepare)
    with place.airflow.stopped(part):
        _do(cases, Case.strike, Case.judge_requests)
    _do(cases, Case.judge_end)
    return cases


def _while_cancel_fails(place: Place, rows: Sequence[Row]) -> list[Case]:
    """Run rows whose events let requests to cancel fail, until each log says so."""
    cases = [Case(row, place) for row in rows]
    _do(cases, Case.prepare)
    _do(cases, Case.strike, Case.judge_errors)
    place.emulator.clear_faults()
    for case in cases:
        case.counted_from = time.time()
    _do(cases, Case.judge_requests, Case.judge_end)
    return cases


def _each_in_turn(place: Place, rows: Sequence[Row]) -> list[Case]:
    """Run rows whose events disturb each other: all lie under each event."""
    cases = [Case(row, place) for row in rows]
    _do(cases, Case.prepare)
    _do(cases, Case.strike, at_once=1)
    _do(cases, Case.judge_requests, Case.judge_end)
    return cases


def _do(cases: Iterable[Case], *stages: Stage, at_once: int = 16) -> None:
    """Take each case through the stages; a case that fails goes no further."""
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda case: _take(case, stages), [case for case in cases if not case.failed]))


def _take(case: Case, stages: Iterable[Stage]) -> None:
    for stage in stages:
        try:
            stage(case)
            _tell(case, stage.__name__)
        except Exception as error:  # noqa: BLE001 - one row's failure is no other's
            case.fail(error)
            _tell(case, case.record.problems[-1])
            return


def _tell(case: Case, text: str) -> None:
    """Print a line of progress, which pytest shows with -s."""
    print(f"[{time.monotonic() - _BEGAN:5.1f} s] {case.row.key}: {text}\n", end="", flush=True)
