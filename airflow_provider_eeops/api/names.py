"""Every shape a user may hold -> operation names.

An operation name is ``projects/P/operations/ID``; a bare ``ID`` is an operation id and needs a project.
See https://developers.google.com/earth-engine/reference/rest/v1alpha/projects.operations.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_eeops.api.models import Operation, Outcome, Report
from airflow_provider_eeops.exceptions import InvalidOperationNameError, ProjectNotAllowedError

__all__ = [
    "ParsedNames",
    "check_operation_name",
    "check_project_allowed",
    "check_project_id",
    "is_ee_task",
    "is_started",
    "known_project",
    "operation_id",
    "packed",
    "parse_operation_names",
    "project_of",
    "unpacked",
]

# ':' starts a custom verb such as :cancel, so an id never holds one; a project may (example.com:project).
_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.~-]+"
_PROJECT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9][A-Za-z0-9_.:-]*"
_OPERATION_ID = re.compile(_SEGMENT, re.ASCII)
_PROJECT_ID = re.compile(_PROJECT, re.ASCII)
_OPERATION_NAME = re.compile(rf"projects/({_PROJECT})/operations/({_SEGMENT}(?:/{_SEGMENT})*)", re.ASCII)

_MAX_LENGTH = 512
_MAX_DEPTH = 32
_MOST_VALUES = 500_000  # what a listing can have; an iterator may have no end, and a value may hold another many times
_MOST_INVALID = 10_000
_MOST_LISTED = 20
_SHOWN = 80

_REMEDY = "Pass an operation name, projects/PROJECT/operations/ID, or an operation id with a project."
_REMEDY_FOR_EXPORTS = "Return what ee.batch.Export made, or operation names."


@dataclass
class ParsedNames:
    """What a value held.

    :param names: operation names, each once, in order.
    :param invalid: one error for each item that is not an operation.
    :param in_order: the names, and where they are accepted each ``ee.batch.Task`` that was not started, in order.
    """

    names: list[str] = field(default_factory=list)
    invalid: list[InvalidOperationNameError] = field(default_factory=list)
    in_order: list[Any] = field(default_factory=list)

    def require_valid(self) -> list[str]:
        """Return the names.

        :raises InvalidOperationNameError: naming every item that is not an operation.
        """
        if len(self.invalid) == 1:
            raise self.invalid[0]
        if self.invalid:
            few = self.invalid if len(self.invalid) <= _MOST_LISTED else self.invalid[: _MOST_LISTED - 1]
            listed = "\n".join(f"- {error}" for error in few)
            if len(few) < len(self.invalid):  # the last may say why there are no more
                listed += f"\n- and {len(self.invalid) - len(few) - 1} more\n- {self.invalid[-1]}"
            raise InvalidOperationNameError(
                f"{len(self.invalid)} values are not operations:\n{listed}", value=self.invalid[0].value
            )
        return self.names


def parse_operation_names(
    value: Any,
    *,
    project_id: str | Callable[[], str | None] | None = None,
    allowed_projects: Collection[str] = (),
    accept_unstarted: bool = False,
) -> ParsedNames:
    """Find the operation names in whatever a user holds.

    Accepted: an operation name; an operation id, with a project; an Operation, ``ee.batch.Task.status()`` or
    ingestion result (a mapping with ``name`` or ``id``); an ``ee.batch.Task`` that was started; a report of this
    package or a page of ``operations.list`` (a mapping with ``operations``); any iterable of these, nested, with
    None in it; a string that holds any of these as JSON or as a Python literal. What a report says was no operation
    is passed over.

    :param value: what the user holds.
    :param project_id: the project of bare ids; a callable is asked once, and only if there is a bare id.
    :param allowed_projects: if any, operations of other projects are invalid.
    :param accept_unstarted: take an ``ee.batch.Task`` that was not started too, into ``in_order``.
    """
    return _Parser(project_id, allowed_projects, accept_unstarted=accept_unstarted).parse(value)


def check_operation_name(name: str) -> str:
    """Return the name if it is ``projects/P/operations/ID`` and cannot leave its path.

    :raises InvalidOperationNameError: otherwise.
    """
    text = _text(name)
    if text is None or len(text) > _MAX_LENGTH or not _OPERATION_NAME.fullmatch(text):
        raise InvalidOperationNameError(f"{_show(name)} is not an operation name. {_remedy(text)}", value=_show(name))
    return text


def check_project_id(project_id: str) -> str:
    """Return the project id if it is one path segment of a project's characters.

    :raises InvalidOperationNameError: otherwise.
    """
    text = _text(project_id)
    if text is None or len(text) > _MAX_LENGTH or not _PROJECT_ID.fullmatch(text):
        raise InvalidOperationNameError(
            f"{_show(project_id)} is not a project id. Pass the id alone, such as 'my-project'.",
            value=_show(project_id),
        )
    return text


def check_project_allowed(project_id: str, allowed_projects: Collection[str], value: str) -> None:
    """Refuse a project that is not allowed.

    :param project_id: the project.
    :param allowed_projects: the projects that are; none means all.
    :param value: what names the project, for the message.
    :raises ProjectNotAllowedError: it is not.
    """
    if allowed_projects and project_id not in allowed_projects:
        number = "; a project's number is another name than its id: list it too" if project_id.isdecimal() else ""
        raise ProjectNotAllowedError(
            f"{value} is not in one of the connection's allowed_projects ({', '.join(sorted(allowed_projects))}):"
            f" nothing was sent{number}",
            value=value,
        )


def project_of(name: str) -> str:
    """Project id of an operation name."""
    return name.split("/", 2)[1]


def known_project(name: str) -> str | None:
    """Project id of an operation name; None of anything else, which may hold anything."""
    return project_of(name) if len(name) <= _MAX_LENGTH and _OPERATION_NAME.fullmatch(name) else None


def operation_id(name: str) -> str:
    """Operation id of an operation name."""
    return name.split("/", 3)[3]


def packed(names: Iterable[str]) -> dict[str, list[str]]:
    """Operation ids by ``projects/P/operations``: half as long as thousands of names.

    :param names: operation names.
    """
    by_project: dict[str, list[str]] = {}
    for name in names:
        by_project.setdefault(f"projects/{project_of(name)}/operations", []).append(operation_id(name))
    return by_project


def unpacked(names: Iterable[str] | Mapping[str, Iterable[str]]) -> list[str]:
    """Operation names, from what :func:`packed` made of them or as they are.

    :param names: operation names, or ids by project.
    """
    if not isinstance(names, Mapping):
        return list(names)
    return [f"{parent}/{id_}" for parent, ids in names.items() for id_ in ids]


def _text(value: Any) -> str | None:
    """Return what a text holds, whatever its class says of it; None if it is none."""
    # A member of an enumeration that is a str is written as its name, and a mock may pass for any class.
    return str.__str__(value) if issubclass(type(value), str) else None


def _show(value: Any) -> str:
    """Quote a value, shortened; only its type if it is of another class than Python's own, as that may do anything."""
    shown = value if type(value) is bytes else _text(value)
    if shown is not None:
        return repr(shown) if len(shown) <= _SHOWN else f"{shown[:_SHOWN]!r}... ({len(shown)} characters)"
    if type(value) in {int, float, bool}:
        try:
            return f"the number {value!r}"[:_SHOWN]
        except ValueError:  # an int of more digits than Python prints
            return "an integer of thousands of digits"
    try:
        return f"a value of type {type(value).__module__}.{type(value).__qualname__}"
    except Exception:  # noqa: BLE001 - a class may hold anything as its module
        return "a value of a type that cannot be named"


