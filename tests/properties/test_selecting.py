from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_provider_eeops.api.models import Operation, OperationState
from airflow_provider_eeops.api.selecting import Criteria, OperationSelector, is_template, select
from airflow_provider_eeops.exceptions import InvalidInputError
from tests.properties.anything import ANYTHING, HOSTILE, JSON, TEXT, cyclic, written
from tests.support.attempt import attempt

NOW = 1_800_000_000.0
OPEN = ("PENDING", "RUNNING")

MOMENTS = st.datetimes(
    min_value=datetime(2026, 11, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(2027, 3, 1),  # noqa: DTZ001 - the same
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))]),
)
WORDS = st.sampled_from(["nightly-1", "nightly-2", "hourly", "", "a*b", "n", "[x]"])
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "project_id": st.sampled_from(["one", "my-project"]),
    "states": st.lists(st.sampled_from(["PENDING", "RUNNING", "CANCELLING"]), min_size=1, max_size=3),
    "types": st.lists(st.sampled_from(["EXPORT_IMAGE", "INGEST"]), min_size=1, max_size=2),
    "description": st.sampled_from(
        ["nightly-*", "n*", "hourly", "?ourly", "[nh]*1", "a[*]b", "[[]x]", "[!n]*", "*-[12]"]
    ),
    "created_before": st.one_of(MOMENTS, MOMENTS.map(lambda moment: moment.isoformat())),
    "created_after": st.one_of(MOMENTS, MOMENTS.map(lambda moment: moment.isoformat())),
    "older_than": st.one_of(st.floats(1, 1e7), st.floats(1, 1e7).map(lambda seconds: timedelta(seconds=seconds))),
    "min_eecu_seconds": st.one_of(st.floats(0.1, 100), st.just("5")),
}
# Of all at once hardly anything would be taken.
SELECTORS = st.lists(st.sampled_from(sorted(LIKELY)), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: LIKELY[name] for name in names})
)
ODD = st.fixed_dictionaries(
    {}, optional={name: st.one_of(likely, JSON, TEXT, HOSTILE) for name, likely in LIKELY.items()}
)
OPERATIONS = st.lists(
    st.builds(
        Operation,
        name=st.integers(0, 5).map(lambda number: f"projects/one/operations/{number}"),
        state=st.sampled_from([*OPEN, *OPEN, *(state.value for state in OperationState), "NEW"]),
        description=st.one_of(st.none(), WORDS),
        type=st.sampled_from([None, "EXPORT_IMAGE", "INGEST", "OTHER"]),
        eecu_seconds=st.one_of(st.none(), st.floats(0, 100)),
        create_time=st.one_of(st.none(), MOMENTS),
    ),
    max_size=8,
)


def wanted(operation: Operation, asked: Mapping[str, Any]) -> bool:
    """What a selector means, written apart from the code and in the simplest words."""
    checks = [operation.state in asked.get("states", OPEN)]
    if "types" in asked:
        checks.append(operation.type in asked["types"])
    if "description" in asked:
        checks.append(operation.description is not None and glob(operation.description, asked["description"]))
    if "min_eecu_seconds" in asked:
        checks.append((operation.eecu_seconds or 0) >= float(asked["min_eecu_seconds"]))
    created = operation.create_time
    for name in ("created_before", "created_after"):
        if name in asked:
            limit = asked[name] if isinstance(asked[name], datetime) else datetime.fromisoformat(asked[name])
            checks.append(created is not None and (created < limit if name == "created_before" else created >= limit))
    if "older_than" in asked:
        span = asked["older_than"]
        seconds = span.total_seconds() if isinstance(span, timedelta) else span
        checks.append(created is not None and created.timestamp() < NOW - seconds)
    return all(checks)


