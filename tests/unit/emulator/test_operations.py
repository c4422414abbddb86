import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.emulation import PROJECT, Served, error_of

Serve = Callable[..., Served]


def metadata(served: Served, name: str) -> dict[str, Any]:
    payload = served.get(name).json()
    assert payload["name"] == name
    found = payload["metadata"]
    assert isinstance(found, dict)
    return found


def test_left_alone_it_is_pending_then_running_then_succeeded(served: Served) -> None:
    name = served.emulator.add_operation(destination_uris=["gs://there"])
    seen = [metadata(served, name)["state"]]
    for seconds in (9.999, 0.001, 99.999, 0.001, 1000):
        served.clock.advance(seconds)
        seen.append(metadata(served, name)["state"])
    assert seen == ["PENDING", "PENDING", "RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
    payload = served.get(name).json()
    assert payload["done"] is True
    assert "@type" in payload["response"]
    assert "error" not in payload
    assert payload["metadata"]["destinationUris"] == ["gs://there"]
    assert payload["metadata"]["progress"] == 1.0


def test_some_run_for_another_time_by_their_description(serve: Serve) -> None:
    served = serve(pending_seconds=0, run_seconds=100, run_seconds_of={"short-*": 5, "short-but-*": 50})
    names = [served.emulator.add_operation(description=each) for each in ("short-1", "short-but-2", "not-short-3")]
    served.clock.advance(5)
    assert [served.emulator.state(name) for name in names] == ["SUCCEEDED", "SUCCEEDED", "RUNNING"]


def test_pending_payload(served: Served) -> None:
    name = served.emulator.add_operation(description="what", type="EXPORT_FEATURES")
    assert served.get(name).json() == {
        "name": name,
        "metadata": {
            "@type": "type.googleapis.com/google.earthengine.v1alpha.OperationMetadata",
            "state": "PENDING",
            "description": "what",
            "type": "EXPORT_FEATURES",
            "priority": 100,
            "createTime": "2025-06-15T15:06:40Z",
            "updateTime": "2025-06-15T15:06:40Z",
            "startTime": "1970-01-01T00:00:00Z",
            "attempt": 1,
        },
    }


def test_running_payload(served: Served) -> None:
    name = served.emulator.add_operation()
    served.clock.advance(60.5)
    payload = served.get(name).json()
    assert "done" not in payload
    found = payload["metadata"]
    assert found["startTime"] == "2025-06-15T15:06:50Z"
    assert found["updateTime"] == "2025-06-15T15:07:40.500000Z"
    assert found["progress"] == 0.505
    assert found["stages"] == [
        {
            "displayName": "Create Local Files",
            "completeWorkUnits": 1.0,
            "totalWorkUnits": "1",
            "description": "Create Local Files.",
        },
        {
            "displayName": "Write Files to Destination",
            "completeWorkUnits": 0.01,
            "totalWorkUnits": "1",
            "description": "Write Files to Destination.",
        },
    ]
    assert found["batchEecuUsageSeconds"] > 0
    assert "endTime" not in found


def test_just_started_leaves_out_what_is_zero(served: Served) -> None:
    name = served.emulator.add_operation(type="INGEST_TABLE")
    served.clock.advance(10)
    found = metadata(served, name)
    assert found["state"] == "RUNNING"
    assert "progress" not in found
    assert all("completeWorkUnits" not in stage for stage in found["stages"])


def test_sparse_payloads(serve: Serve) -> None:
    served = serve(sparse_payloads=True, pending_seconds=10)
    name = served.emulator.add_operation()
    assert set(metadata(served, name)) == {"@type", "description", "type", "createTime", "updateTime"}
    served.clock.advance(12)
    found = metadata(served, name)
    assert found["state"] == "RUNNING"
    assert all(set(stage) == {"displayName"} for stage in found["stages"])


def test_metadata_type_follows_the_version(served: Served) -> None:
    name = served.emulator.add_operation()
    for served.version in ("v1", "v1beta", "v1alpha"):
        assert f".{served.version}." in metadata(served, name)["@type"]


def test_failed(served: Served) -> None:
    name = served.emulator.add_operation(ends="FAILED", error_code=13, error_message="Internal error.")
    served.clock.advance(110)
    payload = served.get(name).json()
    assert payload["metadata"]["state"] == "FAILED"
    assert payload["done"] is True
    assert payload["error"] == {"code": 13, "message": "Internal error."}
    assert "response" not in payload


def test_cancel_while_running(served: Served) -> None:
    name = served.emulator.add_operation()
    served.clock.advance(50)
    answer = served.post(f"{name}:cancel", {})
    assert (answer.status_code, answer.json()) == (200, {})
    assert metadata(served, name)["state"] == "CANCELLING"
    assert metadata(served, name)["updateTime"] == "2025-06-15T15:07:30Z"
    served.clock.advance(4.9)
    assert "done" not in served.get(name).json()
    served.post(f"{name}:cancel")  # again, which does not start the time anew
    served.clock.advance(0.1)
    payload = served.get(name).json()
    assert payload["done"] is True
    assert payload["error"] == {"code": 1, "message": "Cancelled."}
    assert payload["metadata"]["state"] == "CANCELLED"
    assert payload["metadata"]["endTime"] == "2025-06-15T15:07:35Z"
    assert payload["metadata"]["progress"] < 1


def test_cancel_while_pending_never_starts(served: Served) -> None:
    name = served.emulator.add_operation(cancel_seconds=20)
    served.post(f"{name}:cancel")
    served.clock.advance(15)
    assert metadata(served, name)["state"] == "CANCELLING"
    served.clock.advance(5)
    found = metadata(served, name)
    assert found["state"] == "CANCELLED"
    assert found["startTime"] == "1970-01-01T00:00:00Z"


def test_ignored_cancel(served: Served) -> None:
    name = served.emulator.add_operation(ignores_cancel=True)
    served.post(f"{name}:cancel")
    served.clock.advance(109)
    assert metadata(served, name)["state"] == "CANCELLING"
    assert metadata(served, name)["startTime"] == "2025-06-15T15:06:50Z"
    served.clock.advance(1)
    assert served.get(name).json()["metadata"]["state"] == "SUCCEEDED"
    assert served.emulator.cancel_requested(name)


@pytest.mark.parametrize(
    ("parameters", "state"),
    [
        ({"finished": True}, "SUCCEEDED"),
        ({"finished": True, "ends": "FAILED"}, "FAILED"),
        ({"finished": True, "run_seconds": float("inf")}, "SUCCEEDED"),
        ({"cancelled": True}, "CANCELLED"),
        ({"cancelled": True, "ignores_cancel": True, "cancel_seconds": 9999}, "CANCELLED"),
        ({"pending_seconds": 0, "run_seconds": 0}, "SUCCEEDED"),
        ({"pending_seconds": 0, "run_seconds": 0, "ends": "FAILED"}, "FAILED"),
    ],
)
def test_already_terminal(served: Served, parameters: dict[str, Any], state: str) -> None:
    name = served.emulator.add_operation(**parameters)
    assert served.emulator.state(name) == state
    payload = served.get(name).json()
    assert payload["done"] is True
    assert payload["metadata"]["createTime"] <= payload["metadata"]["startTime"] <= payload["metadata"]["endTime"]


def test_cancel_of_a_finished_operation(served: Served) -> None:
    names = [served.emulator.add_operation(finished=True), served.emulator.add_operation(cancelled=True)]
    for name in names:
        before = served.get(name).json()
        assert served.post(f"{name}:cancel").json() == {}
        served.emulator.cancel_finished = "failed_precondition"
        code, status, message = error_of(served.post(f"{name}:cancel"))
        served.emulator.cancel_finished = "ok"
        assert (code, status) == (400, "FAILED_PRECONDITION")
        assert name in message
        assert served.get(name).json() == before


def test_unsupported_methods(serve: Serve) -> None:
    served = serve(cancel_supported=False, wait_supported=False)
    name = served.emulator.add_operation()
    for method in ("cancel", "wait"):
        assert error_of(served.post(f"{name}:{method}"))[:2] == (501, "UNIMPLEMENTED")
    assert not served.emulator.cancel_requested(name)


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b" { } "])
def test_cancel_takes_an_empty_body(served: Served, body: bytes) -> None:
    name = served.emulator.add_operation()
    assert served.session.post(served.url(f"{name}:cancel"), data=body, timeout=30).status_code == 200


