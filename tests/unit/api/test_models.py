from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_eeops.api.models import (
    Operation,
    OperationResult,
    OperationState,
    Outcome,
    Report,
    listing,
    merged,
)
from airflow_provider_eeops.api.names import parse_operation_names
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    EarthEngineError,
    FailedPreconditionError,
    InvalidOperationNameError,
    NotFoundError,
    PermissionDeniedError,
    ProjectNotAllowedError,
    UnimplementedError,
)

A = "projects/one/operations/A"


@pytest.mark.parametrize(
    ("payload", "state", "outcome"),
    [
        ({}, "STATE_UNSPECIFIED", None),
        ({"metadata": {}}, "STATE_UNSPECIFIED", None),
        ({"metadata": {"state": "PENDING"}}, "PENDING", None),
        ({"metadata": {"state": "RUNNING"}, "done": False}, "RUNNING", None),
        ({"metadata": {"state": "CANCELLING"}}, "CANCELLING", None),
        ({"metadata": {"state": "BRAND_NEW"}}, "BRAND_NEW", None),
        ({"metadata": {"state": "RUNNING"}, "done": "true"}, "RUNNING", None),
        ({"metadata": {"state": "SUCCEEDED"}}, "SUCCEEDED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "SUCCEEDED"}, "done": False}, "SUCCEEDED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "SUCCEEDED"}, "done": True}, "SUCCEEDED", Outcome.FINISHED_FIRST),
        ({"done": True, "response": {}}, "SUCCEEDED", Outcome.FINISHED_FIRST),
        ({"done": True, "error": {}}, "SUCCEEDED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "RUNNING"}, "done": True, "response": {}}, "SUCCEEDED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "FAILED"}, "done": True, "error": {"code": 3}}, "FAILED", Outcome.FINISHED_FIRST),
        ({"done": True, "error": {"code": 13}}, "FAILED", Outcome.FINISHED_FIRST),
        ({"done": True, "error": {"message": "no code"}}, "FAILED", Outcome.FINISHED_FIRST),
        ({"done": True, "error": "cannot be read"}, "FAILED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "SUCCEEDED"}, "error": [1]}, "FAILED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "CANCELLED"}, "done": True, "error": {"code": 1}}, "CANCELLED", Outcome.CANCELLED),
        ({"metadata": {"state": "CANCELLING"}, "done": True, "error": {"code": 1}}, "CANCELLED", Outcome.CANCELLED),
        ({"done": True, "error": {"code": "1"}}, "CANCELLED", Outcome.CANCELLED),
        ({"metadata": {"state": "CANCELLED"}, "done": True, "error": {"code": 3}}, "FAILED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "CANCELLED"}, "error": {"code": 3}}, "FAILED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "CANCELLED"}, "done": False, "error": {"code": 13}}, "FAILED", Outcome.FINISHED_FIRST),
        ({"metadata": {"state": "CANCELLED"}, "error": {"code": 1}}, "CANCELLED", Outcome.CANCELLED),
        ({"metadata": {"state": "CANCELLED"}}, "CANCELLED", Outcome.CANCELLED),
        ({"metadata": {"state": "CANCELLED"}, "done": True}, "CANCELLED", Outcome.CANCELLED),
        ({"metadata": {"state": "CANCELLING"}, "error": {"code": 3}}, "CANCELLING", None),
        ({"metadata": {"state": 5}, "done": 1}, "STATE_UNSPECIFIED", None),
    ],
)
def test_the_state_is_what_was_observed(payload: Mapping[str, Any], state: str, outcome: Outcome | None) -> None:
    operation = Operation.from_payload({"name": A, **payload})
    assert operation.state == state
    assert operation.outcome is outcome
    assert operation.confirmed is (outcome is not None)


def test_every_field() -> None:
    operation = Operation.from_payload(
        {
            "name": A,
            "metadata": {
                "@type": "type.googleapis.com/google.earthengine.v1alpha.OperationMetadata",
                "state": "FAILED",
                "description": "field boundaries",
                "type": "EXPORT_IMAGE",
                "progress": 0.25,
                "batchEecuUsageSeconds": "12.5",
                "attempt": "2",
                "destinationUris": ["https://drive.google.com/", 5, None],
                "createTime": "2026-01-02T03:04:05.123456789Z",
                "startTime": "2026-01-02T03:04:06Z",
                "endTime": "2026-01-02T03:05:06.5Z",
            },
            "done": True,
            "error": {"code": 3, "message": "Too many pixels."},
        }
    )
    assert operation == Operation(
        name=A,
        state="FAILED",
        error_code=3,
        error_message="Too many pixels.",
        description="field boundaries",
        type="EXPORT_IMAGE",
        progress=0.25,
        eecu_seconds=12.5,
        attempt=2,
        destination_uris=("https://drive.google.com/",),
        create_time=datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC),
        start_time=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
        end_time=datetime(2026, 1, 2, 3, 5, 6, 500000, tzinfo=UTC),
    )


