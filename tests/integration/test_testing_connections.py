"""The Test button of the form, through Airflow's route: what it says of common mistakes, and what it never says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.emulator_client import EmulatorClient
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import free_port
from tests.support.secret_search import Search
from tests.support.versions import AIRFLOW

pytestmark = pytest.mark.e2e

PROJECT = "form-project"
PASSWORD = "hush/hush hour+4711"

Extras = dict[str, Any]


@cache
def another_key() -> str:
    """The private key of nobody."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def without_project(extras: Extras) -> Extras:
    key = {name: value for name, value in extras["keyfile_dict"].items() if name != "project_id"}
    return {"base_url": extras["base_url"], "keyfile_dict": key}


def with_proxy(extras: Extras) -> Extras:
    address = f"http://user:hush%2Fhush%20hour%2B4711@127.0.0.1:{free_port()}"
    # Asked through the proxy alone, which is not there: nothing leaves this machine.
    given = {"proxies": json.dumps({"https": address}), "num_retries": 0, "connect_timeout": 2}
    key = extras["keyfile_dict"] | {"token_uri": "https://oauth2.googleapis.com/token"}
    return extras | given | {"base_url": "https://earthengine.googleapis.com", "keyfile_dict": key}


MISTAKES: Mapping[str, tuple[Callable[[Extras], Extras], str]] = {
    "no project": (without_project, "no project to test with. Set 'project' in the connection."),
    "API not enabled": (
        lambda extras: extras | {"project": "another-project"},
        "the Earth Engine API is not enabled in project another-project; no permission is missing",
    ),
    "key of a deleted account": (
        lambda extras: extras | {"keyfile_dict": extras["keyfile_dict"] | {"private_key": another_key()}},
        "no token for emulator@emulator-project.iam.gserviceaccount.com",
    ),
    "key cut short": (
        lambda extras: extras | {"keyfile_dict": json.dumps(extras["keyfile_dict"])[:-40]},
        "connection extra keyfile_dict is not JSON, line 1 column",
    ),
    "key without its end": (
        lambda extras: (
            extras
            | {"keyfile_dict": extras["keyfile_dict"] | {"private_key": extras["keyfile_dict"]["private_key"][:300]}}
        ),
        "connection extra keyfile_dict is not a usable service_account configuration",
    ),
    "key where its path belongs": (
        lambda extras: {
            "base_url": extras["base_url"],
            "project": PROJECT,
            "key_path": json.dumps(extras["keyfile_dict"]),
        },
        "connection extra key_path must be a path, not the contents of a file",
    ),
    "key of another kind": (
        lambda extras: extras | {"keyfile_dict": {"installed": extras["keyfile_dict"]}},
        "connection extra keyfile_dict is an OAuth client's, which identifies a program and nobody",
    ),
    "path where the key belongs": (
        lambda extras: extras | {"keyfile_dict": "/etc/airflow/key.json"},
        "connection extra keyfile_dict is not JSON, line 1 column 1: paste the whole object, from { to }",
    ),
    "two keys": (
        lambda extras: extras | {"key_path": "/etc/airflow/key.json"},
        "key_path and keyfile_dict each choose the credentials: keep one of them",
    ),
    "another API": (
        lambda extras: extras | {"base_url": "http://earthengine.googleapis.com"},
        "a token goes over plain http to this machine only; use https",
    ),
    "a slip in an extra's name": (
        lambda extras: {"proyect": PROJECT, **without_project(extras)},
        "Extras that nothing reads: proyect.",
    ),
    "proxy that is not there": (with_proxy, "no token for emulator@emulator-project.iam.gserviceaccount.com"),
}


@pytest.fixture(scope="module")
def extras(emulator_process: EmulatorClient) -> Extras:
    """A connection that works."""
    key = json.loads(emulator_process.key_path.read_text())
    return {"base_url": emulator_process.base_url, "project": PROJECT, "keyfile_dict": key}


@pytest.fixture(scope="module")
def search(extras: Extras) -> Search:
    search = Search()
    for name in ("private_key", "private_key_id"):
        search.plant(name, extras["keyfile_dict"][name])
    search.plant("another private key", another_key())
    search.plant("the proxy's password", PASSWORD)
    return search


@pytest.fixture(scope="module", autouse=True)
def before(airflow: LocalAirflow) -> dict[Path, int]:
    """How long Airflow's logs were: a task of another test prints its key, and its own log alone is masked."""
    return {path: path.stat().st_size for path in airflow.home.rglob("*.log")}


@pytest.fixture
def denied(emulator_process: EmulatorClient) -> Iterator[Callable[[str], None]]:
    yield lambda permission: emulator_process.deny(permission, project=PROJECT)
    emulator_process.allow_all()


@pytest.fixture
def tried(airflow: LocalAirflow, search: Search) -> Callable[[Extras], tuple[bool, str]]:
    """Test a connection; nothing secret may be in what comes back."""

    def try_(extras: Extras) -> tuple[bool, str]:
        answer = airflow.test_connection(extras)
        assert search.found_in([json.dumps(answer), *map(str, answer.values())]) == []
        return answer["status"], answer["message"]

    return try_


def test_principal_and_project_are_named(tried: Callable[[Extras], tuple[bool, str]], extras: Extras) -> None:
    ok, message = tried(extras)
    assert ok, message
    assert message.startswith(f"{extras['keyfile_dict']['client_email']} may list operations of project {PROJECT} ")
    assert message.endswith("to get and to cancel was not refused.")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str, tried: Callable[[Extras], tuple[bool, str]], extras: Extras) -> None:
    make, said = MISTAKES[mistake]
    ok, message = tried(make(extras))
    assert not ok
    assert said in message


@pytest.mark.parametrize(
    ("call", "permission"),
    [
        ("list", "earthengine.operations.list"),
        ("get", "earthengine.operations.get"),
        ("cancel", "earthengine.operations.update"),  # what a viewer lacks
    ],
)
def test_the_one_permission_that_lacks_is_named(
    call: str,
    permission: str,
    denied: Callable[[str], None],
    tried: Callable[[Extras], tuple[bool, str]],
    extras: Extras,
) -> None:
    denied(permission)
    ok, message = tried(extras)
    assert not ok
    assert f"may not {call} operations of project {PROJECT}" in message
    assert f"the principal lacks {permission}" in message


@pytest.mark.skipif(AIRFLOW < (3, 1), reason="before Airflow 3.1 it tests what the page shows, with secrets masked")
def test_a_stored_secret_is_tested_and_stays(
    tried: Callable[[Extras], tuple[bool, str]], airflow: LocalAirflow, search: Search, extras: Extras
) -> None:
    body = {"connection_id": "tried", "conn_type": "earthengine", "extra": json.dumps(extras)}
    answers = [airflow.add_connection(body), airflow.connections()]
    shown = json.loads(answers[0]["extra"])
    assert set(shown["keyfile_dict"].values()) == {"***"}
    assert search.found_in([json.dumps(answers)]) == []
    assert tried(shown) == tried(extras)


def test_nothing_secret_is_in_airflows_files(airflow: LocalAirflow, search: Search, before: Mapping[Path, int]) -> None:
    texts = [path.read_bytes()[before.get(path, 0) :].decode(errors="replace") for path in airflow.home.rglob("*.log")]
    assert any("connections/test" in text for text in texts)
    assert search.found_in(texts) == []
