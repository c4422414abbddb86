from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import ee
import pytest

from airflow_provider_eeops.api.models import Operation, OperationResult, Outcome, Report
from airflow_provider_eeops.api.names import (
    check_operation_name,
    check_project_allowed,
    check_project_id,
    operation_id,
    parse_operation_names,
    project_of,
)
from airflow_provider_eeops.exceptions import InvalidInputError, InvalidOperationNameError, ProjectNotAllowedError

A = "projects/one/operations/A"
B = "projects/one/operations/B"
C = "projects/one/operations/C"


def ee_task(task_id: str | None, name: str | None = None) -> Any:
    state = ee.batch.Task.State.READY if task_id else ee.batch.Task.State.UNSUBMITTED
    return ee.batch.Task(task_id, ee.batch.Task.Type.EXPORT_IMAGE, state, {"description": "d"}, name)


def in_airflows_lazy_style() -> Any:
    class Lazy:
        def __getitem__(self, index: int) -> str:
            return [A, B][index]

    return Lazy()


REPORT = Report((OperationResult(A, Outcome.CANCELLED), OperationResult(B, Outcome.NOT_FOUND))).to_dict()


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (A, [A]),
        (f"  {A}\n", [A]),
        ("A", [A]),
        ("projects/example.com:p/operations/A", ["projects/example.com:p/operations/A"]),
        ("projects/earthengine-legacy/operations/3DNU36", ["projects/earthengine-legacy/operations/3DNU36"]),
        ("projects/one/operations/several/segments", ["projects/one/operations/several/segments"]),
        ({"name": A, "metadata": {"state": "RUNNING"}}, [A]),
        ({"name": A, "done": True, "response": {}}, [A]),
        ({"state": "READY", "id": "A", "name": A, "task_type": "EXPORT_IMAGE", "start_timestamp_ms": 0}, [A]),
        ({"state": "READY", "id": "A"}, [A]),
        ({"id": "A", "name": A, "started": "OK"}, [A]),
        (Operation(A), [A]),
        ([A, B], [A, B]),
        ((B, A), [B, A]),
        ({B, A}, [A, B]),
        (frozenset({"B", "A"}), [A, B]),
        ((name for name in (A, None, B)), [A, B]),
        (dict.fromkeys([B, A]).keys(), [B, A]),
        (in_airflows_lazy_style(), [A, B]),
        ([A, None, [{"name": B}, (None, {C})], []], [A, B, C]),
        ([A, B, "A", {"id": "B"}, A], [A, B]),
        ([B, A, B], [B, A]),
        ({"operations": [{"name": A}, {"name": B}], "nextPageToken": "x"}, [A, B]),
        ({"operations": None}, []),
        (REPORT, [A, B]),
        ([REPORT, C], [A, B, C]),
        (json.dumps(A), [A]),
        (json.dumps([A, None, {"name": B}]), [A, B]),
        (json.dumps(REPORT), [A, B]),
        (repr([A, None, {"name": B}]), [A, B]),
        (repr((A,)), [A]),
        (repr({A}), [A]),
        (repr({"id": "A", "name": None}), [A]),
        (repr(A), [A]),
        (json.dumps(json.dumps([A])), [A]),
        (None, []),
        ("None", []),
        ("null", []),
        ("", []),
        (" \n", []),
        ("[]", []),
        ("()", []),
        ("set()", []),
        ([], []),
        ([[None], "", "[]"], []),
        (ee_task("A", A), [A]),
        (ee_task("A"), [A]),
        ([ee_task("A", A), ee_task("B", B)], [A, B]),
    ],
)
def test_what_users_hold(value: Any, names: list[str]) -> None:
    parsed = parse_operation_names(value, project_id="one")
    assert parsed.names == names
    assert parsed.invalid == []
    assert parsed.require_valid() == names