def test_text_can_be_written_and_stored() -> None:
    payload = {"error": {"message": "a\0b\ud800c"}, "metadata": {"description": "\udfff", "destinationUris": ["\0"]}}
    operation = Operation.from_payload(payload)
    assert (operation.error_message, operation.description) == ("a\ufffdb\ufffdc", "\ufffd")
    assert operation.destination_uris == ("\ufffd",)


@pytest.mark.parametrize("payload", [None, [], "x", 5])
def test_of_what_is_no_object_nothing_is_known(payload: Any) -> None:
    assert Operation.from_payload(payload, name=A) == Operation(A)


def test_the_name_asked_for_wins() -> None:
    assert Operation.from_payload({"name": "projects/123/operations/A"}, name=A).name == A
    assert Operation.from_payload({}).name == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("startTime", "1970-01-01T00:00:00Z"),
        ("startTime", "2026-01-02T03:04:06"),
        ("startTime", "yesterday"),
        ("startTime", 5),
        ("startTime", "0001-01-01T00:00:00+23:59"),
        ("progress", "half"),
        ("progress", True),
        ("progress", "NaN"),
        ("progress", float("inf")),
        ("progress", 10**400),
        ("progress", [1]),
        ("attempt", 1.5),
        ("attempt", "NaN"),
        ("attempt", 2**31),
        ("attempt", 1e300),
        ("batchEecuUsageSeconds", {}),
        ("description", 5),
        ("type", None),
    ],
)
def test_a_field_that_cannot_be_read_is_none(field: str, value: Any) -> None:
    operation = Operation.from_payload({"metadata": {field: value}})
    assert operation == Operation("")


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (Operation(A), "STATE_UNSPECIFIED"),
        (Operation(A, "RUNNING", progress=0.256), "RUNNING, 26%"),
        (Operation(A, "RUNNING", progress=0.0, eecu_seconds=1.25), "RUNNING, 0%, 1.2 EECU-seconds"),
        (Operation(A, "SUCCEEDED", progress=1.0, eecu_seconds=9.0), "SUCCEEDED, 9.0 EECU-seconds"),
        (Operation(A, "FAILED", error_message="Too many pixels."), "FAILED, Too many pixels."),
    ],
)
def test_progress_words(operation: Operation, words: str) -> None:
    assert operation.progress_words == words


def api_error(cls: Any, **more: Any) -> EarthEngineError:
    return cls("Why.", **{"http_status": 400, "status": "UNKNOWN", "operation_name": A, **more})  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "outcome", "code", "message"),
    [
        (api_error(NotFoundError, http_status=404, status="NOT_FOUND"), "not_found", 5, "HTTP 404 NOT_FOUND: Why."),
        (
            api_error(PermissionDeniedError, http_status=403, status="PERMISSION_DENIED"),
            "permission_denied",
            7,
            "HTTP 403 PERMISSION_DENIED: Why.",
        ),
        (ProjectNotAllowedError("No.", value=A), "permission_denied", 7, "No."),
        (
            api_error(UnimplementedError, http_status=501, status="UNIMPLEMENTED"),
            "unsupported",
            12,
            "HTTP 501 UNIMPLEMENTED: Why.",
        ),
        (
            api_error(FailedPreconditionError, status="FAILED_PRECONDITION"),
            "error",
            9,
            "HTTP 400 FAILED_PRECONDITION: Why.",
        ),
        (ConnectionFailedError("No answer."), "error", 14, "No answer."),
        (InvalidOperationNameError("Bad.", value="x"), "error", 3, "Bad."),
    ],
)
def test_outcome_of_an_error(error: EarthEngineError, outcome: str, code: int, message: str) -> None:
    result = OperationResult.from_error(A, error, state="RUNNING")
    assert result == OperationResult(A, Outcome(outcome), "RUNNING", code, message)


@pytest.mark.parametrize(
    ("operation", "outcome"),
    [
        (Operation(A, "CANCELLED", error_code=1, error_message="Cancelled."), Outcome.CANCELLED),
        (Operation(A, "SUCCEEDED"), Outcome.FINISHED_FIRST),
        (Operation(A, "FAILED", error_code=3, error_message="x"), Outcome.FINISHED_FIRST),
        (Operation(A, "CANCELLING"), Outcome.CANCEL_REQUESTED),
        (Operation(A, "RUNNING"), Outcome.CANCEL_REQUESTED),
    ],
)
def test_outcome_of_an_operation(operation: Operation, outcome: Outcome) -> None:
    result = OperationResult.from_operation(operation, otherwise=Outcome.CANCEL_REQUESTED)
    assert result == OperationResult(A, outcome, operation.state, operation.error_code, operation.error_message)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (OperationResult("A", Outcome.CANCEL_REQUESTED), "A: cancel requested"),
        (OperationResult("A", Outcome.FINISHED_FIRST, "SUCCEEDED"), "A: finished first (SUCCEEDED)"),
        (OperationResult("A", Outcome.NOT_FOUND, None, 5, "Gone."), "A: not found: Gone."),
        (
            OperationResult("A", Outcome.NOT_CONFIRMED, "RUNNING", None, "Late."),
            "A: not confirmed (RUNNING): Late.",
        ),
    ],
)
def test_a_result_in_words(result: OperationResult, text: str) -> None:
    assert str(result) == text


