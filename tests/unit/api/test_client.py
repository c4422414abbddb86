from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum

import pytest

from airflow_provider_eeops.api import client as client_module
from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import (
    EarthEngineError,
    FailedPreconditionError,
    InvalidOperationNameError,
    NotFoundError,
    PermissionDeniedError,
    ProjectNotAllowedError,
    UnexpectedAnswerError,
    UnimplementedError,
)
from tests.support.clock import ManualClock

Connect = Callable[..., EarthEngineOperationsClient]

A = "projects/one/operations/A"


@pytest.fixture
def name(emulator: Emulator) -> str:
    return emulator.add_operation("A", description="fields", destination_uris=["https://drive.google.com/"])


def test_get(client: EarthEngineOperationsClient, clock: ManualClock, name: str) -> None:
    operation = client.get_operation(name)
    assert (operation.name, operation.state, operation.description) == (name, "PENDING", "fields")
    assert operation.start_time is None
    clock.advance(510)
    running = client.get_operation(name)
    assert (running.state, running.progress, running.attempt) == ("RUNNING", 0.5, 1)
    assert running.start_time is not None
    clock.advance(1000)
    done = client.get_operation(name)
    assert done.state == "SUCCEEDED"
    assert done.confirmed
    assert done.destination_uris == ("https://drive.google.com/",)


def test_a_sparse_payload(client: EarthEngineOperationsClient, emulator: Emulator, name: str) -> None:
    emulator.sparse_payloads = True
    assert client.get_operation(name).state == "STATE_UNSPECIFIED"


def test_cancel_is_a_request_and_no_more(client: EarthEngineOperationsClient, clock: ManualClock, name: str) -> None:
    client.cancel_operation(name)
    assert client.get_operation(name).state == "CANCELLING"
    client.cancel_operation(name)
    clock.advance(5)
    cancelled = client.get_operation(name)
    assert (cancelled.state, cancelled.error_code) == ("CANCELLED", 1)


