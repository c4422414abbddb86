"""Operation, its state, the outcome and the report. Values only: nothing here asks or decides what to do next."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from airflow_provider_eeops.exceptions import (
    CODES,
    EarthEngineError,
    NotFoundError,
    PermissionDeniedError,
    ProjectNotAllowedError,
    UnimplementedError,
)

__all__ = [
    "TERMINAL_STATES",
    "Operation",
    "OperationResult",
    "OperationState",
    "Outcome",
    "Report",
    "counted",
    "listing",
    "merged",
]


class OperationState(StrEnum):
    """States of an operation.

    See https://developers.google.com/earth-engine/reference/rest/Shared.Types/State.
    """

    STATE_UNSPECIFIED = "STATE_UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


TERMINAL_STATES = frozenset({OperationState.SUCCEEDED, OperationState.CANCELLED, OperationState.FAILED})


class Outcome(StrEnum):
    """What became of one operation."""

    #: Observed: done with ``error.code == 1``, or in the state CANCELLED with no error, as a listing may leave the
    #: error out. With any other error it has failed, whatever its state says.
    CANCELLED = "cancelled"
    #: The server accepted ``:cancel``; it was not observed to end yet.
    CANCEL_REQUESTED = "cancel_requested"
    #: Observed: done, but not cancelled, before or in spite of the request.
    FINISHED_FIRST = "finished_first"
    #: The server knows no such operation: it has expired, was deleted, or never was.
    NOT_FOUND = "not_found"
    #: The principal may not do this.
    PERMISSION_DENIED = "permission_denied"
    #: The server does not implement the method.
    UNSUPPORTED = "unsupported"
    #: It was not observed to end before the wait ended, whether time ran out or not.
    NOT_CONFIRMED = "not_confirmed_in_time"
    #: No request was made for it: validate_only.
    NOT_REQUESTED = "not_requested"
    #: None of these; the error says what.
    ERROR = "error"

    @property
    def words(self) -> str:
        """The outcome as logs and messages say it."""
        # Who waits may stop for another reason than time: only the verdict of the wait tells.
        return "not confirmed" if self is Outcome.NOT_CONFIRMED else self.value.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Operation:
    """An Earth Engine operation as the API showed it at one moment.

    Reading is lenient: a field that is missing or of another type is None.

    :param name: ``projects/P/operations/ID``.
    :param state: its state; derived from ``done`` and ``error`` where these say more than ``metadata.state``.
    :param error_code: google.rpc.Code of ``error``.
    :param error_message: message of ``error``.
    :param description: the user's description.
    :param type: such as ``EXPORT_IMAGE``.
    :param progress: from 0 to 1.
    :param eecu_seconds: batch compute used so far, in EECU-seconds.
    :param attempt: starts at 1; Earth Engine retries by itself.
    :param destination_uris: outputs.
    :param create_time: when it was created.
    :param start_time: when it started to run; None before.
    :param end_time: when it ended.
    """

    name: str
    state: str = OperationState.STATE_UNSPECIFIED
    error_code: int | None = None
    error_message: str | None = None
    description: str | None = None
    type: str | None = None
    progress: float | None = None
    eecu_seconds: float | None = None
    attempt: int | None = None
    destination_uris: tuple[str, ...] = ()
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None

    @classmethod
    def from_payload(cls, payload: Any, *, name: str | None = None) -> Self:
        """Read an Operation as the API sends it.

        :param payload: the JSON object; of any other value nothing is known.
        :param name: the name that was asked for, if one was.
        """
        payload = _mapping(payload)
        metadata = _mapping(payload.get("metadata"))
        error = _mapping(payload.get("error"))
        uris = metadata.get("destinationUris")
        return cls(
            name=name or _text(payload.get("name")) or "",
            state=_state(payload, metadata),
            error_code=_integer(error.get("code")),
            error_message=_text(error.get("message")),
            description=_text(metadata.get("description")),
            type=_text(metadata.get("type")),
            progress=_number(metadata.get("progress")),
            eecu_seconds=_number(metadata.get("batchEecuUsageSeconds")),
            attempt=_integer(metadata.get("attempt")),
            destination_uris=tuple(filter(None, map(_text, uris))) if isinstance(uris, list) else (),
            create_time=_time(metadata.get("createTime")),
            start_time=_time(metadata.get("startTime")),
            end_time=_time(metadata.get("endTime")),
        )

    @property
    def confirmed(self) -> bool:
        """Whether it was observed to be terminal, whichever way."""
        return self.state in TERMINAL_STATES

    @property
    def progress_words(self) -> str:
        """State, percent and EECU-seconds, as far as they are known."""
        words: list[str] = [str(self.state)]
        if self.progress is not None and not self.confirmed:
            words.append(f"{self.progress:.0%}")
        if self.eecu_seconds is not None:
            words.append(f"{self.eecu_seconds:.1f} EECU-seconds")
        if self.error_message:
            words.append(self.error_message)
        return ", ".join(words)

    @property
    def outcome(self) -> Outcome | None:
        """What became of it, or None while that is open."""
        if not self.confirmed:
            return None
        return Outcome.CANCELLED if self.state == OperationState.CANCELLED else Outcome.FINISHED_FIRST


def _state(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Derive the state: of what has ended ``error`` says how, ``metadata.state`` may lag, be missing or disagree."""
    state = _text(metadata.get("state")) or OperationState.STATE_UNSPECIFIED
    if payload.get("done") is not True and state not in TERMINAL_STATES:
        return state
    error = payload.get("error")
    if error:  # also one that cannot be read: what has an error did not succeed
        cancelled = _integer(_mapping(error).get("code")) == CODES["CANCELLED"]
        return OperationState.CANCELLED if cancelled else OperationState.FAILED
    return state if state in TERMINAL_STATES else OperationState.SUCCEEDED


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    """Read text; what UTF-8 cannot write or PostgreSQL cannot store would break a log line or an XCom."""
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else None


