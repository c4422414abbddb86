"""The form of a connection as Airflow 2's own web server makes and takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.api.settings import FIELDS, STAND_IN_OF_FORM
from tests.support.secret_search import Search
from tests.support.versions import IS_AIRFLOW_2

pytestmark = pytest.mark.skipif(not IS_AIRFLOW_2, reason="Airflow 2's web server; of Airflow 3's, see tests/browser")

KEY = json.dumps({"type": "service_account", "private_key": "hush-hush-hush-0123456789"})
PROXIES = json.dumps({"https": "http://user:hunter22hunter@proxy.example:3128"})
TYPED = {"project": "one", "keyfile_dict": KEY, "proxies": PROXIES, "num_retries": "3", "requests_per_second": "9.5"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    env = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        # In the database it keeps SQLite locked from 2.11.1 on.
        "AIRFLOW__WEBSERVER__SESSION_BACKEND": "securecookie",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.airflow_2_form"],
        input=json.dumps(TYPED),
        env=env,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_it_has_every_field_and_masks_the_secret_ones(seen: dict[str, Any]) -> None:
    assert list(seen["blank"]) == [field.name for field in FIELDS]
    masked = {name for name, kind in seen["blank"].items() if kind == "password"}
    assert masked == {field.name for field in FIELDS if field.is_secret}


def test_what_was_typed_is_stored(seen: dict[str, Any]) -> None:
    assert seen["stored"] == TYPED | {"num_retries": 3, "is_anonymous": False}


def test_opened_again_it_shows_all_but_the_secrets(seen: dict[str, Any]) -> None:
    shown = {name: value for name, value in seen["shown"].items() if value and name != "is_anonymous"}
    assert shown == TYPED | {"keyfile_dict": STAND_IN_OF_FORM, "proxies": STAND_IN_OF_FORM}


def test_secrets_stay_when_something_else_is_changed(seen: dict[str, Any]) -> None:
    assert seen["kept"] == seen["stored"] | {"read_timeout": "20"}


def test_what_is_no_number_and_no_choice_is_refused(seen: dict[str, Any]) -> None:
    assert seen["refused"] == ["Not a valid integer value", "Invalid value, must be one of"]


def test_no_page_has_a_secret(seen: dict[str, Any]) -> None:
    search = Search()
    search.plant("the private key", "hush-hush-hush-0123456789")
    search.plant("the proxy's password", "hunter22hunter")
    assert search.found_in(seen["pages"]) == []
