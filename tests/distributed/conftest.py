"""One run for all tests: all that was started is stopped before the first test looks at its record."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import pytest

from tests.distributed.page import written
from tests.distributed.place import started
from tests.distributed.record import Record
from tests.distributed.running import Run
from tests.support.postgres import postgres_version
from tests.support.processes import of_session
from tests.support.redis import redis_version


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scaling", type=Path, help="the page to write the figures to; its JSON is beside it")


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What was seen."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    with started(tmp_path_factory.mktemp("distributed")) as place:
        run = Run(place)
        run.go()
    found = run.record
    found.left = [pid for session in place.airflow.sessions for pid in of_session(session)]
    found.about = _about()
    found.seconds = time.monotonic() - began
    if (page := request.config.getoption("--scaling")) is not None:
        page.with_suffix(".json").write_text(json.dumps(found.to_dict(), indent=1, sort_keys=True) + "\n")
        page.write_text(written(page.read_text(), found))
    return found


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, which stops all that was started."""
    raise KeyboardInterrupt


def _about() -> dict[str, str | float]:
    """Date, versions, cores."""
    packages = ("apache-airflow", "apache-airflow-providers-celery", "celery")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count() or 0,
        "load": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        "postgresql": postgres_version(),
        "redis": redis_version(),
        **{package: version(package) for package in packages},
    }