_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _number(value: Any) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    """Read a number of 32 bits, as both that an Operation has are; Airflow's messages have no room for any other."""
    number = _number(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < _OVER_32_BITS else None


_OVER_32_BITS = 2**31


def _time(value: Any) -> datetime | None:
    """Read an RFC 3339 timestamp; 1970 is how Earth Engine says 'not yet'."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None and moment.timestamp() > 0 else None


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What became of one operation.

    :param name: the operation name, or the offending value if it was not one.
    :param outcome: what became of it.
    :param state: its state when last seen, if it was seen.
    :param error_code: google.rpc.Code of the operation's error, or else of the request's.
    :param error_message: the message that belongs to it.
    """

    name: str
    outcome: Outcome
    state: str | None = None
    error_code: int | None = None
    error_message: str | None = None

    @classmethod
    def from_operation(cls, operation: Operation, *, otherwise: Outcome) -> Self:
        """Say what became of an operation that was seen.

        :param operation: the operation.
        :param otherwise: the outcome if it was not terminal.
        """
        return cls(
            name=operation.name,
            outcome=operation.outcome or otherwise,
            state=operation.state,
            error_code=operation.error_code,
            error_message=operation.error_message,
        )

    @classmethod
    def from_error(cls, name: str, error: EarthEngineError, *, state: str | None = None) -> Self:
        """Say what became of an operation from the error that a request about it met.

        :param name: the operation.
        :param error: the error.
        :param state: its state when last seen, if it was.
        """
        match error:
            case NotFoundError():
                outcome = Outcome.NOT_FOUND
            case PermissionDeniedError() | ProjectNotAllowedError():
                outcome = Outcome.PERMISSION_DENIED
            case UnimplementedError():
                outcome = Outcome.UNSUPPORTED
            case _:
                outcome = Outcome.ERROR
        return cls(name=name, outcome=outcome, state=state, error_code=error.code, error_message=error.reason)

    def __str__(self) -> str:
        about = f" ({self.state})" if self.state else ""
        because = f": {self.error_message}" if self.error_message else ""
        return f"{self.name}: {self.outcome.words}{about}{because}"


_NO_STATE = frozenset({Outcome.PERMISSION_DENIED, Outcome.UNSUPPORTED, Outcome.ERROR})


def merged(older: OperationResult, newer: OperationResult) -> OperationResult:
    """Say what became of one operation, from what was known and what was learned after.

    A request that was accepted stays accepted: what asking for the state met afterwards is no answer to it.

    :param older: what was known.
    :param newer: what was learned after.
    """
    if older.outcome is not Outcome.CANCEL_REQUESTED:
        return newer
    state = newer.state or older.state
    because = f": {newer.error_message}" if newer.error_message else ""
    if newer.outcome in _NO_STATE:
        message = f"cancellation was requested, asking for its state met {newer.outcome.words}{because}"
        return replace(newer, outcome=Outcome.NOT_CONFIRMED, state=state, error_message=message)
    if newer.outcome is Outcome.NOT_FOUND:
        message = f"cancellation was requested, and the operation is no longer there{because}"
        return replace(newer, state=state, error_message=message)
    return replace(newer, state=state)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each operation, in the order they were given."""

    results: tuple[OperationResult, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of operations by outcome; only outcomes that occurred."""
        found = Counter(result.outcome for result in self.results)
        return {outcome.value: found[outcome] for outcome in Outcome if found[outcome]}

    @property
    def total(self) -> str:
        """The number of operations in words: ``3 operations``."""
        return counted(len(self.results))

    @property
    def summary(self) -> str:
        """The counts in words: ``3 operations: 2 cancelled, 1 not found``."""
        return f"{self.total}: {self.counts_words}" if self.results else self.total

    @property
    def states_words(self) -> str:
        """States in words where they are terminal, else the outcome: ``2 SUCCEEDED, 1 not found``."""
        ended = Counter(
            str(result.state) if result.state in TERMINAL_STATES else result.outcome.words for result in self.results
        )
        return ", ".join(f"{count} {word}" for word, count in ended.items())

    @property
    def counts_words(self) -> str:
        """The counts alone in words: ``2 cancelled, 1 not found``."""
        return ", ".join(f"{count} {Outcome(outcome).words}" for outcome, count in self.counts.items())

    def having(self, *outcomes: Outcome) -> tuple[OperationResult, ...]:
        """Results with one of these outcomes."""
        return tuple(result for result in self.results if result.outcome in outcomes)

    def updated(self, newer: Iterable[OperationResult]) -> Report:
        """Merge newer results into those of the same name; names not known yet come last."""
        by_name = {result.name: result for result in self.results}
        for result in newer:
            older = by_name.get(result.name)
            by_name[result.name] = result if older is None else merged(older, result)
        return Report(tuple(by_name.values()))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form, for XCom and trigger events."""
        return {
            "counts": self.counts,
            "operations": [
                {
                    "name": result.name,
                    "outcome": result.outcome.value,
                    "state": result.state and str(result.state),
                    "error_code": result.error_code,
                    "error_message": result.error_message,
                }
                for result in self.results
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            tuple(
                OperationResult(
                    name=item["name"],
                    outcome=Outcome(item["outcome"]),
                    state=item["state"],
                    error_code=item["error_code"],
                    error_message=item["error_message"],
                )
                for item in data["operations"]
            )
        )


def counted(number: int) -> str:
    """Say how many operations, as ``1 operation`` or ``2 operations``.

    :param number: how many.
    """
    return f"{number} operation{'' if number == 1 else 's'}"


def listing(results: Sequence[OperationResult], *, most: int = 20) -> str:
    """List results, a line each, the first few of many.

    :param results: the results.
    :param most: lines at most.
    """
    lines = [f"- {result}" for result in results[:most]]
    if len(results) > most:
        lines.append(f"- and {len(results) - most} more, all in the report")
    return "\n".join(lines)
