"""Which operations of a listing to take. Pure decisions: who lists, and what is done about them, is elsewhere."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, ClassVar

from airflow_provider_eeops.api.models import TERMINAL_STATES, Operation, OperationState, counted
from airflow_provider_eeops.api.names import check_project_id
from airflow_provider_eeops.checks import require_positive, seconds
from airflow_provider_eeops.exceptions import InvalidInputError

__all__ = [
    "DEFAULT_MAX_OPERATIONS",
    "Criteria",
    "OperationSelector",
    "Selection",
    "criteria_for_listing",
    "is_template",
    "select",
]

DEFAULT_MAX_OPERATIONS = 100
"""Operations that may be found by a selector, unless ``max_operations`` says otherwise."""

_FIRST_FEW = 10

_OPEN = (OperationState.PENDING, OperationState.RUNNING)
_NOT_ENDED = (*_OPEN, OperationState.CANCELLING)

_TYPE = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a selector asks for, checked. All of it must apply.

    What an operation does not show, such as its EECU-seconds before it runs, is no reason to take it.

    :param project_id: the project to list, if the selector names one.
    :param states: any of these; None for all.
    :param types: any of these; None for all.
    :param description: a glob, case-sensitive; None for all.
    :param created_before: created earlier.
    :param created_after: created then or later.
    :param older_than: created longer ago, in seconds.
    :param min_eecu_seconds: used so much or more.
    """

    project_id: str | None = None
    states: tuple[str, ...] | None = _OPEN
    types: tuple[str, ...] | None = None
    description: str | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    older_than: float | None = None
    min_eecu_seconds: float | None = None

    def matches(self, operation: Operation, *, now: float) -> bool:
        """Whether everything asked for applies to an operation.

        :param operation: the operation.
        :param now: seconds since the epoch.
        """
        return (
            (self.states is None or operation.state in self.states)
            and (self.types is None or operation.type in self.types)
            and (self.description is None or _is_like(operation.description, self.description))
            and self._is_of_time(operation.create_time, now)
            and (self.min_eecu_seconds is None or (operation.eecu_seconds or 0.0) >= self.min_eecu_seconds)
        )

    def _is_of_time(self, created: datetime | None, now: float) -> bool:
        if created is None:
            return self.created_before is None and self.created_after is None and self.older_than is None
        return (
            (self.created_before is None or created < self.created_before)
            and (self.created_after is None or created >= self.created_after)
            and (self.older_than is None or now - created.timestamp() > self.older_than)
        )

    def __str__(self) -> str:
        words = ["in any state" if self.states is None else " or ".join(self.states)]
        if self.types is not None:
            words.append(" or ".join(self.types))
        if self.description is not None:
            words.append(f"description {self.description!r}")
        if self.created_before is not None:
            words.append(f"created before {self.created_before.isoformat()}")
        if self.created_after is not None:
            words.append(f"created at or after {self.created_after.isoformat()}")
        if self.older_than is not None:
            words.append(f"older than {_duration(self.older_than)}")
        if self.min_eecu_seconds is not None:
            words.append(f"at least {self.min_eecu_seconds:g} EECU-seconds")
        return ", ".join(words)


