"""What was measured, against the figure to reach: values, statistics and tables. Nothing here measures."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Curve",
    "Part",
    "Row",
    "Target",
    "at_least",
    "at_most",
    "bends",
    "markdown",
    "missed",
    "number",
    "percentile",
    "plain",
    "requests_per_poll",
    "slope",
]

_THOUSAND = 1000


@dataclass(frozen=True)
class Target:
    """A figure to reach.

    :param words: the figure as a page shows it.
    :param reached: whether it was.
    """

    words: str
    reached: bool


def at_most(value: float, limit: float, unit: str = "") -> Target:
    """The figure is a limit."""
    return Target(f"at most {number(limit)}{unit}", value <= limit)


def at_least(value: float, limit: float, unit: str = "") -> Target:
    """The figure is a least value."""
    return Target(f"at least {number(limit)}{unit}", value >= limit)


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells, and the figure to reach if it has one.

    :param cells: what stands in the columns.
    :param target: the figure to reach.
    """

    cells: tuple[str, ...]
    target: Target | None = None


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    :param label: what it shows.
    :param points: pairs of x and y.
    """

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Part:
    """One benchmark: a table, how it was measured, and a plot if a curve says more.

    :param name: as on the command line.
    :param title: as on the page.
    :param head: names of the columns; those of the figure to reach are added.
    :param rows: the lines.
    :param notes: how it was measured, a paragraph each.
    :param curves: lines of the plots, by the name of the y axis.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    curves: Mapping[str, tuple[Curve, ...]] = field(default_factory=dict)


def missed(parts: Iterable[Part]) -> list[str]:
    """The figures that were not reached, a line each."""
    return [
        f"{part.name}: {', '.join(filter(None, row.cells))}: to reach: {row.target.words}"
        for part in parts
        for row in part.rows
        if row.target is not None and not row.target.reached
    ]


def number(value: float) -> str:
    """A figure with as many digits as it is worth."""
    if value == int(value) or abs(value) >= _THOUSAND:
        return f"{value:.0f}"
    return f"{value:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that this share of the values do not exceed.

    :param values: at least one.
    :param share: from 0 to 1.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The power of x that y grows with: least squares on logarithms. 1 is linear.

    :param points: at least two, all positive.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def bends(points: Sequence[tuple[float, float]], *, tolerance: float = 0.1) -> list[float]:
    """Where a unit costs more than it did at the point before: the values of x there.

    :param points: in the order of x.
    :param tolerance: the share by which it may.
    """
    units = [(x, y / x) for x, y in points]
    return [x for (_, before), (x, now) in itertools.pairwise(units) if now > before * (1 + tolerance)]


def requests_per_poll(records: Sequence[Mapping[str, Any]], *, seconds: float, interval: float) -> float:
    """How many requests one poll of all operations takes.

    Each poll asks for the same page, or the same operation, once: what was asked for most often tells the polls.
    There cannot be more of them than the interval allows: then several poll at once, and their requests add up.

    :param records: requests of the emulator's log.
    :param seconds: the time they were made in.
    :param interval: seconds between polls.
    """
    asked = Counter((each["method"], each["name"], each["query"].get("pageToken")) for each in records)
    if not asked:
        return 0.0
    return len(records) / min(max(asked.values()), seconds / interval)


def markdown(part: Part) -> str:
    """A part as a page shows it, without its title."""
    lines = [f"| {' | '.join(cells)} |" for cells in _cells(part)]
    lines.insert(1, "|" + "---|" * len(_cells(part)[0]))
    return "\n".join(lines)


def plain(part: Part) -> str:
    """A part as a terminal shows it."""
    table = _cells(part)
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    table.insert(1, ["-" * width for width in widths])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
    return "\n".join(line.rstrip() for line in [part.title, *lines])


def _cells(part: Part) -> list[list[str]]:
    judged = any(row.target for row in part.rows)
    table = [[*part.head, *(("to reach", "reached") if judged else ())]]
    for row in part.rows:
        verdict = ("", "") if row.target is None else (row.target.words, "yes" if row.target.reached else "NO")
        table.append([*row.cells, *(verdict if judged else ())])
    return table