REFUSED = [
    "projects/one/operations/..",
    "projects/one/operations/.",
    "projects/one/operations/../operations/A",
    "projects/../operations/A",
    "projects/./operations/A",
    "projects/one/operations/A/../B",
    "projects/one/operations/A?alt=json",
    "projects/one/operations/A#x",
    "projects/one/operations/A%2fB",
    "projects/one/operations/A%2FB",
    "projects/one/operations/A\\B",
    "projects/one/operations/A\nB",
    "projects/one/operations/A\x00",
    "projects/one/operations/A\x7f",
    "projects/one/operations/A B",
    "projects/one/operations/",
    "projects/one/operations//A",
    "projects/one/operations/A/",
    "projects//operations/A",
    "projects/one/operations",
    "projects/one/operations/٣",
    "projects/öne/operations/A",
    "projects/one/operations/A:cancel",
    "/projects/one/operations/A",
    "v1alpha/projects/one/operations/A",
    "operations/A",
    "https://earthengine.googleapis.com/v1alpha/projects/one/operations/A",
    "projects/one/operations/" + "A" * 600,
    "A" * 600,
    "..",
    ".",
    "A:cancel",
    "A,B",
    "A B",
    "٣",
    "[",
    "[A]",
    "{'name'",
    '"',
    "(1)(2)",
    "[" * 100_000,
    "[" + "-" * 100_000 + "1]",
    "[" + "1" * 5000 + "]",
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: repr(value)[:60])
def test_refused_text(value: str) -> None:
    parsed = parse_operation_names(value, project_id="one")
    assert parsed.names == []
    (error,) = parsed.invalid
    assert len(str(error)) < 400
    with pytest.raises(InvalidOperationNameError) as caught:
        parsed.require_valid()
    assert caught.value is error


@pytest.mark.parametrize("name", [value for value in REFUSED if "/" in value], ids=lambda name: repr(name)[:60])
def test_refused_names_are_refused_before_a_path_too(name: str) -> None:
    with pytest.raises(InvalidOperationNameError, match="is not an operation name"):
        check_operation_name(name)


def test_the_message_quotes_the_offending_value() -> None:
    (error,) = parse_operation_names("projects/one/operations/A?x", project_id="one").invalid
    assert "'projects/one/operations/A?x'" in str(error)
    assert error.value == "'projects/one/operations/A?x'"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (5, "5 is not an operation"),
        (5.5, "5.5 is not an operation"),
        (True, "True is not an operation"),
        pytest.param(10**5000, "an integer of thousands of digits is not an operation", id="huge"),
        (b"projects/one/operations/A", "b'projects/one/operations/A' is not an operation"),
        (bytearray(b"A"), "a value of type builtins.bytearray is not an operation"),
        (object(), "a value of type builtins.object is not an operation"),
        (list, "a value of type builtins.type is not an operation"),
        ({"name": 5}, "5 is not an operation name"),
        ({"name": ["A"]}, "a value of type builtins.list is not an operation name"),
        ({"id": 5}, "5 is not an operation name"),
        ({}, "it has no keys"),
        ({"state": "READY", "foo": 1}, "it has 'foo', 'state'"),
        ({10**5000: 1}, "an integer of thousands of digits"),
        ({"state": "UNSUBMITTED"}, "call start() on it first"),
        (ee_task(None), "call start() on it first"),
        ({10**5000}, "an integer of thousands of digits is not an operation"),
        ([[["A?"]]], "'A?' is not an operation name"),
    ],
)
def test_refused_objects(value: Any, says: str) -> None:
    parsed = parse_operation_names(value, project_id="one")
    assert parsed.names == []
    (error,) = parsed.invalid
    assert says in str(error)


@pytest.mark.parametrize("value", [{"foo": 1}, {"state": "UNSUBMITTED"}, {}, "A?", b"A", object(), [["A B"]]])
def test_what_was_refused_is_refused_again_when_its_report_is_read(value: Any) -> None:
    (error,) = parse_operation_names(value, project_id="one").invalid
    report = Report((OperationResult.from_error(error.value, error),)).to_dict()
    assert parse_operation_names(report, project_id="one").names == []


