"""How the cost grows with the number of operations: to cancel, to poll, to store a trigger."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence

from tests.benchmarks.cancelling import Scale, figures_of
from tests.benchmarks.emulating import emulating
from tests.benchmarks.measuring import MIB, json_of, progress
from tests.benchmarks.results import Curve, Part, Row, at_most, bends, number, slope

__all__ = ["growth", "main"]

_SIZES = (10, 100, 1000, 3000, 10000)
_FROM = 100
"""Below, what every call costs is more than what an operation costs."""
_LEAST_MEMORY = 0.1
"""MiB; less cannot be told from none."""
_LINEAR = 1.05
"""The power of the number of operations; the rest is what the measurement varies by."""

_COSTS = {
    "cancel": {"seconds": "s", "cpu": "CPU s", "memory": "MiB"},
    "poll": {"seconds": "s", "cpu": "CPU s", "memory": "MiB"},
    "trigger": {"bytes": "KiB"},
}


def growth(scale: Scale) -> Part:
    """Measure each size in a process of its own."""
    sizes = [size for size in _SIZES if size <= max(scale.operations * 4, 1000)]
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for size in sizes:
        with emulating(scale.folder / f"growth-{size}", "--cancel-seconds", "0") as server:
            names = server.add(size)
            cancel = figures_of("api", server, names, scale.folder, concurrency=32)
            poll = figures_of("observe", server, names, scale.folder)
        stored = json_of("growth", seconds=120, given=json.dumps(names), env={"AIRFLOW_HOME": _home(scale)})
        progress(f"growth: {size}: cancelled in {cancel['seconds']:.2f} s")
        for what, figures in (("cancel", cancel), ("poll", poll)):
            figures["memory"] = max(figures["memory"] / MIB, _LEAST_MEMORY)
            for cost in _COSTS[what]:
                points.setdefault((what, cost), []).append((size, figures[cost]))
        points.setdefault(("trigger", "bytes"), []).append((size, stored / 1024))
    rows = [_row(what, cost, points[what, cost]) for what, costs in _COSTS.items() for cost in costs]
    curves = {
        f"{cost}": tuple(Curve(what, tuple(points[what, key])) for what in ("cancel", "poll"))
        for key, cost in (("seconds", "seconds"), ("cpu", "CPU seconds"), ("memory", "MiB more than before"))
    }
    return Part(
        "growth",
        "How the cost grows",
        ("what", *(f"{size}" for size in sizes), "power", "costs more per operation at"),
        tuple(rows),
        (
            f"""Cancel: 100 ms latency, no quota, 32 at once, no look afterwards. Poll: one look at all of them, by
            listing. Each size in a process of its own: CPU of the whole process, the most memory above what it had
            before. Trigger: its arguments as the database stores them, before they are encrypted. The power is that of
            the number of operations, fitted from {_FROM} on: 1 is linear, less is better; up to {_LINEAR} is taken for
            linear. The last column has the sizes at which one operation costs over 10 % more than at the size
            before.""",
        ),
        curves,
    )


def _home(scale: Scale) -> str:
    return tempfile.mkdtemp(prefix="airflow-", dir=scale.folder)


def _row(what: str, cost: str, points: Sequence[tuple[float, float]]) -> Row:
    fitted = [point for point in points if point[0] >= _FROM]
    power = slope(fitted)
    shown = [number(value) for _, value in points]
    worse = ", ".join(number(size) for size in bends(fitted)) or "none"
    return Row((f"{what}, {_COSTS[what][cost]}", *shown, f"{power:.2f}", worse), at_most(round(power, 2), _LINEAR))


def main() -> int:
    """Print how many characters the arguments of a trigger have that waits for these operations."""
    from airflow_provider_eeops.triggers.operations import EarthEngineOperationsTrigger

    _, arguments = EarthEngineOperationsTrigger(operations=json.load(sys.stdin)).serialize()
    print(len(json.dumps(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