def glob(text: str, pattern: str) -> bool:
    """A glob, read from left to right."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(glob(text[start:], pattern[1:]) for start in range(len(text) + 1))
    end = pattern.find("]", 3 if pattern[1:2] == "!" else 2)
    if pattern[0] == "[" and end > 0:
        negated = pattern[1] == "!"
        members = pattern[2 if negated else 1 : end]
        return bool(text) and (text[0] in members) is not negated and glob(text[1:], pattern[end + 1 :])
    return bool(text) and pattern[0] in {"?", text[0]} and glob(text[1:], pattern[1:])


def narrows(asked: Mapping[str, Any]) -> bool:
    return bool(asked.keys() - {"project_id", "states"}) or not set(OPEN) <= set(asked.get("states", OPEN))


def criteria_of(value: Any) -> tuple[Criteria, InvalidInputError | None]:
    return attempt(lambda: OperationSelector.of(value).criteria(), error=InvalidInputError)


@given(asked=SELECTORS, operations=OPERATIONS, as_text=st.sampled_from([None, json.dumps, repr]))
def test_a_selector_takes_exactly_what_it_says(
    asked: dict[str, Any], operations: list[Operation], as_text: Any
) -> None:
    written, unwritable = attempt(as_text, asked, error=TypeError) if as_text else (asked, None)
    assume(unwritable is None)
    criteria, error = criteria_of(written)
    if error is None:
        assert narrows(asked)
        selection = select(operations, criteria, now=NOW)
        latest = {operation.name: operation for operation in operations}  # a listing may show one twice
        assert {operation.name for operation in selection} == {
            name for name, operation in latest.items() if wanted(operation, asked)
        }
        assert selection.looked_at == len(operations)
        str(selection).encode()
        selection.lines().encode()


@pytest.mark.parametrize("name", LIKELY)
@given(data=st.data(), operations=OPERATIONS)
def test_each_parameter_takes_exactly_what_it_says(name: str, data: st.DataObject, operations: list[Operation]) -> None:
    narrow = {"min_eecu_seconds": 1.0} if name in {"project_id", "states"} else {}  # these two alone narrow nothing
    asked = narrow | {name: data.draw(LIKELY[name])}
    criteria = OperationSelector.of(asked).criteria()
    latest = {operation.name: operation for operation in operations}
    taken = {operation.name for operation in select(operations, criteria, now=NOW)}
    assert taken == {each for each, operation in latest.items() if wanted(operation, asked)}


@given(asked=SELECTORS)
def test_a_selector_that_narrows_is_taken(asked: dict[str, Any]) -> None:
    _, error = criteria_of(asked)
    contradicts = "created_before" in asked and ("older_than" in asked or "created_after" in asked)
    if not contradicts:
        assert (error is None) is narrows(asked), error


@given(value=st.one_of(ODD, ANYTHING, TEXT, ODD.map(lambda value: written(repr, value))))
@example({10**5000: 1})
@example({"types": [[[]]] * 3})
@example({"description": "\ud800*"})
@example({"created_before": "9999-12-31T23:59:59-23:59"})
@example({"older_than": 10**5000})
def test_any_selector_is_read_or_refused_and_never_takes_all(value: Any) -> None:
    criteria, error = criteria_of(value)
    if error is not None:
        assert str(error)
        assert len(str(error)) < 2000
        return
    assert str(criteria)
    assert criteria.states is not None
    assert set(criteria.states) <= {*OPEN, "CANCELLING"}
    asked = {name for name in LIKELY if getattr(criteria, name, None) is not None}
    assert asked - {"project_id", "states"} or not set(OPEN) <= set(criteria.states)
    assert isinstance(criteria.matches(Operation("x", state="RUNNING", description="d"), now=NOW), bool)
    if criteria.description is not None:
        assert criteria.description.strip(" *?")


def _deep(levels: int) -> list[Any]:
    value: list[Any] = ["{{ ds }}"]
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [*cyclic(), _deep(5000), {"types": _deep(5000)}], ids=range(5))
def test_a_selector_nested_without_end_is_refused(value: Any) -> None:
    for given_ in (value, {"types": value}, {"states": value}):
        with pytest.raises(InvalidInputError):
            OperationSelector.of(given_).criteria()


@given(value=st.one_of(ANYTHING, HOSTILE))
def test_whatever_it_is_it_is_a_template_or_not(value: Any) -> None:
    assert is_template(value) in {True, False}
