"""The fields of a log line as Airflow 3's logs, which are structlog's, take them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from airflow_provider_eeops.api.cancelling import cancel_in_haste
from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.watching import Watch
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.killing import KillCanceller
from airflow_provider_eeops.progress import log_poll
from tests.support.versions import HAS_NO_FIELDS

structlog = pytest.importorskip("structlog", reason=HAS_NO_FIELDS)

pytestmark = pytest.mark.usefixtures("connection")

Logged = list[tuple[str, Mapping[str, Any]]]


class Fields(logging.Handler):
    """Keeps each line and its fields, as structlog merges them when it formats a record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.logged: Logged = []

    def emit(self, record: logging.LogRecord) -> None:
        merged = structlog.contextvars.merge_contextvars(logging.getLogger(), "info", {})
        self.logged.append((record.getMessage(), dict(merged)))


@pytest.fixture
def logged() -> Iterator[Logged]:
    handler, logger = Fields(), logging.getLogger("airflow_provider_eeops")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler.logged
    logger.removeHandler(handler)
    logger.setLevel(before)


def fields_of(logged: Logged, beginning: str) -> Mapping[str, Any]:
    (found,) = [fields for message, fields in logged if message.startswith(beginning)]
    return found


LOG = logging.getLogger("airflow_provider_eeops.test")


def test_each_line_of_a_cancel_has_its_own(emulator: Emulator, logged: Logged) -> None:
    name, refused = emulator.add_operation(), emulator.add_operation()
    emulator.add_fault(Fault("cancel", status=403, name=refused))
    with EarthEngineOperationsHook() as hook:
        cancel_in_haste(hook.get_conn(), [name, refused], log=LOG, because="Why.")
    assert fields_of(logged, "Why. Requesting") == {"operations": 2}
    assert fields_of(logged, f"{name}: ") == {"operation": name, "project": "one", "outcome": "cancel_requested"}
    assert fields_of(logged, f"{refused}: ") == {
        "operation": refused,
        "project": "one",
        "outcome": "permission_denied",
        "error_code": 7,
    }
    assert structlog.contextvars.get_contextvars() == {}


def test_a_kills_lines_keep_theirs_until_they_can_be_written(emulator: Emulator, logged: Logged) -> None:
    name = emulator.add_operation()
    with EarthEngineOperationsHook() as hook:
        killing = KillCanceller(hook)
        with log_fields(operation="projects/one/operations/INTERRUPTED"):  # a line that the signal came into
            killing.cancel([name])
        killing.close()
    assert fields_of(logged, "The task is being killed.") == {"operations": 1}
    assert fields_of(logged, f"{name}: ") == {"operation": name, "project": "one", "outcome": "cancel_requested"}


def test_what_is_no_operation_has_no_project(logged: Logged) -> None:
    with log_fields(operation="projects/one/operations/../two"):
        LOG.info("said")
    assert fields_of(logged, "said") == {"operation": "projects/one/operations/../two"}


def test_a_poll(logged: Logged) -> None:
    name = "projects/one/operations/A"
    watch = Watch((name,))
    log_poll(LOG, watch, [Operation(name, "RUNNING", progress=0.5)])
    log_poll(LOG, watch, [Operation(f"{name}{number}", "RUNNING") for number in range(12)])
    assert fields_of(logged, f"{name}: RUNNING") == {
        "operation": name,
        "project": "one",
        "state": "RUNNING",
        "progress": 0.5,
    }
    assert fields_of(logged, "And 2 operations more") == {"operations": 2, "counts": {"RUNNING": 2}}
