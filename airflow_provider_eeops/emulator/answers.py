"""Answers as bytes: of calls, of errors and of faults."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_eeops.emulator.errors import ApiError
from airflow_provider_eeops.emulator.faults import Fault

__all__ = ["JSON_TYPE", "Answer", "error_answer", "json_answer", "with_fault"]

JSON_TYPE = "application/json; charset=UTF-8"

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_OAUTH_METHODS = frozenset({"token", "sts"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    :param name: operation that the request started, for the log
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON_TYPE
    name: str | None = None


def json_answer(payload: Any, *, status: int = 200, name: str | None = None) -> Answer:
    """Answer that holds JSON."""
    return Answer(status, _encode(payload), name=name)


def error_answer(error: ApiError) -> Answer:
    """Answer that is an error."""
    return Answer(error.code, _encode(error.payload()), headers=error.headers)


def with_fault(fault: Fault, method: str, answer: Answer | None) -> Answer:
    """Answer as a fault leaves it.

    :param answer: what would have been answered; None if the request did not take effect
    """
    if answer is None or fault.stands_in:
        answer = _stand_in(fault, method)
    headers = {**answer.headers, **fault.headers}
    return Answer(answer.status, answer.body, headers, fault.content_type or answer.content_type, answer.name)


def _stand_in(fault: Fault, method: str) -> Answer:
    status = fault.status or 200
    if fault.body is not None:
        return Answer(status, fault.body)
    oauth = None
    if method in _OAUTH_METHODS:
        oauth = fault.rpc_status or ("internal_failure" if status >= 500 else "invalid_grant")  # noqa: PLR2004
    return error_answer(ApiError(status, fault.message or "", rpc_status=fault.rpc_status, oauth=oauth))


def _encode(payload: Any) -> bytes:
    return _ENCODER.encode(payload).encode()
