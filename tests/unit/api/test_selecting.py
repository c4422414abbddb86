from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.models import Operation
from airflow_provider_eeops.api.selecting import Criteria, OperationSelector, Selection, is_template, select
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import InvalidInputError, UnexpectedAnswerError

CREATED = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = 3600.0
NOW = CREATED.timestamp() + 24 * HOUR

OPERATION = Operation(
    "projects/one/operations/A",
    state="RUNNING",
    description="nightly-2026",
    type="EXPORT_IMAGE",
    eecu_seconds=7200.0,
    create_time=CREATED,
)


def matches(operation: Operation = OPERATION, *, now: float = NOW, **parameters: Any) -> bool:
    return OperationSelector(**parameters).criteria().matches(operation, now=now)


# What matches


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"states": ["RUNNING"]}, True),
        ({"states": "RUNNING"}, True),
        ({"states": {"PENDING", "CANCELLING"}}, False),
        ({"types": ["EXPORT_IMAGE", "INGEST_TABLE"]}, True),
        ({"types": "EXPORT_IMAGE"}, True),
        ({"types": "INGEST_TABLE"}, False),
        ({"description": "nightly-2026"}, True),
        ({"description": "nightly-*"}, True),
        ({"description": "night?y-20[12]*"}, True),
        ({"description": "nightly"}, False),  # the whole of it, not a part
        ({"description": "ightly-*"}, False),
        ({"description": "Nightly-*"}, False),
        ({"created_before": CREATED}, False),
        ({"created_before": CREATED + timedelta(microseconds=1)}, True),
        ({"created_after": CREATED}, True),
        ({"created_after": CREATED + timedelta(microseconds=1)}, False),
        ({"created_after": "2026-05-01T12:00:00Z"}, True),
        ({"created_after": "2026-05-01 14:00:00.000001+02:00"}, False),
        ({"created_before": datetime(2026, 5, 1, 13, 59, tzinfo=timezone(timedelta(hours=2)))}, False),
        ({"older_than": timedelta(hours=24)}, False),
        ({"older_than": timedelta(hours=24) - timedelta(seconds=1)}, True),
        ({"older_than": 24 * HOUR - 1}, True),
        ({"older_than": 24 * HOUR}, False),
        ({"older_than": "86399.5"}, True),
        ({"older_than": " 86400 "}, False),
        ({"min_eecu_seconds": 7200}, True),
        ({"min_eecu_seconds": 7200.001}, False),
        ({"min_eecu_seconds": "7200.0"}, True),
        ({"min_eecu_seconds": "7201"}, False),
    ],
)
def test_each_criterion(parameters: dict[str, Any], expected: bool) -> None:
    assert matches(**parameters) is expected


GIVEN: dict[str, Any] = {
    "states": ["RUNNING"],
    "types": ["EXPORT_IMAGE"],
    "description": "nightly-*",
    "created_after": CREATED,
    "older_than": HOUR,
    "min_eecu_seconds": 1,
}


@pytest.mark.parametrize(
    "other",
    [
        {"state": "PENDING"},
        {"type": "INGEST_TABLE"},
        {"description": "weekly"},
        {"create_time": CREATED - timedelta(seconds=1)},
        {"create_time": CREATED + timedelta(hours=23, seconds=1)},
        {"eecu_seconds": 0.5},
    ],
)
def test_all_of_it_must_apply(other: dict[str, Any]) -> None:
    assert matches(**GIVEN)
    assert not matches(replace(OPERATION, **other), **GIVEN)