def _remedy(text: str | None) -> str:
    """What to do about text that is no operation, by how people come by it."""
    text = text or ""
    if "{{" in text or "{%" in text:
        return "It is a template that was not rendered: Airflow renders a parameter, and not what comes of it."
    if text.strip("[](){}'\" ,").startswith("<"):
        return "It is how Python shows an object: push the object's operation name, such as task.operation_name."
    return _REMEDY


class _Overrun(Exception):  # noqa: N818 - ends the parsing, is no error
    """There is more to read than anybody can have meant."""


class _Parser:
    def __init__(
        self,
        project_id: str | Callable[[], str | None] | None,
        allowed_projects: Collection[str],
        *,
        accept_unstarted: bool,
    ) -> None:
        self._project_id = project_id
        self._project_failure: Exception | None = None
        self._allowed = frozenset(allowed_projects)
        self._accept_unstarted = accept_unstarted
        self._remedy = _REMEDY_FOR_EXPORTS if accept_unstarted else _REMEDY
        self._unstarted: set[int] = set()
        self._seen: set[str] = set()
        self._path: list[Any] = []  # the containers around the value at hand, to notice one that holds itself
        self._visited = 0
        self._result = ParsedNames()

    def parse(self, value: Any) -> ParsedNames:
        try:
            self._visit(value)
        except _Overrun as overrun:
            self._result.invalid.append(
                InvalidOperationNameError(f"{overrun}: the rest was not read", value="the rest")
            )
        return self._result

    def _visit(self, value: Any) -> None:
        self._visited += 1
        if self._visited > _MOST_VALUES:
            raise _Overrun(f"more than {_MOST_VALUES} values are more than can be operations")
        try:
            self._dispatch(value)
        except InvalidOperationNameError as error:
            self._refuse(error)
        except _Overrun:
            raise
        except Exception as error:
            if error is self._project_failure:
                raise
            # Whatever its class does, the values beside it are still to be found.
            self._refuse(
                InvalidOperationNameError(
                    f"{_show(value)} could not be read ({type(error).__name__}). {self._remedy}", value=_show(value)
                )
            )

    def _refuse(self, error: InvalidOperationNameError) -> None:
        if len(self._result.invalid) >= _MOST_INVALID:
            raise _Overrun(f"more than {_MOST_INVALID} values are not operations")
        self._result.invalid.append(error.with_traceback(None))

    def _enter(self, container: Any, items: Iterable[Any]) -> None:
        if len(self._path) >= _MAX_DEPTH or any(outer is container for outer in self._path):
            raise InvalidOperationNameError(
                f"operations are nested more than {_MAX_DEPTH} deep, or hold themselves", value=_show(container)
            )
        self._path.append(container)
        try:
            for item in items:
                self._visit(item)
        finally:
            self._path.pop()

    def _dispatch(self, value: Any) -> None:
        if value is None:
            return
        if (text := _text(value)) is not None:
            self._string(text)
        elif isinstance(value, Mapping):
            self._mapping(value)
        elif isinstance(value, Operation):
            self._add(value.name)
        elif isinstance(value, Report):
            self._enter(value, [result.name for result in value.results if not _was_none(result.name, result.outcome)])
        elif is_ee_task(value):
            if self._accept_unstarted and not is_started(value):
                self._add_unstarted(value)
            else:
                self._add(_name_of_ee_task(value))
        elif (items := _items(value)) is not None:
            self._enter(value, items)
        else:
            raise InvalidOperationNameError(f"{_show(value)} is not an operation. {self._remedy}", value=_show(value))

    def _string(self, value: str) -> None:
        text = value.strip()
        if text in {"", "None", "null", "set()"}:  # what a template renders when there was nothing
            return
        if text[0] in "[{('\"":
            self._enter(text, [_literal(text)])
        else:
            self._add(text)

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        name, bare_id = value.get("name"), value.get("id")
        if name:
            self._add(name)
        elif bare_id:
            self._add(bare_id)
        elif "operations" in value:
            self._enter(value, [_without_those_that_were_none(value["operations"])])
        elif value.get("state") == "UNSUBMITTED":
            raise InvalidOperationNameError(
                "the status of an Earth Engine task that was not started: call start() on it first",
                value="{'state': 'UNSUBMITTED'}",
            )
        else:
            keys = ", ".join(sorted(map(_show, value))[:8])[:_SHOWN]
            raise InvalidOperationNameError(
                f"a mapping without 'name' or 'id' (it has {keys or 'no keys'}) is not an operation. {self._remedy}",
                value=f"{{{keys}}}",
            )

    def _add(self, value: Any) -> None:
        name = self._full_name(value)
        check_project_allowed(project_of(name), self._allowed, name)
        if name not in self._seen:
            self._seen.add(name)
            self._result.names.append(name)
            self._result.in_order.append(name)

    def _add_unstarted(self, task: Any) -> None:
        if id(task) not in self._unstarted:
            self._unstarted.add(id(task))  # nothing else gets this id: the result holds the task
            self._result.in_order.append(task)

    def _full_name(self, value: Any) -> str:
        text = _text(value)
        if text is None or "/" in text or not _OPERATION_ID.fullmatch(text):
            return check_operation_name(value)
        project_id = self._default_project()
        if project_id is None:
            raise InvalidOperationNameError(
                f"operation id {_show(text)} needs a project: pass project_id, set 'project' in the connection,"
                " or pass the name, projects/PROJECT/operations/ID",
                value=_show(text),
            )
        return check_operation_name(f"projects/{check_project_id(project_id)}/operations/{text}")

    def _default_project(self) -> str | None:
        if callable(self._project_id):
            try:
                self._project_id = self._project_id()
            except Exception as error:
                self._project_failure = error
                raise
        return self._project_id


