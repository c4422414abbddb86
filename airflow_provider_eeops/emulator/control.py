"""The control API under /emulator/, for those who drive the emulator from another process."""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_provider_eeops.emulator.answers import Answer, error_answer, json_answer
from airflow_provider_eeops.emulator.errors import ApiError
from airflow_provider_eeops.emulator.faults import Fault
from airflow_provider_eeops.emulator.service import Emulator

__all__ = ["respond"]

_Parameters = dict[str, Any]


def respond(emulator: Emulator, verb: str, path: str, query: Mapping[str, str], body: bytes) -> Answer:
    """Answer a request to the control API.

    :param path: what follows `/emulator/`
    """
    action = _ACTIONS.get((verb, path))
    if action is None:
        return error_answer(ApiError(404, f"The emulator has no {verb} /emulator/{path}."))
    try:
        parameters = _json_object(body) if verb == "POST" else dict(query)
        return json_answer(action(emulator, parameters) or {})
    except (TypeError, ValueError) as error:
        return error_answer(ApiError(400, str(error)))


def _health(emulator: Emulator, _: _Parameters) -> _Parameters:
    return {"status": "ok", "projects": emulator.projects}


def _operations(emulator: Emulator, _: _Parameters) -> _Parameters:
    return {"operations": [_summary(emulator, name) for name in emulator.names()]}


def _add_operation(emulator: Emulator, parameters: _Parameters) -> _Parameters:
    if "count" not in parameters:
        return {"name": emulator.add_operation(**parameters)}
    count = parameters.pop("count")
    if not isinstance(count, int) or "operation_id" in parameters:
        raise ValueError("count is a whole number, and leaves no choice of an operation_id")
    return {"names": [emulator.add_operation(**parameters) for _ in range(count)]}


def _remove_operations(emulator: Emulator, _: _Parameters) -> None:
    emulator.remove_operations()


def _requests(emulator: Emulator, parameters: _Parameters) -> _Parameters:
    records = emulator.requests_since(int(parameters.get("since", 0)))
    return {"requests": [dataclasses.asdict(record) for record in records]}


def _counts(emulator: Emulator, parameters: _Parameters) -> _Parameters:
    records = emulator.requests_since(int(parameters.get("since", 0)))
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        counts[record.method][str(record.status)] += 1
    return {"next": emulator.next_request_number, "counts": counts}


def _add_fault(emulator: Emulator, parameters: _Parameters) -> None:
    emulator.add_fault(_fault(parameters))


def _clear_faults(emulator: Emulator, _: _Parameters) -> None:
    emulator.clear_faults()


def _deny(emulator: Emulator, parameters: _Parameters) -> None:
    emulator.deny(**parameters)


def _allow_all(emulator: Emulator, _: _Parameters) -> None:
    emulator.allow_all()


_ACTIONS: Final[Mapping[tuple[str, str], Callable[[Emulator, _Parameters], _Parameters | None]]] = {
    ("GET", "health"): _health,
    ("GET", "operations"): _operations,
    ("POST", "operations"): _add_operation,
    ("DELETE", "operations"): _remove_operations,
    ("GET", "requests"): _requests,
    ("GET", "counts"): _counts,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "denials"): _deny,
    ("DELETE", "denials"): _allow_all,
}


def _summary(emulator: Emulator, name: str) -> _Parameters:
    metadata = emulator.operation(name)["metadata"]
    fields = ("description", "type", "createTime", "updateTime", "startTime", "endTime")
    return {
        "name": name,
        "state": emulator.state(name),
        "cancelRequested": emulator.cancel_requested(name),
        **{field: metadata[field] for field in fields if field in metadata},
    }


def _json_object(body: bytes) -> _Parameters:
    parameters = json.loads(body or b"{}")
    if not isinstance(parameters, dict):
        raise TypeError("the body is not a JSON object")
    return parameters


def _fault(parameters: _Parameters) -> Fault:
    known = {field.name for field in dataclasses.fields(Fault)}
    unknown = sorted(parameters.keys() - known)
    if unknown:
        raise ValueError(f"a fault has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    if isinstance(parameters.get("body"), str):
        parameters["body"] = parameters["body"].encode()
    return Fault(**parameters)