@pytest.mark.parametrize(
    ("parameters", "unknown"),
    [
        ({"types": "EXPORT_IMAGE"}, "type"),
        ({"description": "n*"}, "description"),
        ({"created_before": "2100-01-01T00:00:00Z"}, "create_time"),
        ({"created_after": "2000-01-01T00:00:00Z"}, "create_time"),
        ({"older_than": 0.001}, "create_time"),
        ({"min_eecu_seconds": 0.001}, "eecu_seconds"),
    ],
)
def test_what_an_operation_does_not_show_is_no_reason_to_take_it(parameters: dict[str, Any], unknown: str) -> None:
    without: dict[str, Any] = {unknown: None}
    assert matches(**parameters)
    assert not matches(replace(OPERATION, **without), **parameters)


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED", "CANCELLING", "STATE_UNSPECIFIED", "NEW_STATE"])
def test_by_default_only_what_can_still_be_cancelled(state: str) -> None:
    assert not matches(replace(OPERATION, state=state), description="nightly-*")
    assert matches(replace(OPERATION, state="PENDING"), description="nightly-*")


def test_an_operation_that_is_done_whatever_its_state_says_is_not_taken() -> None:
    payload = {"name": "projects/one/operations/A", "done": True, "metadata": {"state": "RUNNING", "description": "n"}}
    assert not matches(Operation.from_payload(payload), description="n")
    assert matches(Operation.from_payload(payload | {"done": False}), description="n")


def test_an_operation_created_after_now_is_not_old() -> None:
    assert not matches(now=CREATED.timestamp() - HOUR, older_than=1)


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "the selector narrows nothing"),
        ({"project_id": "one"}, "other people's too. Give types, description, created_before"),
        ({"states": ["RUNNING", "PENDING"]}, "narrows nothing"),
        ({"states": ["RUNNING", "PENDING", "CANCELLING"]}, "narrows nothing"),
        ({"project_id": "one/two", "types": "A"}, "'one/two' is not a project id. Pass the id alone"),
        ({"project_id": 5, "types": "A"}, "5 is not a project id"),
        ({"states": []}, "states is []: it must name at least one, such as ['PENDING']"),
        ({"states": ["RUNNING", ""]}, "must name at least one"),
        ({"states": ["SUCCEEDED"]}, "states names 'SUCCEEDED': such operations have ended; give any of 'PENDING', 'RU"),
        ({"states": {"FAILED", "RUNNING"}}, "states names 'FAILED': such operations have ended"),
        ({"states": ["READY"]}, "states names 'READY': no such state; give any of 'PENDING', 'RUNNING', 'CANCELLING'"),
        ({"states": "STATE_UNSPECIFIED"}, "no such state"),
        ({"states": "running"}, "states names 'running'"),
        ({"states": 5}, "states is 5: it must be a list, such as ['PENDING']"),
        ({"states": {"RUNNING": 1}}, "it must be a list"),
        ({"states": "['RUNNING'"}, "states is \"['RUNNING'\": it is neither JSON nor a Python literal"),
        ({"types": []}, "types is []: it must name at least one, such as ['EXPORT_IMAGE']"),
        ({"types": ()}, "types is (): "),
        ({"types": ""}, "types is ''"),
        ({"types": [5]}, "types is [5]"),
        ({"types": b"EXPORT_IMAGE"}, "types is b'EXPORT_IMAGE': it must be a list"),
        ({"types": ["export_image"]}, "types names 'export_image': upper case is needed, such as EXPORT_IMAGE"),
        ({"types": "EXPORT_IMAGE, EXPORT_TILES"}, "types names 'EXPORT_IMAGE, EXPORT_TILES'"),
        ({"description": "*"}, "description is '*', which selects nothing or all: give a prefix, or no description"),
        ({"description": "?*", "older_than": 5}, "description is '?*'"),
        ({"description": " "}, "description is ' '"),
        ({"description": ""}, "description is ''"),
        ({"description": 5}, "description is 5: it must be text, such as 'nightly-*'"),
        ({"description": ["a"]}, "description is ['a']: it must be text"),
        ({"created_before": datetime(2026, 1, 1)}, "has no time zone: append Z to text for UTC"),  # noqa: DTZ001
        ({"created_after": "2026-01-01"}, "created_after is '2026-01-01', which has no time zone"),
        ({"created_after": "yesterday"}, "created_after is 'yesterday': it must be a datetime, or ISO 8601 text such"),
        ({"created_after": date(2026, 1, 1)}, "created_after is datetime.date(2026, 1, 1): it must be a datetime"),
        ({"created_after": 1750000000}, "created_after is 1750000000"),
        (
            {"created_before": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))},
            "no such moment in UTC",
        ),
        ({"created_after": "2026-02-01T00:00:00Z", "created_before": "2026-01-01T00:00:00Z"}, "nothing is between"),
        ({"created_after": CREATED, "created_before": CREATED}, "nothing is between"),
        ({"older_than": 5, "created_before": CREATED}, "older_than and created_before are both given, and say the sa"),
        ({"older_than": 0}, "older_than is 0: it must be a timedelta, or seconds as a number, greater than 0"),
        ({"older_than": timedelta(0)}, "older_than is datetime.timedelta(0)"),
        ({"older_than": timedelta(days=-1)}, "older_than is datetime.timedelta(days=-1)"),
        ({"older_than": "1 day"}, "older_than is '1 day': it must be a timedelta, or seconds"),
        ({"older_than": "nan"}, "older_than is 'nan'"),
        ({"older_than": True}, "older_than is True"),
        ({"older_than": 10**5000}, "older_than is a value of type int"),
        ({"min_eecu_seconds": 0}, "min_eecu_seconds is 0: it must be a number greater than 0"),
        ({"min_eecu_seconds": -1}, "min_eecu_seconds is -1"),
        ({"min_eecu_seconds": "many"}, "min_eecu_seconds is 'many'"),
        ({"min_eecu_seconds": "1e999"}, "min_eecu_seconds is '1e999'"),
        ({"min_eecu_seconds": timedelta(hours=1)}, "min_eecu_seconds is datetime.timedelta(seconds=3600)"),
    ],
)
def test_a_wrong_value_is_named_when_the_selector_is_made(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        OperationSelector(**parameters)
    assert isinstance(caught.value, InvalidInputError)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        OperationSelector.of(parameters)


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(InvalidInputError) as caught:
        OperationSelector(types="x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "selector is None: it must be an OperationSelector, or a mapping of its parameters"),
        (["nightly-*"], "selector is ['nightly-*']"),
        ("nightly-*", "selector is 'nightly-*': it is neither JSON nor a Python literal"),
        ("", "selector is ''"),
        ("None", "selector is 'None': it must be an OperationSelector"),
        ({"descripton": "n"}, "did you mean 'description'?"),
        ({"stats": ["RUNNING"]}, "selector has 'stats': it may have project_id, states, types, description"),
        ({5: "n"}, "selector has 5"),
        ({"_given": []}, "selector has '_given'"),
        ({"description": "n", "older_than": None}, "older_than is None, or was rendered to None: leave it out"),
        ('{"description": null}', "description is None"),
    ],
)
def test_what_is_no_selector_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        OperationSelector.of(value)


