"""The DAGs of docs/examples."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_eeops.emulator import Emulator

CHECK_CONNECTION = Path(__file__).parents[3] / "docs" / "examples" / "check_connection.py"


@pytest.fixture
def check(connection: None) -> Callable[[], str]:
    del connection
    function: Callable[[], str] = runpy.run_path(str(CHECK_CONNECTION))["check"].function
    return function


def test_check_connection_names_the_principal_and_the_project(check: Callable[[], str]) -> None:
    said = check()
    assert "emulator@emulator-project.iam.gserviceaccount.com" in said
    assert "project one" in said


def test_check_connection_fails_with_what_is_missing(check: Callable[[], str], emulator: Emulator) -> None:
    emulator.deny("earthengine.operations.update")
    with pytest.raises(RuntimeError, match=r"earthengine\.operations\.update"):
        check()
