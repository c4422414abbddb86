"""Google's own client and command line against the emulator, in a process of their own: `ee` keeps global state."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.emulator.routes import VERSIONS
from tests.support.google_client import PROJECT, START, GoogleClient

PACKAGE = importlib.util.find_spec("ee")
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="earthengine-api is not installed")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[GoogleClient]:
    emulator = Emulator(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    with EmulatorServer(emulator) as server:
        yield GoogleClient(emulator, server, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_exports_are_started_cancelled_and_seen(client: GoogleClient, version: str) -> None:
    seen = client.result(
        """
image = ee.batch.Export.image.toDrive(
    ee.Image(1), description="an image", region=ee.Geometry.Rectangle([0, 0, 1, 1]), scale=1000)
table = ee.batch.Export.table.toCloudStorage(
    ee.FeatureCollection([ee.Feature(None, {"a": 1})]), description="a table", bucket="bucket")
image.start()
table.start()
before = image.status()
ee.data.cancelOperation(image.operation_name)
table.cancel()
result = {
    "names": [image.operation_name, table.operation_name],
    "before": before,
    "after": image.status(),
    "operation": ee.data.getOperation(table.operation_name),
    "active": [image.active(), table.active()],
}
""",
        EE_CLOUD_API_VERSION=version,
    )
    assert client.emulator.names() == seen["names"]
    assert (seen["before"]["state"], seen["before"]["description"]) == ("RUNNING", "an image")
    assert seen["before"]["task_type"] == "EXPORT_IMAGE"
    assert (seen["after"]["state"], seen["after"]["error_message"]) == ("CANCELLED", "Cancelled.")
    assert seen["operation"]["error"] == {"code": 1, "message": "Cancelled."}
    assert seen["operation"]["metadata"]["type"] == "EXPORT_FEATURES"
    assert seen["active"] == [False, False]
    paths = {record.path for record in client.emulator.requests if record.method not in {"token", "discovery"}}
    assert all(path.startswith(f"/{version}/") for path in paths)
    assert client.emulator.count("other") == 0


def test_listing_of_several_pages(client: GoogleClient) -> None:
    names = [client.emulator.add_operation(description=f"number {number}") for number in range(1001)]
    seen = client.result("result = [operation['name'] for operation in ee.data.listOperations()]")
    assert seen == names[::-1]
    assert client.emulator.count("list") == 3


@pytest.mark.parametrize(
    ("parameters", "state"),
    [
        ({"finished": True}, "COMPLETED"),
        ({"finished": True, "ends": "FAILED", "error_message": "Too big."}, "FAILED"),
        ({"pending_seconds": 60}, "READY"),
        ({"cancelled": True}, "CANCELLED"),
    ],
)
def test_every_payload_is_understood(client: GoogleClient, parameters: dict[str, Any], state: str) -> None:
    client.emulator.add_operation(**parameters)
    (seen,) = client.result("result = [task.status() for task in ee.batch.Task.list()]")
    assert seen["state"] == state
    assert (seen["start_timestamp_ms"] == 0) == (state == "READY")


def test_errors_reach_the_client_as_its_own_exception(client: GoogleClient) -> None:
    name = client.emulator.add_operation()
    client.emulator.deny("earthengine.operations.update")
    client.emulator.add_fault(Fault("get", status=429))
    seen = client.result(f"""
result = []
for call, name in ((ee.data.getOperation, {name!r}), (ee.data.getOperation, {name + "X"!r}),
                   (ee.data.cancelOperation, {name!r})):
    try:
        result.append(call(name)["name"])
    except ee.EEException as error:
        result.append(str(error))
""")
    assert seen[0] == name
    assert "not found" in seen[1]
    assert "earthengine.operations.update" in seen[2]
    assert [record.status for record in client.emulator.requests if record.method == "get"] == [429, 200, 404]


def test_a_project_without_the_api_is_refused(client: GoogleClient) -> None:
    done = client.run(START.replace("emulator-project", "another-project"))
    assert done.returncode != 0
    assert "another-project" in done.stderr


def test_command_line(client: GoogleClient) -> None:
    short = client.emulator.add_operation("SHORT", description="short", run_seconds=0)
    long = client.emulator.add_operation("LONG", description="long")
    queued = client.emulator.add_operation("QUEUED", description="queued", pending_seconds=3600)

    listing = client.command("task", "list")
    assert listing.returncode == 0, listing.stderr
    lines = {line.split()[0]: line for line in listing.stdout.splitlines()}
    assert "Export.image" in lines["LONG"]
    for each, state in (("SHORT", "SUCCEEDED"), ("LONG", "RUNNING"), ("QUEUED", "PENDING")):
        assert state in lines[each]

    cancelling = client.command("task", "cancel", "LONG", "SHORT")
    assert cancelling.returncode == 0, cancelling.stderr
    assert [client.emulator.state(name) for name in (short, long, queued)] == ["SUCCEEDED", "CANCELLED", "PENDING"]

    assert client.command("task", "cancel", "all").returncode == 0
    assert client.emulator.state(queued) == "CANCELLED"

    assert client.command("task", "wait", "SHORT").returncode == 0
    waiting = client.command("task", "wait", "LONG")
    assert (waiting.returncode, waiting.stdout.splitlines()[-1]) == (1, "Error: Cancelled.")
    assert client.emulator.count("other") == 0


# The emulator and the discovery document say the same.


def discovery() -> dict[str, Any]:
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    text = (Path(PACKAGE.origin).parent / "tests" / "cloud_api_discovery_document.json").read_text()
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


def methods() -> list[tuple[str, dict[str, Any]]]:
    """Methods of the document that the emulator has, with their names in its request log."""
    if PACKAGE is None:
        return []
    resources = discovery()["resources"]["projects"]["resources"]
    operations = resources["operations"]["methods"].items()
    started = [
        ("export", resource["methods"][name])
        for resource in resources.values()
        for name in ("export", "import")
        if name in resource.get("methods", {})
    ]
    return [*operations, *started, ("algorithms", resources["algorithms"]["methods"]["list"])]


def test_the_document_has_the_methods_it_is_asked_for() -> None:
    names = [name for name, _ in methods()]
    assert set(names) == {"cancel", "delete", "get", "list", "wait", "export", "algorithms"}
    assert names.count("export") == 7


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "method"), methods(), ids=lambda value: value.get("id") if isinstance(value, dict) else ""
)
def test_each_method_of_the_document(client: GoogleClient, version: str, name: str, method: dict[str, Any]) -> None:
    path_parameters = {key: spec for key, spec in method["parameters"].items() if spec["location"] == "path"}
    query_parameters = {key: spec for key, spec in method["parameters"].items() if spec["location"] == "query"}
    ((key, spec),) = path_parameters.items()
    client.emulator.require_token = False
    for identifier in ("AAAABBBBCCCCDDDDEEEEFFFF", "two/segments", "with:colon", "with.dot-and_more~"):
        resource = f"projects/{PROJECT}"
        if "operations" in spec["pattern"]:
            resource = client.emulator.add_operation(identifier)
        assert re.match(spec["pattern"], resource)
        path = method["path"].replace("v1alpha/", f"{version}/").replace(f"{{+{key}}}", resource)
        values = {query: "1" if one["type"] == "integer" else "" for query, one in query_parameters.items()}
        answer = requests.request(
            method["httpMethod"],
            f"{client.server.base_url}/{path}",
            params={**values, "alt": "json"},
            json={"timeout": "0s"} if name == "wait" else ({} if "request" in method else None),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        record = client.emulator.requests[-1]
        assert record.method == name
        if "operations" in spec["pattern"]:
            assert record.name == resource
