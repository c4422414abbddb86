from collections.abc import Callable
from typing import Any

import pytest

from tests.support.emulation import PROJECT, Served, error_of

IMAGE = f"projects/{PROJECT}/image:export"


@pytest.mark.parametrize(
    ("kind", "started"),
    [
        ("image:export", "EXPORT_IMAGE"),
        ("table:export", "EXPORT_FEATURES"),
        ("video:export", "EXPORT_VIDEO"),
        ("map:export", "EXPORT_TILES"),
        ("videoMap:export", "EXPORT_VIDEO"),
        ("classifier:export", "EXPORT_CLASSIFIER"),
        ("image:import", "INGEST_IMAGE"),
        ("table:import", "INGEST_TABLE"),
    ],
)
def test_starts_an_operation(served: Served, kind: str, started: str) -> None:
    operation = served.post(f"projects/{PROJECT}/{kind}", {"description": "mine"}).json()
    assert operation["metadata"]["type"] == started
    assert operation["metadata"]["description"] == "mine"
    assert operation["metadata"]["state"] == "PENDING"
    assert served.get(operation["name"]).json() == operation
    assert served.emulator.requests[0].name == operation["name"]
    assert served.emulator.count("export", operation["name"]) == 1


def test_same_request_id_of_the_same_principal_is_the_same_operation(served: Served) -> None:
    first = served.post(IMAGE, {"requestId": "once"}).json()["name"]
    assert served.post(IMAGE, {"requestId": "once"}).json()["name"] == first
    assert served.post(IMAGE, {"requestId": "twice"}).json()["name"] != first
    served.session.headers["Authorization"] = f"Bearer {served.emulator.issue_token('another@example.com')}"
    assert served.post(IMAGE, {"requestId": "once"}).json()["name"] != first
    assert len(served.emulator.names()) == 3


def test_without_request_id_each_is_another(served: Served) -> None:
    names = {served.post(IMAGE, body).json()["name"] for body in (None, {}, {"requestId": ""}, {"requestId": None})}
    assert len(names) == 4


def test_a_request_id_is_good_again_when_its_operation_is_gone(served: Served) -> None:
    first = served.post(IMAGE, {"requestId": "once"}).json()["name"]
    served.delete(first)
    assert served.post(IMAGE, {"requestId": "once"}).json()["name"] != first


@pytest.mark.parametrize("body", [{"requestId": "with space"}, {"requestId": "x" * 61}, ["no object"]])
def test_refused_bodies(served: Served, body: Any) -> None:
    assert error_of(served.post(IMAGE, body))[:2] == (400, "INVALID_ARGUMENT")


def test_body_size(served: Served) -> None:
    assert served.post(IMAGE, {"expression": "x" * 3_000_000}).status_code == 200
    code, _, message = error_of(served.post(IMAGE, {"expression": "x" * 10_500_000}))
    assert code == 400
    assert "10485760 bytes" in message


@pytest.mark.parametrize(("status", "name"), [(429, "RESOURCE_EXHAUSTED"), (400, "INVALID_ARGUMENT")])
def test_queue_limit(serve: Callable[..., Served], status: int, name: str) -> None:
    served = serve(queue_limit=2, queue_full_status=status, pending_seconds=10)
    served.emulator.add_operation(finished=True)
    for _ in range(2):
        assert served.post(IMAGE).status_code == 200
    assert error_of(served.post(IMAGE)) == (
        status,
        name,
        "Too many tasks already in the queue (2). Please wait for some of them to complete.",
    )
    served.clock.advance(10)
    assert served.post(IMAGE).status_code == 200


@pytest.mark.parametrize(
    ("body", "uris"),
    [
        (
            {"fileExportOptions": {"cloudStorageDestination": {"bucket": "b", "filenamePrefix": "p"}}},
            ["https://console.developers.google.com/storage/browser/b/p"],
        ),
        (
            {"assetExportOptions": {"earthEngineDestination": {"name": "projects/p/assets/a"}}},
            ["https://code.earthengine.google.com/?asset=projects/p/assets/a"],
        ),
        ({"fileExportOptions": {"driveDestination": {"folder": "f"}}}, ["https://drive.google.com/"]),
        ({"fileExportOptions": {"cloudStorageDestination": "odd"}}, None),
    ],
)
def test_destinations_show_when_it_succeeded(served: Served, body: dict[str, Any], uris: list[str] | None) -> None:
    name = served.post(IMAGE, body).json()["name"]
    served.clock.advance(200)
    assert served.get(name).json()["metadata"].get("destinationUris") == uris
