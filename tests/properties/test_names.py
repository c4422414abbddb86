from __future__ import annotations

import itertools
import json
import re
import string
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_eeops.api.models import Operation, OperationResult, Outcome, Report
from airflow_provider_eeops.api.names import (
    ParsedNames,
    check_operation_name,
    check_project_id,
    packed,
    parse_operation_names,
    unpacked,
)
from airflow_provider_eeops.exceptions import InvalidInputError, InvalidOperationNameError
from tests.properties.anything import ANYTHING, HOSTILE, NAME_LIKE, NAMES, PLAIN, cyclic, written
from tests.properties.trying import fewer
from tests.support.attempt import attempt

A = "projects/one/operations/A"
SHORT = re.compile(r"projects/[A-Za-z0-9][A-Za-z0-9_.:-]*/operations/[A-Za-z0-9_.~/-]+", re.ASCII)


def assert_safe(name: Any) -> None:
    """Written apart from the code: what a name must be to stay in its path."""
    assert type(name) is str
    assert SHORT.fullmatch(name), name
    assert not {"", ".", ".."}.intersection(name.split("/")), name
    assert len(name) <= 512


def assert_sound(parsed: ParsedNames) -> None:
    for name in parsed.names:
        assert_safe(name)
    assert len(set(parsed.names)) == len(parsed.names)
    for error in parsed.invalid:
        assert isinstance(error, InvalidOperationNameError)
        assert type(error.value) is str
        assert error.value
        assert len(str(error)) < 2000
        str(error).encode()  # a log is UTF-8
    if parsed.invalid:
        with pytest.raises(InvalidInputError) as caught:
            parsed.require_valid()
        assert len(str(caught.value)) < 50_000
    else:
        assert parsed.require_valid() == parsed.names


@given(value=ANYTHING)
def test_anything_gives_safe_names_or_refusals(value: Any) -> None:
    assert_sound(parse_operation_names(value, project_id="one"))


@given(value=PLAIN, form=st.sampled_from([repr, str, json.dumps]), quotes=st.integers(0, 3))
def test_what_a_template_renders_gives_safe_names_or_refusals(
    value: Any, form: Callable[[Any], str], quotes: int
) -> None:
    text = written(form, value)
    for _ in range(quotes):
        text = repr(text)
    assert_sound(parse_operation_names(text, project_id="one"))


@given(before=st.lists(NAMES, max_size=3), bad=ANYTHING, after=st.lists(NAMES, max_size=3))
def test_names_beside_anything_are_found_in_their_order(before: list[str], bad: Any, after: list[str]) -> None:
    parsed = parse_operation_names([*before, bad, *after], project_id="one")
    wanted = list(dict.fromkeys([*before, *after]))
    assert set(wanted) <= set(parsed.names)
    assert [name for name in parsed.names if name in wanted][: len(set(before))] == list(dict.fromkeys(before))
    assert parsed.names[: len(set(before))] == list(dict.fromkeys(before))


@given(names=st.lists(NAMES, max_size=8), bad=st.lists(HOSTILE, max_size=2), shape=st.sampled_from(["report", "page"]))
def test_names_beside_a_hostile_entry_of_a_report_are_found(names: list[str], bad: list[Any], shape: str) -> None:
    entries = [{"name": name, "outcome": "error"} if shape == "report" else {"name": name} for name in names]
    odd = [{"name": each, "outcome": each} for each in bad]
    parsed = parse_operation_names({"operations": [*odd, *entries, *bad]}, project_id="one")
    assert_sound(parsed)
    assert set(names) <= set(parsed.names)


@given(names=st.lists(NAMES, max_size=8), bad=st.lists(st.integers() | st.tuples(st.integers()), max_size=3))
def test_names_of_a_set_are_found_in_one_order(names: list[str], bad: list[Any]) -> None:
    parsed = parse_operation_names({*names, *bad})
    assert parsed.names == sorted(set(names))
    assert len(parsed.invalid) == len(set(bad))


@given(names=st.lists(NAMES, max_size=8), nest=st.lists(st.sampled_from("ltid jr"), max_size=6))
def test_the_shape_makes_no_difference(names: list[str], nest: list[str]) -> None:
    value: Any = names
    for how in nest:
        value = _nested(value, how)
    assert parse_operation_names(value).names == list(dict.fromkeys(names))


def _nested(value: Any, how: str) -> Any:
    match how:
        case "l":
            return [None, value, None]
        case "t":
            return (value,)
        case "i":
            return (each for each in [value])
        case "d":
            return {"operations": value}
        case "j" | "r" if _is_plain(value):
            return json.dumps(value) if how == "j" else repr(value)
        case _:
            return [value, value] if _is_plain(value) else [value]


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str)