# The shapes of a selector


@pytest.mark.parametrize("shape", ["object", "mapping", "json", "literal"])
def test_every_shape_asks_for_the_same(shape: str) -> None:
    given: dict[str, Any] = {"project_id": "one", "types": ["EXPORT_IMAGE"], "older_than": 5}
    value = {"object": OperationSelector(**given), "mapping": given, "json": json.dumps(given), "literal": str(given)}
    expected = Criteria(project_id="one", types=("EXPORT_IMAGE",), older_than=5)
    assert OperationSelector.of(value[shape]).criteria() == expected


def test_a_mapping_of_its_parameters_makes_the_same_selector() -> None:
    selector = OperationSelector(**GIVEN)
    assert OperationSelector(**selector.parameters()) == selector
    assert selector.parameters() == GIVEN
    assert pickle.loads(pickle.dumps(selector)).criteria() == selector.criteria()


def test_what_it_shows_is_the_same_in_every_process() -> None:
    code = """
from airflow_provider_eeops.api.selecting import OperationSelector
print(OperationSelector(states={"RUNNING", "CANCELLING"}, types=frozenset({"B", "A", "D", "C"})))
"""
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    (text,) = shown
    assert text.startswith("OperationSelector(project_id=None, states=('CANCELLING', 'RUNNING'), types=('A', 'B', 'C'")