def test_cancel_of_what_has_finished(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    finished = emulator.add_operation(finished=True)
    client.cancel_operation(finished)
    emulator.cancel_finished = "failed_precondition"
    with pytest.raises(FailedPreconditionError, match="has already finished"):
        client.cancel_operation(finished)


class Choice(str, Enum):  # noqa: UP042 - what many have written before StrEnum
    """In a path Python writes a member as ``Choice.NAME``."""

    NAME = A
    PROJECT = "one"


def test_a_path_holds_the_text_that_was_checked(
    client: EarthEngineOperationsClient, emulator: Emulator, name: str
) -> None:
    assert name == Choice.NAME
    assert type(client.get_operation(Choice.NAME).name) is str
    client.cancel_operation(Choice.NAME)
    assert [operation.name for operation in client.list_operations(Choice.PROJECT)] == [name]
    client.delete_operation(Choice.NAME)
    assert emulator.names() == []


def test_delete(client: EarthEngineOperationsClient, emulator: Emulator, name: str) -> None:
    client.delete_operation(name)
    assert emulator.names() == []
    with pytest.raises(NotFoundError):
        client.delete_operation(name)


def test_what_the_server_does_not_implement(client: EarthEngineOperationsClient, emulator: Emulator, name: str) -> None:
    emulator.cancel_supported = emulator.wait_supported = False
    for call in (client.cancel_operation, lambda name: client.wait_operation(name, timeout=0)):
        with pytest.raises(UnimplementedError):
            call(name)
    assert emulator.count("cancel") == emulator.count("wait") == 1


@pytest.mark.parametrize(("timeout", "asked"), [(0.0, "0.000s"), (-3.0, "0.000s"), (0.01, "0.010s"), (600.0, "0.050s")])
def test_wait_leaves_the_answer_time_to_arrive(
    connected: Connect, emulator: Emulator, name: str, timeout: float, asked: str
) -> None:
    client = connected(budget=Budget(retries=0, read_timeout=0.1))
    client.get_operation(name)
    operation = connected(budget=Budget(retries=0, read_timeout=0.1)).wait_operation(name, timeout=timeout)
    assert operation.state == "PENDING"
    assert emulator.requests[-1].body == {"timeout": asked}


def test_wait_returns_what_is_done(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    finished = emulator.add_operation(finished=True)
    assert client.wait_operation(finished, timeout=5).state == "SUCCEEDED"


@pytest.mark.parametrize("version", ["v1alpha", "v1beta", "v1"])
def test_what_is_sent(connected: Connect, emulator: Emulator, name: str, version: str) -> None:
    client = connected(api_version=version)
    client.get_operation(name)
    client.cancel_operation(name)
    client.wait_operation(name, timeout=0)
    list(client.list_operations("one"))
    client.delete_operation(name)
    records = [record for record in emulator.requests if record.method != "token"]
    assert [(record.verb, record.path, record.query, record.body) for record in records] == [
        ("GET", f"/{version}/{A}", {}, None),
        ("POST", f"/{version}/{A}:cancel", {}, {}),
        ("POST", f"/{version}/{A}:wait", {}, {"timeout": "0.000s"}),
        ("GET", f"/{version}/projects/one/operations", {"pageSize": "500"}, None),
        ("DELETE", f"/{version}/{A}", {}, None),
    ]
    assert {record.headers["accept"] for record in records} == {"application/json"}
    assert [record.headers.get("content-type") for record in records] == [
        None,
        "application/json",
        "application/json",
        None,
        None,
    ]
    assert all(record.headers["user-agent"].startswith("airflow-provider-eeops/") for record in records)


def test_listing_follows_pages(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    names = {emulator.add_operation() for _ in range(7)}
    emulator.add_operation(project="two")
    pages = list(client.list_pages("one", page_size=3))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {operation.name for page in pages for operation in page} == names
    assert {operation.name for operation in client.list_operations("one", page_size=2)} == names


def test_listing_asks_for_no_page_before_it_is_read(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    for _ in range(4):
        emulator.add_operation()
    operations = client.list_operations("one", page_size=2)
    assert emulator.count("list") == 0
    next(operations)
    next(operations)
    assert emulator.count("list") == 1
    next(operations)
    assert emulator.count("list") == 2


def test_a_listing_that_does_not_end_is_an_error(
    client: EarthEngineOperationsClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_MOST_PAGES", 3)
    for _ in range(3):
        emulator.add_operation()
    assert len(list(client.list_operations("one", page_size=1))) == 3
    emulator.add_operation()
    with pytest.raises(UnexpectedAnswerError, match="no end after 3 pages"):
        list(client.list_operations("one", page_size=1))


def test_an_empty_listing(client: EarthEngineOperationsClient) -> None:
    assert list(client.list_operations("one")) == []


def test_a_page_token_that_comes_again_ends_the_listing(
    client: EarthEngineOperationsClient, emulator: Emulator
) -> None:
    page = json.dumps({"operations": [{"name": A}], "nextPageToken": "again"}).encode()
    emulator.add_fault(Fault("list", body=page, times=None))
    with pytest.raises(UnexpectedAnswerError, match="the server repeats a page"):
        list(client.list_operations("one"))
    assert emulator.count("list") == 2


def test_a_page_token_that_no_url_can_hold_ends_the_listing(
    client: EarthEngineOperationsClient, emulator: Emulator
) -> None:
    emulator.add_fault(Fault("list", body=b'{"operations": [], "nextPageToken": "\\ud800"}'))
    with pytest.raises(UnexpectedAnswerError, match="the page token is no Unicode text"):
        list(client.list_operations("one"))
    assert emulator.count("list") == 1


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ({"operations": None, "nextPageToken": ""}, []),
        ({"operations": [{"name": A}, None, {"name": 5}, {}, "x"]}, [A]),
    ],
)
def test_an_odd_page_is_read_as_far_as_it_goes(
    client: EarthEngineOperationsClient, emulator: Emulator, page: object, names: list[str]
) -> None:
    emulator.add_fault(Fault("list", body=json.dumps(page).encode()))
    assert [operation.name for operation in client.list_operations("one")] == names


CALLS: list[Callable[[EarthEngineOperationsClient, str], object]] = [
    lambda client, name: client.get_operation(name),
    lambda client, name: client.cancel_operation(name),
    lambda client, name: client.delete_operation(name),
    lambda client, name: client.wait_operation(name, timeout=0),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["projects/one/operations/../x", "projects/one/operations/A?x", "A", "A:cancel", ""])
def test_no_request_for_what_is_not_a_name(
    client: EarthEngineOperationsClient,
    emulator: Emulator,
    call: Callable[[EarthEngineOperationsClient, str], object],
    name: str,
) -> None:
    with pytest.raises(InvalidOperationNameError):
        call(client, name)
    assert emulator.count() == 0


@pytest.mark.parametrize("call", CALLS)
def test_no_request_outside_the_allowed_projects(
    connected: Connect, emulator: Emulator, call: Callable[[EarthEngineOperationsClient, str], object]
) -> None:
    client = connected(allowed_projects="two")
    for allowed in (client, client.within(Budget())):
        with pytest.raises(ProjectNotAllowedError, match=r"allowed_projects \(two\): nothing was sent"):
            call(allowed, A)
    assert emulator.count() == 0


@pytest.mark.parametrize("project", ["..", "one/operations/A", "one?x"])
def test_no_listing_of_what_is_not_a_project(
    client: EarthEngineOperationsClient, emulator: Emulator, project: str
) -> None:
    with pytest.raises(InvalidOperationNameError, match="is not a project id"):
        list(client.list_operations(project))
    assert emulator.count() == 0


def test_no_listing_outside_the_allowed_projects(connected: Connect, emulator: Emulator) -> None:
    client = connected(allowed_projects="two")
    with pytest.raises(ProjectNotAllowedError):
        list(client.list_operations("one"))
    assert emulator.count() == 0
    assert list(client.list_operations("two")) == []


def test_another_budget_on_the_same_connections(
    client: EarthEngineOperationsClient, emulator: Emulator, name: str
) -> None:
    emulator.add_fault(Fault("get", status=503, times=None))
    with pytest.raises(EarthEngineError):
        client.within(Budget(retries=1)).get_operation(name)
    assert emulator.count("get") == 2
    with pytest.raises(EarthEngineError):
        client.get_operation(name)
    assert emulator.count("get") == 6
    assert emulator.count("token") == 1


def test_requests_keep_their_pace(connected: Connect, clock: ManualClock, name: str) -> None:
    client = connected(requests_per_second=4)
    began = clock.monotonic()
    for _ in range(5):
        client.get_operation(name)
    assert clock.monotonic() - began == pytest.approx(1.0)


def test_a_pace_slower_than_the_deadline_spends_none_of_it(
    connected: Connect, emulator: Emulator, clock: ManualClock, name: str
) -> None:
    client = connected(requests_per_second=0.001)
    for _ in range(2):
        emulator.add_fault(Fault("get", status=503))
        with pytest.raises(EarthEngineError):
            client.within(Budget(retries=0)).get_operation(name)
    assert client.get_operation(name).name == name
    assert clock.sleeps == pytest.approx([1000, 1000])


def test_permission_denied_says_which(client: EarthEngineOperationsClient, emulator: Emulator, name: str) -> None:
    emulator.deny("earthengine.operations.update")
    with pytest.raises(PermissionDeniedError, match=r"'earthengine\.operations\.update' denied") as info:
        client.cancel_operation(name)
    assert info.value.details[0]["reason"] == "IAM_PERMISSION_DENIED"
    assert info.value.operation_name == name
