"""Starts whose answer never came: which operations of a listing they are, if they are any.

A request id finds its operation only by a repetition of the start. Where that is not possible, or the server does not
name the operation, what is left is the listing: an operation of the same type and description, made at the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.models import Operation

__all__ = ["Ambiguity", "Intent", "Recovered", "match_intents", "recover"]

_SKEW = 60.0
"""Seconds that the server's clock may be off."""

_START_SECONDS = 180.0
"""Within which a start reached the server, if it did: what a call may take, and a minute."""

_SHOWN = 5


@dataclass(frozen=True)
class Intent:
    """A start that may have been made.

    :param project_id: its project.
    :param type: of the export.
    :param description: of the export.
    :param since: seconds since the epoch at which it was first to be made; None if that is not known.
    :param until: and last; None if it may have been since.
    """

    project_id: str
    type: str
    description: str
    since: float | None = None
    until: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """Read what :meth:`to_dict` made.

        :raises ValueError: it is something else.
        """
        if not isinstance(value, Mapping) or not all(isinstance(value.get(key), str) for key in _TEXTS):
            raise ValueError("no intent of a start")
        since, until = value.get("since"), value.get("until")
        return cls(
            **{key: value[key] for key in _TEXTS},
            since=None if since is None else float(since),
            until=None if until is None else float(until),
        )

    def may_be(self, operation: Operation) -> bool:
        """Whether an operation of the same project may be the one."""
        if (operation.type, operation.description or "") != (self.type, self.description):
            return False
        if operation.create_time is None:
            return True
        made = operation.create_time.timestamp()
        if self.since is not None and made < self.since - _SKEW:
            return False
        return self.until is None or made <= self.until + _START_SECONDS + _SKEW


_TEXTS = ("project_id", "type", "description")


@dataclass(frozen=True)
class Ambiguity:
    """Starts that cannot be told from others'.

    :param intents: the starts.
    :param candidates: operations that they may be.
    """

    intents: tuple[Intent, ...]
    candidates: tuple[str, ...]

    def __str__(self) -> str:
        first = self.intents[0]
        many = f"{len(self.intents)} starts" if len(self.intents) > 1 else "a start"
        names = ", ".join(self.candidates[:_SHOWN])
        more = f" and {len(self.candidates) - _SHOWN} more" if len(self.candidates) > _SHOWN else ""
        found = f"any of {names}{more}" if self.candidates else "none of the operations listed"
        return (
            f"{many} of {first.type} {first.description!r} in project {first.project_id} had no answer, and may be"
            f" {found}: look at them, and cancel by name what nobody waits for"
        )


@dataclass
class Recovered:
    """What became of starts without an answer.

    :param operations: those found, by the index of the intent.
    :param ambiguous: those that cannot be told from others'.
    """

    operations: dict[int, Operation] = field(default_factory=dict)
    ambiguous: list[Ambiguity] = field(default_factory=list)


def match_intents(
    intents: Sequence[Intent], listed: Mapping[str, Sequence[Operation]], *, taken: Collection[str] = ()
) -> Recovered:
    """Find the operations of starts without an answer in listings.

    Starts of one description are told from each other by nothing: as many operations as there are such starts are
    theirs, the oldest the first one's; with more of them, one may be somebody else's, and none is taken.

    :param intents: the starts.
    :param listed: operations by project.
    :param taken: operations that are known to be another start's.
    """
    alike: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index, intent in enumerate(intents):
        alike[intent.project_id, intent.type, intent.description].append(index)
    taken, recovered = frozenset(taken), Recovered()
    for (project_id, *_), indices in alike.items():
        candidates = [
            operation
            for operation in listed.get(project_id, ())
            if operation.name not in taken and any(intents[index].may_be(operation) for index in indices)
        ]
        candidates.sort(key=lambda operation: operation.create_time.timestamp() if operation.create_time else 0.0)
        if len(candidates) <= len(indices):
            recovered.operations.update(zip(indices, candidates, strict=False))
        else:
            recovered.ambiguous.append(
                Ambiguity(tuple(intents[index] for index in indices), tuple(operation.name for operation in candidates))
            )
    return recovered


def recover(
    client: EarthEngineOperationsClient, intents: Iterable[Intent], *, taken: Collection[str] = ()
) -> Recovered:
    """Ask for the operations of starts without an answer: one listing a project.

    :param client: whom to ask.
    :param intents: the starts.
    :param taken: operations that are known to be another start's.
    :raises EarthEngineError: a listing failed.
    """
    intents = list(intents)
    wanted: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for intent in intents:
        wanted[intent.project_id].add((intent.type, intent.description))
    listed = {
        project_id: [
            operation
            for operation in client.list_operations(project_id)
            if (operation.type, operation.description or "") in kinds
        ]
        for project_id, kinds in wanted.items()
    }
    return match_intents(intents, listed, taken=taken)
