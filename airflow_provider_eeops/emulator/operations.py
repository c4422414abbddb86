"""What an operation is at a moment: a pure function of its record and the time."""

import datetime as dt
import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["ApiVersion", "Operation", "State", "payload_of", "rfc3339", "state_of"]

ApiVersion = str

CANCELLED_CODE = 1
_EPOCH = "1970-01-01T00:00:00Z"
_PRIORITY = 100
_EECU_PER_SECOND = 1.5

_STAGES = {
    "EXPORT_IMAGE": ("Create Local Files", "Write Files to Destination"),
    "EXPORT_FEATURES": ("Create Local Files", "Write Files to Destination"),
    "EXPORT_TILES": ("Create Tiles", "Write Tiles to Destination"),
    "EXPORT_VIDEO": ("Render Frames", "Write Files to Destination"),
}
_OTHER_STAGES = ("Run", "Write to Destination")


class State(StrEnum):
    """The states Earth Engine reports in the metadata of an operation."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @property
    def terminal(self) -> bool:
        """Whether the state never changes again."""
        return self in _TERMINAL


_TERMINAL = frozenset({State.SUCCEEDED, State.CANCELLED, State.FAILED})


@dataclass(slots=True)
class Operation:
    """What is decided about one operation, and the moment a cancel was requested.

    :param sequence: position in the order of creation, over all projects
    :param ends: the state it comes to when nothing stops it
    :param ignores_cancel: shows CANCELLING after a cancel was requested, and still comes to its own end
    """

    name: str
    project: str
    sequence: int
    description: str
    type: str
    created: float
    pending_seconds: float
    run_seconds: float
    cancel_seconds: float
    ends: State
    error_code: int
    error_message: str
    ignores_cancel: bool = False
    cancel_requested_at: float | None = None
    destination_uris: tuple[str, ...] = ()

    @property
    def start(self) -> float:
        """When it leaves the queue if nothing stops it."""
        return self.created + self.pending_seconds

    @property
    def own_end(self) -> float:
        """When it ends if nothing stops it."""
        return self.start + self.run_seconds

    @property
    def cancel_end(self) -> float | None:
        """When it is cancelled; None if that never happens."""
        if self.cancel_requested_at is None or self.ignores_cancel:
            return None
        return self.cancel_requested_at + self.cancel_seconds


def state_of(operation: Operation, now: float) -> State:
    """State of an operation at a moment."""
    cancel_end = operation.cancel_end
    if cancel_end is not None:
        return State.CANCELLED if now >= cancel_end else State.CANCELLING
    if now >= operation.own_end:
        return operation.ends
    if operation.cancel_requested_at is not None:
        return State.CANCELLING
    return State.RUNNING if now >= operation.start else State.PENDING


def payload_of(
    operation: Operation, now: float, *, version: ApiVersion = "v1alpha", sparse: bool = False
) -> dict[str, Any]:
    """Operation as the REST API shows it.

    :param sparse: leave out what Earth Engine was seen to leave out on fresh operations
    """
    state = state_of(operation, now)
    payload: dict[str, Any] = {
        "name": operation.name,
        "metadata": _metadata(operation, state, now, version=version, sparse=sparse),
    }
    if not state.terminal:
        return payload  # proto3 JSON has no `"done": false`
    payload["done"] = True
    if state is State.SUCCEEDED:
        payload["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty"}
    elif state is State.CANCELLED:
        payload["error"] = {"code": CANCELLED_CODE, "message": "Cancelled."}
    else:
        payload["error"] = {"code": operation.error_code, "message": operation.error_message}
    return payload


@functools.lru_cache(maxsize=4096)  # a listing asks for the same moments over and over
def rfc3339(seconds: float) -> str:
    """Timestamp as Google writes it: fraction only if there is one."""
    moment = dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    return moment.isoformat().removesuffix("+00:00") + "Z"


def _metadata(operation: Operation, state: State, now: float, *, version: ApiVersion, sparse: bool) -> dict[str, Any]:
    ended = _ended_at(operation, state)
    started = _started_at(operation, now if ended is None else ended)
    metadata: dict[str, Any] = {
        "@type": f"type.googleapis.com/google.earthengine.{version}.OperationMetadata",
        "state": state.value,
        "description": operation.description,
        "type": operation.type,
        "priority": _PRIORITY,
        "createTime": rfc3339(operation.created),
        "updateTime": rfc3339(_updated_at(operation, state, now)),
        "startTime": _EPOCH if started is None else rfc3339(started),
        "attempt": 1,
    }
    if sparse and state is State.PENDING:
        for field in ("state", "priority", "startTime", "attempt"):
            del metadata[field]
        return metadata
    if ended is not None:
        metadata["endTime"] = rfc3339(ended)
    if started is not None:
        until = now if ended is None else ended
        progress = 1.0 if state is State.SUCCEEDED else _progress(operation, until)
        if progress:
            metadata["progress"] = progress
        metadata["stages"] = _stages(operation.type, progress, sparse=sparse)
        metadata["batchEecuUsageSeconds"] = round((until - started) * _EECU_PER_SECOND, 6)
    if state is State.SUCCEEDED and operation.destination_uris:
        metadata["destinationUris"] = list(operation.destination_uris)
    return metadata


def _ended_at(operation: Operation, state: State) -> float | None:
    if not state.terminal:
        return None
    return operation.cancel_end if state is State.CANCELLED else operation.own_end


def _started_at(operation: Operation, until: float) -> float | None:
    requested = operation.cancel_requested_at
    if requested is not None and not operation.ignores_cancel:
        until = min(until, requested)  # a request for cancel takes it out of the queue
    return operation.start if operation.start <= until else None


def _updated_at(operation: Operation, state: State, now: float) -> float:
    ended = _ended_at(operation, state)
    if ended is not None:
        return ended
    if state is State.CANCELLING and operation.cancel_requested_at is not None:
        return operation.cancel_requested_at
    return now if state is State.RUNNING else operation.created


def _progress(operation: Operation, until: float) -> float:
    if operation.run_seconds <= 0:
        return 1.0
    return round(min(1.0, (until - operation.start) / operation.run_seconds), 6)


def _stages(operation_type: str, progress: float, *, sparse: bool) -> list[dict[str, Any]]:
    names = _STAGES.get(operation_type, _OTHER_STAGES)
    stages = []
    for position, name in enumerate(names):
        done = round(min(1.0, max(0.0, progress * len(names) - position)), 6)
        stage: dict[str, Any] = {"displayName": name}
        if done and not sparse:
            stage["completeWorkUnits"] = done
        if not sparse:
            stage["totalWorkUnits"] = "1"  # a string: int64 in proto3 JSON
            stage["description"] = f"{name}."
        stages.append(stage)
    return stages