REPORT = Report(
    (
        OperationResult("A", Outcome.CANCELLED, OperationState.CANCELLED, 1, "Cancelled."),
        OperationResult("B", Outcome.ERROR, error_code=14, error_message="x"),
        OperationResult("C", Outcome.CANCELLED, "CANCELLED", 1),
    )
)


def test_a_report_counts_and_selects() -> None:
    assert REPORT.counts == {"cancelled": 2, "error": 1}
    assert REPORT.summary == "3 operations: 2 cancelled, 1 error"
    assert [result.name for result in REPORT.having(Outcome.CANCELLED)] == ["A", "C"]
    assert [result.name for result in REPORT.having(Outcome.ERROR, Outcome.NOT_FOUND)] == ["B"]
    assert Report().summary == "0 operations"
    assert Report(REPORT.results[:1]).summary == "1 operation: 1 cancelled"


def test_a_report_goes_through_json_and_back() -> None:
    data = json.loads(json.dumps(REPORT.to_dict()))
    assert Report.from_dict(data) == REPORT
    assert type(REPORT.to_dict()["operations"][0]["state"]) is str
    assert parse_operation_names(data, project_id="one").names == [
        "projects/one/operations/A",
        "projects/one/operations/C",
    ]


def test_a_report_is_updated_in_place_and_keeps_its_order() -> None:
    newer = [OperationResult("D", Outcome.NOT_FOUND), OperationResult("B", Outcome.CANCELLED)]
    updated = REPORT.updated(newer)
    assert [(result.name, result.outcome.value) for result in updated.results] == [
        ("A", "cancelled"),
        ("B", "cancelled"),
        ("C", "cancelled"),
        ("D", "not_found"),
    ]


REQUESTED = OperationResult(A, Outcome.CANCEL_REQUESTED, "CANCELLING")


@pytest.mark.parametrize(
    ("newer", "outcome", "state", "message"),
    [
        (("permission_denied", None, 7, "No."), "not_confirmed_in_time", "CANCELLING", "met permission denied: No."),
        (("unsupported", None, 12, "No."), "not_confirmed_in_time", "CANCELLING", "met unsupported: No."),
        (("error", "RUNNING", 14, None), "not_confirmed_in_time", "RUNNING", "met error"),
        (
            ("not_found", None, 5, "Gone."),
            "not_found",
            "CANCELLING",
            "cancellation was requested, and the operation is no longer there: Gone.",
        ),
        (("not_confirmed_in_time", None, None, None), "not_confirmed_in_time", "CANCELLING", None),
        (("cancelled", "CANCELLED", 1, "Done."), "cancelled", "CANCELLED", "Done."),
        (("finished_first", "SUCCEEDED", None, None), "finished_first", "SUCCEEDED", None),
    ],
)
def test_an_accepted_request_stays_accepted(
    newer: tuple[Any, ...], outcome: str, state: str, message: str | None
) -> None:
    result = merged(REQUESTED, OperationResult(A, Outcome(newer[0]), *newer[1:]))
    assert (result.outcome.value, result.state, result.error_code) == (outcome, state, newer[2])
    if message is None or message == newer[3]:
        assert result.error_message == message
    else:
        assert str(result.error_message).startswith("cancellation was requested, ")
        assert str(result.error_message).endswith(message)
    assert Report((REQUESTED,)).updated([result]).results[0].outcome is result.outcome


@pytest.mark.parametrize("older", [outcome for outcome in Outcome if outcome is not Outcome.CANCEL_REQUESTED])
def test_what_was_learned_after_replaces_anything_else(older: Outcome) -> None:
    newer = OperationResult(A, Outcome.PERMISSION_DENIED, None, 7, "No.")
    assert merged(OperationResult(A, older, "RUNNING"), newer) is newer


def test_a_listing_is_cut() -> None:
    results = [OperationResult(str(number), Outcome.CANCELLED) for number in range(5)]
    assert listing(results, most=5).count("\n") == 4
    assert listing(results, most=2) == "- 0: cancelled\n- 1: cancelled\n- and 3 more, all in the report"
    assert listing([]) == ""