# Templates


@pytest.mark.parametrize(
    "parameters",
    [
        {"project_id": "{{ params.project }}", "types": "EXPORT_IMAGE"},
        {"states": "{{ params.states }}"},
        {"states": ["{{ params.state }}"]},
        {"types": {"{% if x %}A{% endif %}"}},
        {"description": "{{ params.prefix }}*"},
        {"created_before": "{{ data_interval_start }}", "created_after": "{# none #}"},
        {"older_than": "{{ params.hours * 3600 }}"},
        {"min_eecu_seconds": "{{ params.eecu }}"},
    ],
)
def test_a_template_is_not_judged_before_it_is_rendered(parameters: dict[str, Any]) -> None:
    selector = OperationSelector(**parameters)
    with pytest.raises(InvalidInputError, match="a template that was not rendered"):
        selector.criteria()


def test_what_is_no_template_is_judged_beside_one() -> None:
    with pytest.raises(InvalidInputError, match="older_than is 0"):
        OperationSelector(description="{{ params.prefix }}*", older_than=0)
    with pytest.raises(InvalidInputError, match="both given"):
        OperationSelector(created_before="{{ ts }}", older_than=1)
    with pytest.raises(InvalidInputError, match="narrows nothing"):
        OperationSelector(project_id="{{ params.project }}")


def test_a_template_that_rendered_to_none_does_not_widen_the_selection() -> None:
    selector = OperationSelector(description="{{ params.prefix }}", older_than=5)
    selector.description = None  # as Airflow renders with render_template_as_native_obj
    with pytest.raises(InvalidInputError, match="description is None, or was rendered to None"):
        selector.criteria()


def test_a_template_that_rendered_to_what_narrows_nothing_is_refused() -> None:
    selector = OperationSelector(states="{{ params.states }}")
    selector.states = "['PENDING', 'RUNNING']"
    with pytest.raises(InvalidInputError, match="narrows nothing"):
        selector.criteria()
    selector.states = "['RUNNING']"
    assert selector.criteria() == Criteria(states=("RUNNING",))


class _Resolvable:
    def resolve(self, context: object) -> object: ...


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{ x }}", True),
        ("{% x %}", True),
        ("{x}", False),
        (["a", ("{{ x }}",)], True),
        ({"a": {"b": "{{ x }}"}}, True),
        (_Resolvable(), True),
        ({"a": [_Resolvable()]}, True),
        (None, False),
        (5, False),
        ({"a", "b"}, False),
        (CREATED, False),
        (timedelta(1), False),
    ],
)
def test_is_template(value: Any, expected: bool) -> None:
    assert is_template(value) is expected


# In words


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (
            {"description": "nightly-*", "older_than": timedelta(days=1)},
            "PENDING or RUNNING, description 'nightly-*', older than 1 day",
        ),
        ({"states": ["RUNNING"], "min_eecu_seconds": 360000}, "RUNNING, at least 360000 EECU-seconds"),
        ({"types": ["A", "B"]}, "PENDING or RUNNING, A or B"),
        (
            {"created_after": "2026-01-01T00:00:00Z"},
            "PENDING or RUNNING, created at or after 2026-01-01T00:00:00+00:00",
        ),
        (
            {"created_before": "2026-01-02T00:00:00+01:00"},
            "PENDING or RUNNING, created before 2026-01-01T23:00:00+00:00",
        ),
        ({"older_than": 129600}, "PENDING or RUNNING, older than 1.5 days"),
        ({"older_than": 100000}, "PENDING or RUNNING, older than 100000 seconds"),
        ({"older_than": 7200}, "PENDING or RUNNING, older than 2 hours"),
        ({"older_than": 1}, "PENDING or RUNNING, older than 1 second"),
    ],
)
def test_criteria_in_words(parameters: dict[str, Any], words: str) -> None:
    assert str(OperationSelector(**parameters).criteria()) == words


