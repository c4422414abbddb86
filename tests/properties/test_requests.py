"""No input makes a request with another path than an operation's or a listing's: told from the raw request line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_eeops.api.cancelling import cancel_in_haste, cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.exceptions import EarthEngineError, InvalidInputError, UnexpectedAnswerError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from tests.properties.anything import ANYTHING, NAME_LIKE, NAMES, PLAIN, TEXT
from tests.properties.recording import DONE, RecordingServer
from tests.properties.trying import fewer
from tests.support.attempt import attempt

# Percent-encoding stays out too: what a segment holds it holds as it is.
LINE = re.compile(
    rb"(?:"
    rb"GET /v1alpha/projects/[A-Za-z0-9][A-Za-z0-9_.:-]*/operations\?pageSize=[!-~]* HTTP/1\.1\r\n|"
    rb"(?:GET|DELETE) /v1alpha/projects/[A-Za-z0-9][A-Za-z0-9_.:-]*/operations(?:/[A-Za-z0-9_.~-]+)+ HTTP/1\.1\r\n|"
    rb"POST /v1alpha/projects/[A-Za-z0-9][A-Za-z0-9_.:-]*/operations(?:/[A-Za-z0-9_.~-]+)+"
    rb":(?:cancel|wait) HTTP/1\.1\r\n"
    rb")"
)


def assert_in_its_path(line: bytes) -> None:
    assert LINE.fullmatch(line), line
    path = urlsplit(line.split(b" ")[1]).path
    assert not {b"", b".", b".."}.intersection(path.split(b"/")[1:]), line


@pytest.fixture(scope="module")
def server() -> Iterator[RecordingServer]:
    with RecordingServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RecordingServer) -> Iterator[EarthEngineOperationsClient]:
    with _client(server) as client:
        yield client


def _client(server: RecordingServer) -> EarthEngineOperationsClient:
    read = Settings.from_extras({"base_url": server.base_url, "is_anonymous": True, "requests_per_second": 1e6})
    return connect(read, load_credentials(read).credentials)


@pytest.fixture
def hook(server: RecordingServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[EarthEngineOperationsHook]:
    extras = {"base_url": server.base_url, "is_anonymous": True, "requests_per_second": 1e6, "project": "one"}
    monkeypatch.setenv("AIRFLOW_CONN_EARTHENGINE_DEFAULT", json.dumps({"conn_type": "earthengine", "extra": extras}))
    with EarthEngineOperationsHook() as hook:
        yield hook


ONE: dict[str, Callable[[EarthEngineOperationsClient, Any], Any]] = {
    "get": lambda client, value: client.get_operation(value),
    "cancel": lambda client, value: client.cancel_operation(value),
    "delete": lambda client, value: client.delete_operation(value),
    "wait": lambda client, value: client.wait_operation(value, timeout=1),
    "list": lambda client, value: list(client.list_operations(value)),
}


class _Choice(str, Enum):  # noqa: UP042 - what many have written before StrEnum
    NAME = "projects/one/operations/A"
    PROJECT = "one"


class _Liar(str):
    """Holds a name, and is written as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "projects/one/../../../token"

    def __format__(self, spec: str) -> str:
        return str(self)


@pytest.mark.parametrize("call", ONE.values(), ids=ONE)
@given(value=st.one_of(NAME_LIKE, TEXT, ANYTHING))
@example(_Choice.NAME)
@example(_Choice.PROJECT)
@example(_Liar("projects/one/operations/A"))
@example(_Liar("one"))
@example("projects/one/operations/A?B")
@example("projects/one/operations/A#B")
@example("projects/one/operations/A?x=:cancel")
@example("projects/one/operations/A\\..\\B")
@example("projects/one/operations/A%2f..%2fB")
@example("projects/one/operations/A;b")
@fewer(one_in=2, shared=True)
def test_one_request_of_the_client(
    server: RecordingServer,
    client: EarthEngineOperationsClient,
    call: Callable[[EarthEngineOperationsClient, Any], Any],
    value: Any,
) -> None:
    server.take()
    _, error = attempt(call, client, value, error=EarthEngineError)
    lines = server.take()
    # What the server answers is about no operation, which is an error too, but one after the request.
    assert len(lines) == (0 if isinstance(error, InvalidInputError) else 1)
    for line in lines:
        assert_in_its_path(line)