@dataclass(kw_only=True)
class OperationSelector:
    """Which operations of a project to cancel: those to which everything given here applies.

    At least one of the parameters must narrow what is selected: one besides ``project_id`` and ``states``, or
    ``states`` without PENDING or without RUNNING. A value that cannot be used is an error when the selector is made;
    a template, once it is rendered.

    :param project_id: the project whose operations to look at. Default: the task's, else the connection's.
    :param states: states to select, of PENDING, RUNNING and CANCELLING: those of operations that have not ended.
    :param types: types to select, such as EXPORT_IMAGE.
    :param description: a glob (``*``, ``?``, ``[abc]``) that the description matches from end to end, case-sensitive.
    :param created_before: created earlier than this: a datetime with a time zone, or ISO 8601 text.
    :param created_after: created then or later; the same.
    :param older_than: created longer ago than this: a timedelta, or seconds.
    :param min_eecu_seconds: has used so many EECU-seconds, or more.
    """

    template_fields: ClassVar[tuple[str, ...]] = (
        "project_id",
        "states",
        "types",
        "description",
        "created_before",
        "created_after",
        "older_than",
        "min_eecu_seconds",
    )

    project_id: str | None = None
    states: Collection[str] | str = ("PENDING", "RUNNING")
    types: Collection[str] | str | None = None
    description: str | None = None
    created_before: datetime | str | None = None
    created_after: datetime | str | None = None
    older_than: timedelta | float | str | None = None
    min_eecu_seconds: float | str | None = None
    _given: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        for name in ("states", "types"):  # a set's order differs from process to process, and with it the DAG's hash
            value = getattr(self, name)
            with _refused_if_unreadable(name, value):
                if isinstance(value, (set, frozenset)):
                    setattr(self, name, tuple(sorted(value, key=str)))
        self._given = frozenset(self.parameters())
        _checked(self.parameters(), rendered=False)

    @classmethod
    def of(cls, value: Any) -> OperationSelector:
        """Return the selector that a value holds.

        :param value: a selector, a mapping of its parameters, or text that holds one as JSON or as a Python literal.
        :raises InvalidInputError: naming what is wrong with it.
        """
        with _refused_if_unreadable("selector", value):
            return cls._of(value)

    @classmethod
    def _of(cls, value: Any) -> OperationSelector:
        if isinstance(value, OperationSelector):
            return value
        given = _literal("selector", value) if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise InvalidInputError(
                f"selector is {_shown(value)}: it must be an OperationSelector, or a mapping of its parameters"
            )
        for name, each in given.items():
            if name not in cls.template_fields:
                import difflib

                near = difflib.get_close_matches(name, cls.template_fields, n=1) if isinstance(name, str) else []
                raise InvalidInputError(
                    f"selector has {_shown(name)}: it may have {', '.join(cls.template_fields)}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                )
            if each is None:
                raise _is_none(name)
        return cls(**given)

    def parameters(self) -> dict[str, Any]:
        """The parameters that are given, by name: what :meth:`of` takes."""
        values = {name: getattr(self, name) for name in self.template_fields}
        return {name: value for name, value in values.items() if value is not None}

    def criteria(self) -> Criteria:
        """Return what is asked for. Templates must have been rendered.

        :raises InvalidInputError: a template was not, or its value cannot be used.
        """
        given = self.parameters()
        for name in sorted(self._given - given.keys()):  # a template that rendered to None would widen the selection
            raise _is_none(name)
        return Criteria(**_checked(given, rendered=True))


@dataclass(frozen=True, slots=True)
class Selection:
    """The operations of a listing that match, in its order.

    :param operations: the operations, each once, as they were seen last.
    :param looked_at: how many the listing had.
    :param criteria: what was asked for.
    :param at: when, in seconds since the epoch.
    """

    operations: tuple[Operation, ...]
    looked_at: int
    criteria: Criteria
    at: float

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def lines(self, *, most: int = _FIRST_FEW) -> str:
        """List the operations, a line each, the first few of many.

        :param most: lines at most.
        """
        lines = [f"- {operation.name}: {_about(operation, now=self.at)}" for operation in self.operations[:most]]
        if len(self) > most:
            lines.append(f"- and {len(self) - most} more, all in the report")
        return "\n".join(lines)

    def __str__(self) -> str:
        where = f" of project {self.criteria.project_id}" if self.criteria.project_id else ""
        return f"{len(self) or 'none'} of the {counted(self.looked_at)}{where} selected ({self.criteria})."


def select(operations: Iterable[Operation], criteria: Criteria, *, now: float) -> Selection:
    """Take the operations that match. Only these are kept in memory.

    :param operations: a listing; one that it shows twice is as it was shown last.
    :param criteria: what to take.
    :param now: seconds since the epoch.
    """
    found: dict[str, Operation] = {}
    looked_at = 0
    for operation in operations:
        looked_at += 1
        if criteria.matches(operation, now=now):
            found[operation.name] = operation
        else:
            found.pop(operation.name, None)
    return Selection(tuple(found.values()), looked_at, criteria, now)


def criteria_for_listing(given: Mapping[str, Any]) -> Criteria:
    """Read what a listing is to show: any states, and nothing needs to narrow it, as nothing is done about it.

    :param given: parameters of an :class:`OperationSelector`.
    :raises InvalidInputError: one cannot be used.
    """
    readers = {**_READERS, "states": _any_states}
    read = {name: readers[name](name, value) for name, value in given.items()}
    _check_moments(read)
    return Criteria(**{"states": None, **read})


def is_template(value: Any) -> bool:
    """Whether a value is, or holds, what Airflow has yet to render: what it is, is not known yet.

    :param value: a parameter.
    """
    try:
        return _holds_template(value, levels=_MAX_DEPTH)
    except Exception:  # noqa: BLE001 - what does harm when it is looked at is refused by name, by who reads it
        return False


_MAX_DEPTH = 32


def _holds_template(value: Any, *, levels: int) -> bool:
    if levels == 0:  # also what holds itself
        return False
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return any(_holds_template(each, levels=levels - 1) for each in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(_holds_template(each, levels=levels - 1) for each in value)
    return hasattr(value, "resolve")  # an XComArg, and whatever else Airflow resolves


# What a parameter may be


def _checked(given: Mapping[str, Any], *, rendered: bool) -> dict[str, Any]:
    """Read the parameters; before they are rendered, templates stay as they are, and are taken to be right."""
    read = {}
    for name, value in given.items():
        if not is_template(value):
            with _refused_if_unreadable(name, value):
                read[name] = _READERS[name](name, value)
        elif rendered:
            raise InvalidInputError(f"{name} is {_shown(value)}: a template that was not rendered")
        else:
            read[name] = value
    _check_together(read)
    return read


@contextmanager
def _refused_if_unreadable(name: str, value: Any) -> Iterator[None]:
    """Refuse a value of which the class raises an error of its own when it is looked at."""
    try:
        yield
    except InvalidInputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever its class does
        raise InvalidInputError(f"{name} is {_shown(value)}: it cannot be read ({type(error).__name__})") from None


def _check_moments(read: Mapping[str, Any]) -> None:
    if "older_than" in read and "created_before" in read:
        raise InvalidInputError("older_than and created_before are both given, and say the same: remove one")
    before, after = read.get("created_before"), read.get("created_after")
    if isinstance(before, datetime) and isinstance(after, datetime) and before <= after:
        raise InvalidInputError(
            f"created_before is {before.isoformat()}, created_after is {after.isoformat()}: nothing is between"
        )


def _check_together(read: Mapping[str, Any]) -> None:
    _check_moments(read)
    states = read.get("states", _OPEN)
    if read.keys() <= {"project_id", "states"} and not is_template(states) and set(_OPEN) <= set(states):
        raise InvalidInputError(
            "the selector narrows nothing: it would take every operation of the project, other people's too. Give"
            " types, description, created_before, created_after, older_than or min_eecu_seconds, or states without"
            " PENDING or RUNNING"
        )


def _project_id(_name: str, value: Any) -> str:
    return check_project_id(value)


def _states(name: str, value: Any) -> tuple[str, ...]:
    states = _words(name, value, such_as="PENDING")
    for state in states:
        if state not in _NOT_ENDED:
            why = "such operations have ended" if state in TERMINAL_STATES else "no such state"
            raise InvalidInputError(
                f"{name} names {_shown(state)}: {why}; give any of {', '.join(map(repr, map(str, _NOT_ENDED)))}"
            )
    return states


def _any_states(name: str, value: Any) -> tuple[str, ...]:
    states = _words(name, value, such_as="FAILED")
    for state in states:
        if state not in OperationState.__members__:
            raise InvalidInputError(f"{name} names {_shown(state)}: give any of {', '.join(OperationState)}")
    return states


def _types(name: str, value: Any) -> tuple[str, ...]:
    types = _words(name, value, such_as="EXPORT_IMAGE")
    for each in types:
        if not _TYPE.fullmatch(each):
            raise InvalidInputError(f"{name} names {_shown(each)}: upper case is needed, such as EXPORT_IMAGE")
    return types


def _words(name: str, value: Any, *, such_as: str) -> tuple[str, ...]:
    """Read a collection of words, or one word; text may hold it as JSON or a Python literal, as templates render."""
    items = value
    if isinstance(value, str):
        items = _literal(name, value) if value.strip()[:1] in {"[", "(", "{"} else [value.strip()]
    if isinstance(items, (bytes, Mapping)) or not isinstance(items, Collection):
        raise InvalidInputError(f"{name} is {_shown(value)}: it must be a list, such as [{such_as!r}]")
    if not items or not all(isinstance(item, str) and item for item in items):
        raise InvalidInputError(
            f"{name} is {_shown(value)}: it must name at least one, such as [{such_as!r}], or be left out"
        )
    # A member of an enumeration that is a str is written as its name.
    words = [str.__str__(item) for item in items]
    return tuple(dict.fromkeys(sorted(words) if isinstance(items, (set, frozenset)) else words))


def _description(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} is {_shown(value)}: it must be text, such as 'nightly-*'")
    if not value.strip(" *?"):  # also what is left of 'PREFIX*' when a template rendered the prefix to nothing
        raise InvalidInputError(f"{name} is {_shown(value)}, which selects nothing or all: give a prefix, or no {name}")
    return str.__str__(value)


def _moment(name: str, value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise InvalidInputError(
            f"{name} is {_shown(value)}: it must be a datetime, or ISO 8601 text such as '2026-01-31T00:00:00Z'"
        )
    if moment.utcoffset() is None:
        raise InvalidInputError(
            f"{name} is {_shown(value)}, which has no time zone: append Z to text for UTC, or make the datetime with"
            " tzinfo=UTC"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInputError(f"{name} is {_shown(value)}: no such moment in UTC") from None


def _span(name: str, value: Any) -> float | None:
    try:
        return seconds(name, _from_text(value))
    except ValueError:
        raise InvalidInputError(
            f"{name} is {_shown(value)}: it must be a timedelta, or seconds as a number, greater than 0"
        ) from None


def _amount(name: str, value: Any) -> float:
    try:
        return require_positive(name, _from_text(value))
    except ValueError:
        raise InvalidInputError(f"{name} is {_shown(value)}: it must be a number greater than 0") from None


_READERS: Mapping[str, Callable[[str, Any], Any]] = MappingProxyType(
    {
        "project_id": _project_id,
        "states": _states,
        "types": _types,
        "description": _description,
        "created_before": _moment,
        "created_after": _moment,
        "older_than": _span,
        "min_eecu_seconds": _amount,
    }
)


def _from_text(value: Any) -> Any:
    """Read a number from text, as templates render; what is none stays as it is, to be refused by name."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _literal(name: str, text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    raise InvalidInputError(f"{name} is {_shown(text)}: it is neither JSON nor a Python literal")


def _is_none(name: str) -> InvalidInputError:
    return InvalidInputError(f"{name} is None, or was rendered to None: leave it out, or give it a value")


# What is said about it


def _is_like(description: str | None, glob: str) -> bool:
    return description is not None and fnmatchcase(description, glob)


def _about(operation: Operation, *, now: float) -> str:
    description = operation.description
    words = [str(operation.state), "no description" if description is None else _shown(description)]
    if operation.eecu_seconds is not None:
        words.append(f"{operation.eecu_seconds:.1f} EECU-seconds")
    if operation.create_time is not None:
        words.append(f"{_duration(max(0.0, now - operation.create_time.timestamp()), rounded=True)} old")
    return ", ".join(words)


def _duration(length: float, *, rounded: bool = False) -> str:
    """Say how long, in the largest unit that fits, or that fits to a tenth."""
    for unit, unit_seconds in _UNITS:
        count = length / unit_seconds
        if count >= 1 and (rounded or round(count, 1) == count):
            return _counted(round(count, 1), unit)
    return _counted(round(length) if rounded else length, "second")


def _counted(count: float, unit: str) -> str:
    return f"{count:.15g} {unit}{'' if count == 1 else 's'}"


def _shown(value: Any, *, most: int = 80) -> str:
    """Quote a value, shortened. The description of an operation is any text that anybody gave it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an int of more digits than Python prints, or a class that refuses
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."
