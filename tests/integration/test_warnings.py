"""What a real Airflow warned of while it ran all the DAGs: nothing that this package or an example caused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.airflow_api import AirflowApi
from tests.support.versions import AIRFLOW

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def test_nothing_is_warned_of_that_is_ours(airflow: AirflowApi) -> None:
    ours = (str(ROOT / "airflow_provider_eeops"), airflow.env["AIRFLOW__CORE__DAGS_FOLDER"])
    # Airflow 3.0 leaves sockets open; the warning names the line at which garbage was collected, which may be ours.
    lines = [
        line
        for file in airflow.home.rglob("*.log")
        for line in file.read_text(errors="replace").splitlines()
        if "Warning" in line and not ("ResourceWarning" in line and AIRFLOW == (3, 0))
    ]
    assert lines, "Airflow's own warnings are shown, so ours would be"
    assert [line for line in lines if any(place in line for place in ours)] == []