@pytest.mark.parametrize("body", [b'{"name":"x"}', b"[]", b"null", b'"x"', b"{", b"\xff"])
def test_cancel_takes_no_other_body(served: Served, body: bytes) -> None:
    name = served.emulator.add_operation()
    answer = served.session.post(served.url(f"{name}:cancel"), data=body, timeout=30)
    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert not served.emulator.cancel_requested(name)


def test_not_found(served: Served) -> None:
    name = served.emulator.add_operation()
    served.emulator.remove_operation(name)
    other = f"projects/{PROJECT}/operations/NOPE"
    for gone in (name, other):
        for answer in (
            served.get(gone),
            served.delete(gone),
            served.post(f"{gone}:cancel"),
            served.post(f"{gone}:wait", {"timeout": "1s"}),
        ):
            code, status, message = error_of(answer)
            assert (code, status) == (404, "NOT_FOUND")
            assert gone in message
    with pytest.raises(KeyError):
        served.emulator.state(name)


def test_delete_forgets_without_cancelling(served: Served) -> None:
    first, second, third = (served.emulator.add_operation() for _ in range(3))
    assert served.delete(second).json() == {}
    assert served.get(second).status_code == 404
    assert served.emulator.names() == [first, third]
    assert served.emulator.count("cancel") == 0