def _was_none(name: Any, outcome: Any) -> bool:
    """Whether an entry of a report stands for a value that was no operation: there is nothing to ask for."""
    text = _text(name)
    return _text(outcome) == Outcome.ERROR and not (text is not None and _OPERATION_NAME.fullmatch(text))


def _without_those_that_were_none(entries: Any) -> Any:
    if type(entries) not in {list, tuple}:  # of another class it may do anything; then each entry is looked at
        return entries
    return [entry for entry in entries if not _is_entry_that_was_none(entry)]


def _is_entry_that_was_none(entry: Any) -> bool:
    return type(entry) is dict and _was_none(entry.get("name"), entry.get("outcome"))


def _items(value: Any) -> Iterable[Any] | None:
    """Return what an iterable holds, a set's in a stable order; None if it is no iterable of operations."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return None
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=lambda item: _text(item) or _show(item))
    try:
        items: Iterable[Any] = iter(value)
    except TypeError:  # also what an Airflow XComArg says that was not resolved
        return None
    return items


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise InvalidOperationNameError(
            f"{_show(text)} is neither JSON nor a Python literal that holds operations. {_remedy(text)}",
            value=_show(text),
        ) from None


def is_ee_task(value: Any) -> bool:
    """Whether a value is an ``ee.batch.Task``, told by its shape as Google's client is not imported here.

    :param value: anything.
    """
    return hasattr(value, "operation_name") and hasattr(value, "task_type")


def is_started(task: Any) -> bool:
    """Whether an ``ee.batch.Task`` has an operation.

    :param task: the task.
    """
    return bool(task.operation_name or getattr(task, "id", None))


def _name_of_ee_task(task: Any) -> Any:
    name = task.operation_name or getattr(task, "id", None)
    if not name:
        raise InvalidOperationNameError(
            "an Earth Engine task that was not started has no operation: call start() on it first",
            value=_show(task),
        )
    return name