def test_an_unresolved_iterable_is_refused() -> None:
    class XComArg:
        def __iter__(self) -> Iterator[Any]:
            raise TypeError("'XComArg' object is not iterable")

    (error,) = parse_operation_names(XComArg()).invalid
    assert "XComArg is not an operation" in str(error)


def test_a_task_that_was_not_started_is_named_as_one() -> None:
    parsed = parse_operation_names([ee_task("A", A), ee_task(None), B], project_id="one")
    assert parsed.names == [A, B]
    with pytest.raises(InvalidOperationNameError, match=r"was not started has no operation: call start\(\)"):
        parsed.require_valid()


def test_one_bad_of_many() -> None:
    names = [f"projects/one/operations/OP{number}" for number in range(5000)]
    bad = [*names[:2500], "projects/one/operations/..", *names[2501:]]
    parsed = parse_operation_names(bad)
    assert parsed.names == names[:2500] + names[2501:]
    assert [error.value for error in parsed.invalid] == ["'projects/one/operations/..'"]


def test_several_bad_are_all_named() -> None:
    parsed = parse_operation_names(["A?", A, "B#"], project_id="one")
    with pytest.raises(InvalidOperationNameError) as caught:
        parsed.require_valid()
    assert str(caught.value).startswith("2 values are not operations:\n- 'A?' is not")
    assert "- 'B#' is not" in str(caught.value)
    assert caught.value.value == "'A?'"


def holding_itself() -> Any:
    value: list[Any] = [A]
    value.append(value)
    return value


def report_holding_itself() -> Any:
    value: dict[str, Any] = {"operations": [A]}
    value["operations"].append(value)
    return value


def nested(depth: int) -> Any:
    value: Any = A
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (holding_itself(), [A]),
        (report_holding_itself(), [A]),
        (nested(100_000), []),
        (nested(33), []),
        ("[" * 40 + "]" * 40, []),
    ],
)
def test_absurd_nesting_is_refused(value: Any, names: list[str]) -> None:
    parsed = parse_operation_names(value)
    assert parsed.names == names
    (error,) = parsed.invalid
    assert "hold themselves" in str(error)


def test_some_nesting_is_not_absurd() -> None:
    assert parse_operation_names(nested(32)).names == [A]


def test_the_same_container_twice_is_not_itself() -> None:
    twice = [A]
    assert parse_operation_names([twice, twice]).invalid == []


def asked(answer: str | None) -> tuple[Callable[[], str | None], list[None]]:
    questions: list[None] = []

    def project() -> str | None:
        questions.append(None)
        return answer

    return project, questions


@pytest.mark.parametrize(
    ("value", "answer", "questions"),
    [
        ([A, {"name": B}, None], "one", 0),
        (["A", "B", {"id": "C"}], "one", 1),
        (["A", "B"], None, 1),
        ([], "one", 0),
    ],
)
def test_the_project_is_asked_for_once_and_only_if_needed(value: Any, answer: str | None, questions: int) -> None:
    project, noted = asked(answer)
    parsed = parse_operation_names(value, project_id=project)
    assert len(noted) == questions
    assert bool(parsed.invalid) == (answer is None)


def test_a_bare_id_without_a_project_names_the_remedies() -> None:
    parsed = parse_operation_names(["A", B])
    assert parsed.names == [B]
    assert str(parsed.invalid[0]) == (
        "operation id 'A' needs a project: pass project_id, set 'project' in the connection,"
        " or pass the name, projects/PROJECT/operations/ID"
    )


@pytest.mark.parametrize("project", ["", "a/b", "..", "a?b", "projects/one", "-x", "p" * 600])
def test_a_bare_id_with_a_bad_project(project: str) -> None:
    parsed = parse_operation_names("A", project_id=project)
    assert parsed.names == []
    assert len(parsed.invalid) == 1


