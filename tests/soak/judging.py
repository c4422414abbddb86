"""What was seen against what is true, and the end of a run against its beginning. Nothing here measures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.soak.plan import PlannedWait

__all__ = ["Flatness", "Sample", "Seen", "Truth", "Verdict", "cancel_errors", "flatness", "judge"]


@dataclass(frozen=True)
class Truth:
    """What became of one operation, as the emulator knows.

    :param outcome: as a report names it.
    :param state: its last; None if it vanished.
    :param ended: when it ended or vanished, seconds since the epoch.
    """

    outcome: str
    state: str | None
    ended: float


@dataclass(frozen=True)
class Seen:
    """What was seen of one wait.

    :param started: when its trigger started, as its log says; None if it never did.
    :param fired: when its trigger fired an event, each time.
    :param payloads: events that reached Airflow's database.
    """

    started: float | None
    fired: tuple[float, ...]
    payloads: tuple[Mapping[str, Any], ...]


@dataclass
class Verdict:
    """What is wrong with the events, and how late the right ones were.

    :param wrong: by kind, a line each.
    :param late: seconds from the end of the last operation to the event, beyond the interval, by map index.
    """

    wrong: dict[str, list[str]] = field(
        default_factory=lambda: {kind: [] for kind in ("missing", "double", "early", "untrue")}
    )
    late: dict[int, float] = field(default_factory=dict)


def judge(
    waits: Mapping[int, PlannedWait],
    truths: Mapping[str, Truth],
    seen: Mapping[int, Seen],
    *,
    outages: Sequence[tuple[float, float]] = (),
) -> Verdict:
    """Compare each wait's event with the truth.

    :param waits: all waits, by map index.
    :param truths: of each operation, by name.
    :param seen: of each wait, by map index.
    :param outages: when nobody could be asked, as pairs of seconds since the epoch; lateness leaves that out.
    """
    verdict = Verdict()
    for index, wait in waits.items():
        event = seen.get(index, Seen(None, (), ()))
        if not event.fired or not event.payloads:
            verdict.wrong["missing"].append(f"wait {index}: {len(event.fired)} fired, {len(event.payloads)} stored")
            continue
        if len(event.fired) > 1 or len(event.payloads) > 1:
            verdict.wrong["double"].append(f"wait {index}: {len(event.fired)} fired, {len(event.payloads)} stored")
        fired, ended = event.fired[0], max(truths[name].ended for name in wait.names)
        if fired < ended:
            verdict.wrong["early"].append(f"wait {index}: {ended - fired:.3f} s before the end")
        if (untrue := _untrue(wait, truths, event.payloads[0])) is not None:
            verdict.wrong["untrue"].append(f"wait {index}: {untrue}")
        since = max(ended, (event.started or ended) + wait.interval)  # it is not told before its own first poll
        verdict.late[index] = fired - since - _overlap(since, fired, outages) - wait.interval
    verdict.wrong["double"] += [f"wait {index} was never asked for" for index in seen.keys() - waits.keys()]
    return verdict


def _untrue(wait: PlannedWait, truths: Mapping[str, Truth], payload: Mapping[str, Any]) -> str | None:
    """Say what an event has that is not so."""
    if payload.get("verdict") != "settled":
        return f"{payload.get('verdict')}: {payload.get('message')}"
    told = [(each["name"], each["outcome"], each["state"]) for each in payload["report"]["operations"]]
    true = [(name, truths[name].outcome, truths[name].state) for name in wait.names]
    # What vanished may have been seen before, and its last state is told.
    told = [(name, outcome, None if outcome == "not_found" else state) for name, outcome, state in told]
    return None if told == true else f"told {told}, true is {true}"


def _overlap(since: float, until: float, outages: Iterable[tuple[float, float]]) -> float:
    return sum(max(0.0, min(until, end) - max(since, start)) for start, end in outages)


def cancel_errors(asked: Collection[str], taken: Collection[str], outcomes: Mapping[str, str]) -> list[str]:
    """Say which operations were cancelled that nobody asked for, or were said to be and are not.

    :param asked: operations whose cancellation was asked for.
    :param taken: those that the emulator was requested to cancel.
    :param outcomes: what the reports said, by name.
    """
    lines = [f"{name}: requested, though nobody asked" for name in sorted(set(taken) - set(asked))]
    lines += [
        f"{name}: said to be requested, and is not"
        for name, outcome in sorted(outcomes.items())
        if outcome in {"cancel_requested", "cancelled"} and name not in taken
    ]
    return lines + [f"{name}: not in a report" for name in sorted(set(asked) - outcomes.keys())]


@dataclass(frozen=True)
class Sample:
    """What was measured at one moment.

    :param at: seconds since the beginning.
    :param values: by what it is.
    """

    at: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Flatness:
    """How one value went.

    :param first: median of the first third.
    :param last: median of the last third.
    :param most: the greatest.
    :param slope: what an hour adds, fitted to all.
    """

    first: float
    last: float
    most: float
    slope: float

    @property
    def ratio(self) -> float:
        """The last third's to the first's."""
        return self.last / self.first if self.first else float("inf") if self.last else 1.0


def flatness(samples: Sequence[Sample], what: str, *, since: float, until: float) -> Flatness:
    """Compare the first third of a time with its last.

    :param samples: in the order of time.
    :param what: which of their values.
    :param since: seconds.
    :param until: seconds.
    :raises ValueError: there are too few.
    """
    third = (until - since) / 3
    points = [(each.at, each.values[what]) for each in samples if since <= each.at <= until]
    first = [value for at, value in points if at < since + third]
    last = [value for at, value in points if at >= until - third]
    if len(first) < 3 or len(last) < 3:
        raise ValueError(f"{len(points)} samples are too few to say whether {what} is flat")
    return Flatness(median(first), median(last), max(value for _, value in points), 3600 * _slope(points))


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """What a second adds: least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