def test_ids_of_several_segments_and_escapes(served: Served) -> None:
    name = served.emulator.add_operation("a/b c/d")
    assert served.get(name).json()["name"] == name
    assert served.get(name.replace("/d", "%2Fd")).json()["name"] == name
    assert served.post(f"{name}:cancel").json() == {}
    assert served.emulator.state(name) == "CANCELLING"


def test_made_up_ids(served: Served) -> None:
    names = {served.emulator.add_operation() for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(rf"projects/{PROJECT}/operations/[A-Z0-9]{{24}}", name) for name in names)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"project": "nope"}, "no such project: nope"),
        ({"ends": "CANCELLED"}, "SUCCEEDED or FAILED"),
        ({"ends": "DONE"}, "DONE"),
        ({"operation_id": "TWICE"}, "operation exists"),
    ],
)
def test_refused_parameters(served: Served, parameters: dict[str, Any], words: str) -> None:
    served.emulator.add_operation("TWICE")
    with pytest.raises(ValueError, match=words):
        served.emulator.add_operation(**parameters)


def test_an_emulator_needs_a_project(serve: Serve) -> None:
    with pytest.raises(ValueError, match="at least one project"):
        serve(projects=[])


def test_wait_returns_the_state_when_time_is_up(served: Served) -> None:
    name = served.emulator.add_operation()
    payload = served.post(f"{name}:wait", {"timeout": "0.05s"}).json()
    assert payload["metadata"]["state"] == "PENDING"


def test_wait_returns_when_the_operation_is_done(served: Served) -> None:
    name = served.emulator.add_operation()
    served.clock.advance(1000)
    for body in (None, {}, {"timeout": None}, {"timeout": "30s"}):
        assert served.post(f"{name}:wait", body).json()["done"] is True


@pytest.mark.parametrize("body", [{"timeout": "soon"}, {"timeout": 3}, {"deadline": "3s"}, ["3s"]])
def test_wait_refuses(served: Served, body: Any) -> None:
    name = served.emulator.add_operation()
    assert error_of(served.post(f"{name}:wait", body))[:2] == (400, "INVALID_ARGUMENT")
