from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_eeops.api.models import (
    TERMINAL_STATES,
    Operation,
    OperationResult,
    OperationState,
    Outcome,
    Report,
    listing,
    merged,
)
from airflow_provider_eeops.api.watching import Watch
from tests.properties.anything import JSON, NAMES, TEXT

A = "projects/one/operations/A"
TERMINAL = {"SUCCEEDED", "CANCELLED", "FAILED"}

STATES = st.sampled_from([state.value for state in OperationState])
ERRORS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {}, optional={"code": st.sampled_from([0, 1, 1.0, "1", True, 3, 13, 2**31, 1e300, None]), "message": JSON}
    ),
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "state": st.one_of(JSON, STATES),
        "progress": JSON,
        "batchEecuUsageSeconds": JSON,
        "attempt": JSON,
        "destinationUris": JSON,
        "createTime": st.one_of(JSON, st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")),
        "startTime": st.one_of(JSON, st.just("1970-01-01T00:00:00Z")),
        "endTime": JSON,
        "description": JSON,
    },
)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON,
        "metadata": st.one_of(JSON, METADATA, METADATA),
        "done": st.one_of(st.booleans(), st.none(), st.sampled_from([1, 0, "true", [True]])),
        "error": st.one_of(ERRORS, st.just({"code": 1})),
        "response": JSON,
    },
)
RESULTS = st.builds(
    OperationResult,
    name=st.one_of(NAMES, TEXT),
    outcome=st.sampled_from(Outcome),
    state=st.one_of(st.none(), STATES, TEXT),
    error_code=st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    error_message=st.one_of(st.none(), TEXT),
)


def is_terminal(payload: Mapping[str, Any]) -> bool:
    """The rule of the API, written apart from the code: done is true, or the state is one of three."""
    metadata = payload.get("metadata")
    state = metadata.get("state") if isinstance(metadata, dict) else None
    return payload.get("done") is True or (isinstance(state, str) and state in TERMINAL)


def may_be_cancelled(payload: Mapping[str, Any]) -> bool:
    """Only an error of code 1 says so, or the state where there is no error at all."""
    error = payload.get("error")
    if error:
        return isinstance(error, dict) and _is_one(error.get("code"))
    metadata = payload.get("metadata")
    return isinstance(metadata, dict) and metadata.get("state") == "CANCELLED"


def _is_one(code: Any) -> bool:
    """Numbers may be text, as Google's JSON has those of 64 bits."""
    try:
        return isinstance(code, (int, float, str)) and not isinstance(code, bool) and float(code) == 1
    except (ValueError, OverflowError):
        return False


@given(payload=st.one_of(PAYLOADS, JSON))
@example({"done": True, "error": "quota"})
@example({"error": {"code": 1}})
@example({"done": True, "error": {"code": True}})
@example({"done": True, "error": {"code": 3}, "metadata": {"state": "CANCELLED"}})
def test_any_payload_is_read_for_what_it_says(payload: Any) -> None:
    operation = Operation.from_payload(payload, name=A)
    said = payload if isinstance(payload, dict) else {}
    assert operation.name == A
    assert operation.confirmed is is_terminal(said)
    assert operation.confirmed is (operation.state in TERMINAL_STATES)
    assert (operation.outcome is Outcome.CANCELLED) is (is_terminal(said) and may_be_cancelled(said))
    assert (operation.outcome is None) is not operation.confirmed
    if operation.state == OperationState.SUCCEEDED:
        assert not said.get("error")
    assert Operation.from_payload(payload, name=A) == operation


@given(payload=st.one_of(PAYLOADS, JSON))
@example({"done": True, "error": {"code": 2**70, "message": "a\0b\ud800"}, "metadata": {"description": "\udfff\0"}})
@example({"metadata": {"attempt": 1e300, "state": "\ud800", "destinationUris": ["\0"]}})
def test_what_was_read_can_be_stored_and_shown_anywhere(payload: Any) -> None:
    operation = Operation.from_payload(payload, name=A)
    result = OperationResult.from_operation(operation, otherwise=Outcome.NOT_CONFIRMED)
    report = Report((result,))
    stored = json.dumps(report.to_dict(), allow_nan=False)
    assert Report.from_dict(json.loads(stored)) == report
    assert pickle.loads(pickle.dumps(operation)) == operation
    for text in (operation.progress_words, str(result), listing([result]), report.summary, *operation.destination_uris):
        text.encode()  # a log is UTF-8
        assert "\0" not in text  # PostgreSQL refuses it
    for number in (operation.error_code, operation.attempt):
        assert number is None or -(2**31) <= number < 2**31  # both are of 32 bits; a message to Airflow takes 64
    assert operation.description is None or operation.description.encode() is not None


@given(before=PAYLOADS, now=PAYLOADS)
def test_any_payload_can_be_watched(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    watch = Watch((A,))
    for payload in (before, now):
        operation = Operation.from_payload(payload, name=A)
        watch.learn({A: operation}, {})
        assert operation.progress_words.startswith(operation.state)
        assert (A in watch.pending) is not operation.confirmed
    json.dumps(watch.report().to_dict(), allow_nan=False)


@given(results=st.lists(RESULTS, max_size=5))
def test_a_report_survives_xcom(results: list[OperationResult]) -> None:
    report = Report(tuple(results))
    stored = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert Report.from_dict(stored) == report
    assert Report.from_dict(stored).to_dict() == report.to_dict()
    assert sum(report.counts.values()) == len(results)
    assert all(str(Outcome(outcome)) in report.counts for outcome in report.counts)


@given(older=RESULTS, newer=RESULTS)
def test_what_was_learned_after_never_invents_a_cancellation(older: OperationResult, newer: OperationResult) -> None:
    both = merged(older, newer)
    assert (both.outcome is Outcome.CANCELLED) is (newer.outcome is Outcome.CANCELLED)
    assert both.name == newer.name


@given(results=st.lists(RESULTS, max_size=6), newer=st.lists(RESULTS, max_size=6))
def test_an_updated_report_has_each_name_once(results: list[OperationResult], newer: list[OperationResult]) -> None:
    unique = list({result.name: result for result in results}.values())
    updated = Report(tuple(unique)).updated(newer)
    names = [result.name for result in updated.results]
    assert names == list(dict.fromkeys([*(result.name for result in unique), *(result.name for result in newer)]))