def test_a_selection_in_words() -> None:
    criteria = Criteria(project_id="one", types=("EXPORT_IMAGE",))
    names = [f"projects/one/operations/{letter}" for letter in "ABC"]
    bare = Operation(names[1], state="PENDING", type="EXPORT_IMAGE")
    odd = replace(OPERATION, name=names[2], description="a\nb" + "c" * 200, eecu_seconds=None)
    selection = select([OPERATION, bare, odd], criteria, now=NOW + 1234)
    first, second, third = selection.lines().splitlines()
    assert first == f"- {names[0]}: RUNNING, 'nightly-2026', 7200.0 EECU-seconds, 1 day old"
    assert second == f"- {names[1]}: PENDING, no description"
    assert third.startswith(f"- {names[2]}: RUNNING, 'a\\nbccc")
    assert len(third) < 150
    assert selection.lines(most=1).splitlines() == [first, "- and 2 more, all in the report"]
    assert str(selection) == "3 of the 3 operations of project one selected (PENDING or RUNNING, EXPORT_IMAGE)."
    none = select([], Criteria(types=("A",)), now=NOW)
    assert (str(none), none.lines()) == ("none of the 0 operations selected (PENDING or RUNNING, A).", "")


# From a listing


def test_an_operation_shown_twice_is_taken_once_as_it_was_shown_last() -> None:
    names = [f"projects/one/operations/{letter}" for letter in "ABC"]
    first, second, third = (replace(OPERATION, name=name) for name in names)
    ended = replace(second, state="SUCCEEDED")
    progressed = replace(first, eecu_seconds=9000.0)
    criteria = Criteria(types=("EXPORT_IMAGE",))
    selection = select([first, second, third, ended, progressed], criteria, now=NOW)
    assert list(selection) == [progressed, third]
    assert (selection.looked_at, len(selection)) == (5, 2)


def test_only_what_matches_is_kept() -> None:
    kept: list[Operation] = []

    def listing() -> Iterator[Operation]:
        for number in range(1000):
            yield replace(OPERATION, name=f"projects/one/operations/{number}", type="A" if number % 100 else "B")
            kept.append(OPERATION)

    selection = select(listing(), Criteria(types=("B",)), now=NOW)
    assert isinstance(selection, Selection)
    assert [operation.name.rsplit("/", 1)[1] for operation in selection] == [str(n) for n in range(0, 1000, 100)]
    assert selection.looked_at == len(kept) == 1000


def test_over_the_pages_of_a_server(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    mine = [emulator.add_operation(description=f"mine-{n}") for n in range(7)]
    for n in range(5):
        emulator.add_operation(description=f"yours-{n}")
    emulator.add_operation(description="mine-done", finished=True)
    emulator.add_operation(description="mine-elsewhere", project="two")
    criteria = OperationSelector(description="mine-*").criteria()
    selection = select(client.list_operations("one", page_size=3), criteria, now=client.clock.time())
    assert {operation.name for operation in selection} == set(mine)
    assert selection.looked_at == 13
    assert emulator.count("list") == 5


def test_a_listing_that_repeats_a_page_selects_nothing(client: EarthEngineOperationsClient, emulator: Emulator) -> None:
    name = emulator.add_operation(description="mine")
    page = json.dumps({"operations": [emulator.operation(name)], "nextPageToken": "again"}).encode()
    emulator.add_fault(Fault("list", body=page, times=None))
    with pytest.raises(UnexpectedAnswerError, match="the server repeats a page"):
        select(client.list_operations("one"), Criteria(description="mine"), now=client.clock.time())


def test_a_selector_that_holds_itself_is_refused() -> None:
    held: list[Any] = []
    held.append(held)
    for value in (held, {"types": held}, {10**5000: 1}):
        with pytest.raises(InvalidInputError, match=r"^(selector|types) "):
            OperationSelector.of(value)
    assert not is_template(held)
