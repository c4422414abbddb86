from collections.abc import Callable
from typing import Any

import pytest

from tests.support.emulation import PROJECT, Served, error_of


def test_health(served: Served) -> None:
    assert served.control("GET", "health").json() == {"status": "ok", "projects": [PROJECT]}


def test_operations_are_added_and_shown(served: Served) -> None:
    body = {"operation_id": "X", "description": "mine", "run_seconds": 3, "finished": True}
    name = served.control("POST", "operations", json=body).json()["name"]
    second = served.control("POST", "operations").json()["name"]
    served.post(f"{second}:cancel")
    first, other = served.control("GET", "operations").json()["operations"]
    assert first["name"] == name == f"projects/{PROJECT}/operations/X"
    assert (first["state"], first["description"]) == ("SUCCEEDED", "mine")
    assert first["createTime"] < first["endTime"]
    assert (other["name"], other["state"], other["cancelRequested"]) == (second, "CANCELLING", True)


def test_many_operations_are_added_and_all_removed(served: Served) -> None:
    names = served.control("POST", "operations", json={"count": 1200, "description": "one of many"}).json()["names"]
    assert served.emulator.names() == names
    assert len(set(names)) == 1200
    assert served.emulator.operation(names[-1])["metadata"]["description"] == "one of many"
    assert served.control("DELETE", "operations").json() == {}
    assert served.emulator.names() == []
    assert served.get(names[0]).status_code == 404
    assert served.get(f"projects/{PROJECT}/operations").json() == {}


def test_counts(served: Served) -> None:
    name = served.emulator.add_operation()
    served.get(name)
    first = served.control("GET", "counts").json()
    served.get(f"{name}X")
    served.get(name)
    served.post(f"{name}:cancel")
    second = served.control("GET", f"counts?since={first['next']}").json()
    assert first == {"next": 1, "counts": {"get": {"200": 1}}}
    assert second == {"next": 4, "counts": {"get": {"404": 1, "200": 1}, "cancel": {"200": 1}}}


def test_requests_since(served: Served) -> None:
    name = served.emulator.add_operation()
    served.get(name, alt="json")
    served.post(f"{name}:cancel", {})
    served.session.post(served.url(f"{name}:cancel"), data=b"no json", timeout=30)
    records = served.control("GET", "requests").json()["requests"]
    assert [(each["number"], each["method"], each["verb"], each["status"]) for each in records] == [
        (0, "get", "GET", 200),
        (1, "cancel", "POST", 200),
        (2, "cancel", "POST", 400),
    ]
    assert records[0]["query"] == {"alt": "json"}
    assert records[0]["path"] == f"/v1alpha/{name}"
    assert records[0]["principal"] == records[0]["headers"]["authorization"] == "tester@example.com"
    assert [each["body"] for each in records] == [None, {}, "no json"]
    assert served.control("GET", "requests?since=2").json()["requests"] == records[2:]


def test_faults_and_denials(served: Served) -> None:
    name = served.emulator.add_operation()
    fault = {"method": "get", "status": 502, "body": "<html>", "content_type": "text/html", "times": None}
    assert served.control("POST", "faults", json=fault).json() == {}
    assert served.get(name).text == "<html>"
    served.control("DELETE", "faults")
    assert served.get(name).status_code == 200
    served.control("POST", "denials", json={"permission": "earthengine.operations.get"})
    assert served.get(name).status_code == 403
    served.control("DELETE", "denials")
    assert served.get(name).status_code == 200


@pytest.mark.parametrize(
    ("verb", "path", "body", "words"),
    [
        ("POST", "operations", b"[]", "not a JSON object"),
        ("POST", "operations", b"{", "line 1"),
        ("POST", "operations", b'{"colour": 1}', "colour"),
        ("POST", "operations", b'{"project": "nope"}', "no such project"),
        ("POST", "operations", b'{"count": "3"}', "whole number"),
        ("POST", "operations", b'{"count": 3, "operation_id": "X"}', "operation_id"),
        ("GET", "counts?since=x", b"", "invalid literal"),
        ("POST", "faults", b'{"methods": "get"}', "a fault has no methods"),
        ("POST", "faults", b"{}", "method"),
        ("POST", "faults", b'{"method": "gett", "status": 500}', "gett"),
        ("POST", "faults", b'{"method": "get", "action": "explode"}', "explode"),
        ("GET", "requests?since=x", b"", "invalid literal"),
    ],
)
def test_refused(served: Served, verb: str, path: str, body: bytes, words: str) -> None:
    code, _, message = error_of(served.control(verb, path, data=body))
    assert code == 400
    assert words in message


def test_unknown(served: Served) -> None:
    assert error_of(served.control("DELETE", "requests"))[0] == 404
    assert served.emulator.requests == []  # the control API is not part of the log


def test_the_log_is_bounded(serve: Callable[..., Served]) -> None:
    served = serve(log_limit=10)
    for _ in range(25):
        served.get(f"projects/{PROJECT}/operations")
    numbers = [record.number for record in served.emulator.requests]
    assert len(numbers) <= 10
    assert numbers == list(range(numbers[0], 25))


def test_count(served: Served) -> None:
    one, two = served.emulator.add_operation(), served.emulator.add_operation()
    for name in (one, one, two):
        served.get(name)
    served.post(f"{one}:cancel")
    counted: list[Any] = [
        served.emulator.count(),
        served.emulator.count("get"),
        served.emulator.count("get", one),
        served.emulator.count(name=one),
        served.emulator.count("delete"),
    ]
    assert counted == [4, 3, 2, 3, 0]