def test_allowed_projects() -> None:
    other = "projects/two/operations/A"
    parsed = parse_operation_names([A, other, "B"], project_id="one", allowed_projects=["one", "three"])
    assert parsed.names == [A, B]
    (error,) = parsed.invalid
    assert isinstance(error, ProjectNotAllowedError)
    assert str(error) == (f"{other} is not in one of the connection's allowed_projects (one, three): nothing was sent")
    assert error.value == other


def test_no_allowed_projects_means_all() -> None:
    check_project_allowed("two", (), "x")
    with pytest.raises(ProjectNotAllowedError, match=r"^x is not in one of"):
        check_project_allowed("two", {"one"}, "x")


def test_parts_of_a_name() -> None:
    name = check_operation_name("projects/example.com:p/operations/a/b")
    assert (project_of(name), operation_id(name)) == ("example.com:p", "a/b")


@pytest.mark.parametrize("project", ["a", "my-project", "example.com:p", "123", "earthengine-legacy"])
def test_project_ids(project: str) -> None:
    assert check_project_id(project) == project


@pytest.mark.parametrize("project", [None, 5, "", ".", "..", "a/b", "a b", "a\n", "ä", "projects/one"])
def test_refused_project_ids(project: Any) -> None:
    with pytest.raises(InvalidOperationNameError, match=r"is not a project id\. Pass the id alone"):
        check_project_id(project)


def test_refusals_are_value_errors() -> None:
    with pytest.raises(ValueError, match="not an operation name") as caught:
        check_operation_name(5)  # type: ignore[arg-type]
    assert isinstance(caught.value, InvalidInputError)


def test_a_report_is_taken_as_it_is() -> None:
    report = Report((OperationResult("projects/one/operations/A", Outcome.CANCEL_REQUESTED),))
    assert parse_operation_names([report, report.to_dict()]).names == ["projects/one/operations/A"]


NONE = OperationResult("'projects/one/operations/..'", Outcome.ERROR, error_code=3)
FAILED = OperationResult("projects/one/operations/B", Outcome.ERROR, error_code=14)
GOOD = OperationResult("projects/one/operations/A", Outcome.CANCEL_REQUESTED)


@pytest.mark.parametrize("as_dict", [True, False])
def test_what_a_report_says_was_no_operation_is_passed_over(*, as_dict: bool) -> None:
    report = Report((NONE, GOOD, OperationResult("the number 5", Outcome.ERROR), FAILED))
    parsed = parse_operation_names(report.to_dict() if as_dict else report, project_id="one")
    assert (parsed.names, parsed.invalid) == ([GOOD.name, FAILED.name], [])


@pytest.mark.parametrize(
    "value",
    [
        {"operations": [{"name": "a?b", "outcome": "not_found"}]},
        {"operations": [{"name": "a?b"}]},
        {"operations": ["a?b"]},
        {"operations": "a?b"},
        {"name": "a?b", "outcome": "error"},
        [{"name": "a?b", "outcome": "error"}],
    ],
)
def test_anything_else_that_is_no_operation_is_not(value: Any) -> None:
    assert len(parse_operation_names(value).invalid) == 1


def test_what_cannot_be_read_is_refused_and_what_is_beside_it_found() -> None:
    def lazy() -> Iterator[str]:
        yield A
        raise RuntimeError("no answer")

    parsed = parse_operation_names([lazy(), B])
    assert parsed.names == [A, B]
    (error,) = parsed.invalid
    assert str(error).startswith("a value of type builtins.generator could not be read (RuntimeError).")


def test_thousands_of_refusals_are_said_in_a_few_lines() -> None:
    parsed = parse_operation_names([f"no name {number}" for number in range(3000)])
    with pytest.raises(InvalidOperationNameError, match="3000 values are not operations") as caught:
        parsed.require_valid()
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-2] == "- and 2980 more"
    assert lines[-1].startswith("- 'no name 2999' is not an operation name")


def test_an_iterator_without_end_is_read_so_far() -> None:
    parsed = parse_operation_names([A, itertools.count()])
    assert parsed.names == [A]
    assert str(parsed.invalid[-1]) == "more than 10000 values are not operations: the rest was not read"