@given(payload=st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_a_name_in_a_mapping_wins(payload: Mapping[str, Any]) -> None:
    assert parse_operation_names({**payload, "name": A}).names == [A]


class _Task:
    """Looks like an ``ee.batch.Task``."""

    task_type = "EXPORT_IMAGE"

    def __init__(self, operation_name: Any, id_: Any) -> None:
        self.operation_name = operation_name
        self.id = id_


@given(name=ANYTHING, id_=ANYTHING)
def test_a_task_of_googles_client_may_hold_anything(name: Any, id_: Any) -> None:
    parsed = parse_operation_names([_Task(name, id_), A], project_id="one")
    assert_sound(parsed)
    assert A in parsed.names


@given(name=ANYTHING, outcome=st.sampled_from(Outcome))
def test_values_of_ours_may_hold_anything(name: Any, outcome: Outcome) -> None:
    parsed = parse_operation_names([Operation(name), Report((OperationResult(name, outcome),)), A], project_id="one")
    assert_sound(parsed)
    assert A in parsed.names


@given(value=st.one_of(NAME_LIKE, ANYTHING))
def test_a_name_is_checked_whatever_it_is(value: Any) -> None:
    name, refusal = attempt(check_operation_name, value, error=InvalidOperationNameError)
    if refusal is not None:
        assert refusal.value
    else:
        assert_safe(name)
    project_id, refusal = attempt(check_project_id, value, error=InvalidOperationNameError)
    if refusal is not None:
        assert refusal.value
    else:
        assert type(project_id) is str
        assert "/" not in project_id
        assert re.fullmatch(r"projects/[A-Za-z0-9][A-Za-z0-9_.:-]*", f"projects/{project_id}", re.ASCII)


@pytest.mark.parametrize(
    ("form", "allowed"),
    [
        ("projects/one/operations/A{}B", string.ascii_letters + string.digits + "_.~-/"),
        ("projects/one/operations/{}", string.ascii_letters + string.digits + "_~-"),
        ("projects/a{}b/operations/A", string.ascii_letters + string.digits + "_.:-"),
        ("projects/{}/operations/A", string.ascii_letters + string.digits),
    ],
)
def test_each_character_is_allowed_or_not(form: str, allowed: str) -> None:
    taken = {
        chr(code)
        for code in [*range(0x3000), 0xD800, 0xDFFF, 0xFEFF, *range(0xFF00, 0xFF60), 0x1F30D]
        if attempt(check_operation_name, form.format(chr(code)), error=InvalidOperationNameError)[1] is None
    }
    assert taken == set(allowed)


@given(project_id=ANYTHING)
def test_the_project_of_ids_may_be_anything(project_id: Any) -> None:
    parsed = parse_operation_names(["A", A], project_id=None if callable(project_id) else project_id)
    assert_sound(parsed)
    assert A in parsed.names


def test_what_the_project_is_asked_of_may_fail() -> None:
    def refuse() -> str:
        raise LookupError("no credentials")

    with pytest.raises(LookupError, match="no credentials"):
        parse_operation_names(["A"], project_id=refuse)


@given(names=st.lists(NAMES, unique=True, max_size=12))
def test_names_survive_packing(names: list[str]) -> None:
    restored = unpacked(json.loads(json.dumps(packed(names))))
    assert sorted(restored) == sorted(names)
    for project in {name.split("/")[1] for name in names}:
        of_project = [name for name in names if name.split("/")[1] == project]
        assert [name for name in restored if name.split("/")[1] == project] == of_project
    assert unpacked(names) == names


class _Choice(str, Enum):  # noqa: UP042 - what many have written before StrEnum
    EXPORT = A


def test_text_of_another_class_is_taken_for_what_it_holds() -> None:
    assert [type(name) for name in parse_operation_names(_Choice.EXPORT).names] == [str]
    assert parse_operation_names([_Choice.EXPORT]).names == [A]
    assert f"{check_operation_name(_Choice.EXPORT)}" == A


@pytest.mark.parametrize("value", cyclic(), ids=range(len(cyclic())))
def test_a_value_that_holds_itself_ends(value: Any) -> None:
    assert_sound(parse_operation_names(value, project_id="one"))
    assert parse_operation_names(value).invalid


def _many_times_itself() -> Any:
    value: Any = [A]
    for _ in range(30):
        value = [value, value]
    return value


class _Endless:
    """A sequence by Python's old protocol."""

    def __getitem__(self, index: int) -> str:
        return f"A{index % 7}"


@pytest.mark.parametrize(
    "make",
    [
        lambda: itertools.repeat(A),
        lambda: itertools.repeat(None),
        lambda: itertools.repeat(b"x"),
        itertools.count,
        lambda: (f"projects/one/operations/{number}" for number in itertools.count()),
        _many_times_itself,
        _Endless,
    ],
    ids=["name", "none", "bytes", "numbers", "new names", "shared", "sequence"],
)
def test_what_does_not_end_is_read_so_far_and_said(make: Callable[[], Any]) -> None:
    parsed = parse_operation_names([A, make()], project_id="one")
    assert parsed.names[0] == A
    assert "the rest was not read" in str(parsed.invalid[-1])
    with pytest.raises(InvalidOperationNameError, match="the rest was not read") as caught:
        parsed.require_valid()
    assert len(str(caught.value)) < 50_000


@given(
    depth=st.integers(0, 2000), shape=st.sampled_from([("[", "]"), ("({},", ")"), ('{"operations": ', "}"), ("-", "")])
)
@fewer(one_in=2)
def test_text_may_be_nested_as_deep_as_it_likes(depth: int, shape: tuple[str, str]) -> None:
    text = shape[0] * depth + "1" + shape[1] * depth
    assert_sound(parse_operation_names([f"({text}", text, f" [{text}"], project_id="one"))
