"""A real Airflow masks what this package reads, in the log of a task that prints it."""

from __future__ import annotations

import json

import pytest

from tests.support.airflow_api import AirflowApi
from tests.support.emulator_client import EmulatorClient

pytestmark = pytest.mark.e2e

DAG_ID = "prints_credentials"


def test_a_task_that_prints_its_key_and_token(airflow: AirflowApi, emulator_process: EmulatorClient) -> None:
    run_id = airflow.trigger(DAG_ID)
    state = airflow.wait_for_run(DAG_ID, run_id)
    log = airflow.log(DAG_ID, run_id, "show")
    assert state == "success", log[-3000:]
    tokens = (airflow.home / "printed-tokens").read_text().split()
    key = json.loads(emulator_process.key_path.read_text())
    lines = [line for line in key["private_key"].splitlines() if not line.startswith("-----")]
    assert len(set(tokens)) == 2
    assert len(lines) > 20
    assert [secret for secret in (*tokens, *lines, key["private_key_id"]) if secret in log] == []
    assert log.count("the token, printed: ***") == log.count("the token, logged: ***") == 2
    assert "BEGIN PRIVATE KEY" in log, "what is not secret is left as it is"
    assert key["client_email"] in log
