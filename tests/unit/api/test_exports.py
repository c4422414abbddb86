from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import ee
import ee.batch
import ee.encodable
import pytest

from airflow_provider_eeops.api.ee_state import initialized_project
from airflow_provider_eeops.api.exports import METHODS, Export, exports_in
from airflow_provider_eeops.exceptions import InvalidInputError
from tests.support.exports import EXPRESSION, image_export, table_export

Type = ee.batch.Task.Type


def test_every_type_of_the_real_client_has_a_method() -> None:
    assert {type_.value for type_ in Type} == set(METHODS)


@pytest.mark.parametrize(
    ("type_", "method"),
    [
        (Type.EXPORT_IMAGE, "image:export"),
        (Type.EXPORT_MAP, "map:export"),
        (Type.EXPORT_TABLE, "table:export"),
        (Type.EXPORT_VIDEO, "video:export"),
        (Type.EXPORT_CLASSIFIER, "classifier:export"),
    ],
)
def test_the_type_tells_the_method(type_: Any, method: str) -> None:
    task = ee.batch.Task(None, type_, ee.batch.Task.State.UNSUBMITTED, {"description": "mine"})
    export = Export.from_task(task)
    assert (export.method, export.type, export.description) == (method, type_.value, "mine")


def test_the_body_is_the_config() -> None:
    task = image_export("mine", priority=7)
    body = Export.from_task(task).body()
    assert body == task.config
    assert body["expression"] == EXPRESSION
    assert body is not task.config


@pytest.mark.parametrize(
    ("config", "tag", "sent"),
    [({}, "nightly", "nightly"), ({"workloadTag": "own"}, "nightly", "own"), ({"workloadTag": ""}, "", None)],
)
def test_the_workload_tag_goes_along_as_the_client_would_send_it(
    config: dict[str, Any], tag: str, sent: str | None
) -> None:
    task = image_export(**config)
    task.workload_tag = tag
    assert Export.from_task(task).body().get("workloadTag") == sent


class Answer(ee.encodable.Encodable):
    """An object of the client that needs no server to be made."""

    def encode_cloud_value(self, encoder: Any) -> Any:  # noqa: ARG002 - the client's signature
        return {"constantValue": 42}


def test_an_expression_of_the_client_is_encoded() -> None:
    body = Export.from_task(image_export(expression=Answer())).body()
    assert body["expression"] == {"result": "0", "values": {"0": {"constantValue": 42}}}


def test_an_expression_that_cannot_be_encoded_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"the expression of the export 'mine' cannot be encoded: "):
        Export.from_task(image_export("mine", expression=object())).body()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (SimpleNamespace(operation_name=None, task_type="EXPORT_IMAGE", config=None), "has no config to start it with"),
        (SimpleNamespace(operation_name=None, task_type="EXPORT_SOUND", config={"description": "x"}), "EXPORT_SOUND"),
    ],
)
def test_what_cannot_be_started_is_refused(task: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        exports_in(["projects/one/operations/A", task], project_id="one")


def test_names_stay_what_they_are() -> None:
    read = exports_in(["projects/one/operations/A", table_export("b")], project_id="one")
    assert read[0] == "projects/one/operations/A"
    assert isinstance(read[1], Export)
    assert read[1].description == "b"


def test_without_a_project_nothing_can_be_started() -> None:
    assert exports_in(["projects/one/operations/A"], project_id=None) == ["projects/one/operations/A"]
    with pytest.raises(InvalidInputError, match="'an image' needs a project"):
        exports_in([image_export()], project_id=None)


def initialised_for(monkeypatch: pytest.MonkeyPatch, project: str | None) -> None:
    state = SimpleNamespace(cloud_api_user_project=project, cloud_api_base_url="https://earthengine.googleapis.com")
    data = SimpleNamespace(is_initialized=lambda: project is not None, _get_state=lambda: state)
    monkeypatch.setitem(sys.modules, "ee", SimpleNamespace(data=data))


def test_an_export_of_another_project_is_refused_naming_both(monkeypatch: pytest.MonkeyPatch) -> None:
    initialised_for(monkeypatch, "two")
    assert initialized_project() == "two"
    with pytest.raises(InvalidInputError, match=r"initialised for project two, and this task starts .* project one"):
        exports_in([image_export()], project_id="one")
    assert exports_in(["projects/one/operations/A"], project_id="one"), "a started one is waited for wherever it is"
    initialised_for(monkeypatch, None)
    assert initialized_project() is None
    assert len(exports_in([image_export()], project_id="one")) == 1


def test_without_the_client_nothing_is_initialised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ee")
    assert initialized_project() is None


def test_a_task_is_told_its_operation() -> None:
    task = image_export()
    Export.from_task(task).started_as("projects/one/operations/A")
    assert (task.id, task.name, task.operation_name) == ("A", "projects/one/operations/A", "projects/one/operations/A")
    Export("EXPORT_IMAGE", "", {}).started_as("projects/one/operations/A")
