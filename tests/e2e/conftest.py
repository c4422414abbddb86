"""One Airflow and one emulator for the whole matrix; all is run before the first test, which looks at records."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.e2e.bad_input import BadInput, try_bad_input
from tests.e2e.cases import Case
from tests.e2e.matrix import HEARTBEAT, HEARTBEAT_TIMEOUT
from tests.e2e.peace import touched_in_peace
from tests.e2e.place import started
from tests.e2e.rows import ALL
from tests.e2e.running import run_all
from tests.e2e.table import page, store
from tests.e2e.versions import CANNOT_RUN
from tests.support.processes import of_session


@dataclass
class Matrix:
    """All rows, after they were run.

    :param cases: by row.
    :param callbacks: what came of callbacks whose input is bad.
    :param touched: descriptions of operations of runs in peace that were asked to cancel.
    :param left: ids of processes that lived on.
    :param seconds: how long it took.
    """

    cases: dict[str, Case]
    callbacks: BadInput
    touched: list[str]
    left: list[int]
    seconds: float


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", help="only the rows whose key begins so, separated by commas")
    parser.addoption("--kill-matrix", type=Path, help="the page to write the figures to; its JSON is beside it")


@pytest.fixture(scope="session")
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """Every row, run. All that was started is stopped before the first test looks."""
    began = time.monotonic()
    wanted = request.config.getoption("--rows")
    with started(tmp_path_factory.mktemp("matrix"), {row.dag for row in ALL if row.key not in CANNOT_RUN}) as place:
        with ThreadPoolExecutor(1) as beside:
            trying = beside.submit(try_bad_input, place)
            cases = run_all(place, (wanted or "").split(","))
            callbacks = trying.result()
        place.observer.look()
        for case in cases:
            case.judge_bystanders()
        touched = touched_in_peace(place.observer)
    left = [pid for session in place.airflow.sessions for pid in of_session(session)]
    seconds = time.monotonic() - began
    if (file := request.config.getoption("--kill-matrix")) is not None:
        data = file.with_suffix(".json")
        records = {case.row.key: case.record for case in cases}
        store(data, version("apache-airflow"), ALL, records, cannot_run=CANNOT_RUN, seconds=seconds)
        file.write_text(page(json.loads(data.read_text()), heartbeat=HEARTBEAT, timeout=HEARTBEAT_TIMEOUT))
    return Matrix({case.row.key: case for case in cases}, callbacks, touched, left, seconds)