# These functions take names that were parsed; they log them as they are.
LOGGABLE = st.one_of(NAMES, NAME_LIKE, TEXT).map(lambda name: name.encode("utf-8", "replace").decode())


@given(names=st.lists(LOGGABLE, max_size=6), in_haste=st.booleans())
@fewer(one_in=3, shared=True)
def test_requests_for_many_names(
    server: RecordingServer, client: EarthEngineOperationsClient, names: list[str], in_haste: bool
) -> None:
    import logging

    server.take()
    if in_haste:
        report = cancel_in_haste(client, names, log=logging.getLogger("eeops-test"), because="Test.")
    else:
        report = cancel_operations(client, names)
    for line in server.take():
        assert_in_its_path(line)
    assert [result.name for result in report.results] == list(dict.fromkeys(names))


MANY: dict[str, Callable[[EarthEngineOperationsHook, Any], Any]] = {
    "get": lambda hook, value: hook.get_operation(value),
    "cancel": lambda hook, value: hook.cancel_operation(value),
    "cancel many": lambda hook, value: hook.cancel_operations(value),
    "delete": lambda hook, value: hook.delete_operation(value),
    "wait": lambda hook, value: hook.wait_for_operations(value, timeout=5),
    "select": lambda hook, value: hook.select_operations(value),
}


@pytest.mark.parametrize("call", MANY.values(), ids=MANY)
@given(value=ANYTHING)
@example(_Choice.NAME)
@example([_Liar("projects/one/operations/A"), {"name": _Liar("A")}, _Liar("A")])
@example({"description": "x", "project_id": _Choice.PROJECT})
@fewer(one_in=3, shared=True)
def test_requests_of_the_hook(
    server: RecordingServer,
    hook: EarthEngineOperationsHook,
    call: Callable[[EarthEngineOperationsHook, Any], Any],
    value: Any,
) -> None:
    server.take()
    attempt(call, hook, value, error=EarthEngineError)
    for line in server.take():
        assert_in_its_path(line)


@given(project_id=st.one_of(TEXT, PLAIN.filter(lambda value: not callable(value))))
@example(_Choice.PROJECT)
@example(_Liar("one"))
@fewer(one_in=3, shared=True)
def test_the_project_of_a_hook(server: RecordingServer, hook: EarthEngineOperationsHook, project_id: Any) -> None:
    server.take()
    with EarthEngineOperationsHook(project_id=project_id) as other:
        attempt(other.cancel_operations, ["A", "B"], error=EarthEngineError)
    attempt(lambda: list(hook.list_operations(project_id)), error=EarthEngineError)
    attempt(lambda: hook.select_operations({"types": "X"}, project_id=project_id), error=EarthEngineError)
    for line in server.take():
        assert_in_its_path(line)


@given(token=TEXT)
@example("../../operations/A:cancel")
@example("A&pageSize=1#\r\nX: y")
@example("\ud800")
@fewer(one_in=2, shared=True)
def test_whatever_a_page_token_is_it_stays_in_the_query(token: str) -> None:
    with RecordingServer({"nextPageToken": token}, DONE) as server, _client(server) as client:
        _, error = attempt(lambda: list(client.list_pages("one")), error=UnexpectedAnswerError)
        lines = server.take()
    for line in lines:
        assert_in_its_path(line)
    if error is None and token:
        assert parse_qs(urlsplit(lines[1].split(b" ")[1].decode()).query, keep_blank_values=True)["pageToken"] == [
            token
        ]
    else:
        assert len(lines) == 1
