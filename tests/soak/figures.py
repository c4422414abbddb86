"""The figures of one run, each with the limit that it has to keep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from statistics import median
from typing import Any

from tests.benchmarks.results import Part, Row, Target, at_least, at_most, number, percentile
from tests.soak.emulating import SoakServer
from tests.soak.judging import Flatness, Verdict, cancel_errors, flatness, judge
from tests.soak.running import Options, Run

__all__ = ["figures", "told"]

_RATIO = 1.1
"""What memory may be in the last third, of what it was in the first."""
_MORE = 32
"""What there may be more of anything that is counted: an outage leaves idle connections and threads behind, up to the
size of their pools."""
_LATE_SECONDS = 60.0
"""How late an event may be beyond its interval: a request that failed is sent again, and a poll that was answered late
is not begun anew."""
_LEAST_FAULTS = 0.03
_ASKED = ("get", "list", "cancel", "token")

_JUDGED = ("runner RSS", "all PSS")
_MEMORY = (*_JUDGED, "runner USS")
_COUNTED = tuple(f"{whose} {what}" for what in ("sockets", "descriptors", "threads") for whose in ("runner", "all"))
_RATES = tuple(f"{method} a second" for method in _ASKED)


def figures(run: Run, server: SoakServer) -> tuple[Part, list[str]]:
    """Judge a run; return the table, and a line for each thing that is wrong.

    :param run: what happened.
    :param server: the emulator, whose word on the operations counts.
    """
    emulator = server.emulator
    truths = {name: emulator.truth(name) for name in run.planned}
    verdict = judge(run.waits, truths, run.seen, outages=server.outages)
    wrong_cancels = cancel_errors(run.cancels, emulator.cancels_taken, run.outcomes)
    rows = [*_events(run, verdict), *_setting(run, server), *_flat(run)]
    rows += [
        _row("cancels asked for", len(run.cancels), at_least(len(run.cancels), 1)),
        _row("cancels too many, or told wrongly", len(wrong_cancels), at_most(len(wrong_cancels), 0)),
        _row("files with a key or token", len(run.leaks), at_most(len(run.leaks), 0)),
    ]
    wrong = [line for lines in verdict.wrong.values() for line in lines] + wrong_cancels + run.leaks
    ends = Counter(truth.state or truth.outcome for truth in truths.values())
    notes = (f"Operations ended: {', '.join(f'{count} {end}' for end, count in ends.most_common())}.",)
    title = f"One triggerer, {len(run.planned)} operations in {run.schedule.seconds / 60:.0f} min"
    return Part("soak", title, ("what", "first third", "last third", "most", "an hour adds"), tuple(rows), notes), wrong


def _row(what: str, value: float | str, target: Target | None = None) -> Row:
    return Row((what, value if isinstance(value, str) else number(value), "", "", ""), target)


def _events(run: Run, verdict: Verdict) -> list[Row]:
    late = list(verdict.late.values()) or [float("inf")]
    wrong = [_row(f"events {kind}", len(lines), at_most(len(lines), 0)) for kind, lines in verdict.wrong.items()]
    return [
        _row("waits", len(run.waits), at_least(len(run.waits), 1)),
        _row("of these over several operations", sum(len(wait.names) > 1 for wait in run.waits.values())),
        *wrong,
        _row("seconds from end to event beyond the interval, median", percentile(late, 0.5)),
        _row("the same, of 99 %", percentile(late, 0.99)),
        _row("the same, the longest", max(late), at_most(max(late), _LATE_SECONDS, " s")),
    ]


def _setting(run: Run, server: SoakServer) -> list[Row]:
    """Whether it was as hard as it says."""
    emulator = server.emulator
    records = emulator.requests_since(0)
    asked = Counter(record.method for record in records)
    share = sum(emulator.faults.values()) / max(len(records), 1)
    firsts = sum(record.method == "list" and "pageToken" not in record.query for record in records)
    alive = median(run.alive[len(run.alive) // 10 : -len(run.alive) // 5])
    refused = sum(record.status == 401 for record in records)
    minutes = run.schedule.seconds / 60
    return [
        _row("operations at a time, median", alive, at_least(alive, 0.9 * max(run.alive))),
        *(_row(f"requests: {method}", asked[method]) for method in _ASKED),
        _row("requests of one listing", asked["list"] / max(firsts, 1)),
        _row("share of requests that failed", share, at_least(share, _LEAST_FAULTS)),
        _row("of these for a token", emulator.faults["token"]),
        _row("tokens issued", len(emulator.tokens), at_least(len(emulator.tokens), 2 * minutes)),
        _row("requests refused with 401", refused, at_least(refused, 1)),
        _row("times the emulator was away", len(server.outages), at_least(len(server.outages), 2)),
        _row("seconds it was", sum(end - start for start, end in server.outages)),
        _row("seconds that the triggers' event loop stood still at most", run.blocked),
    ]


def _flat(run: Run) -> list[Row]:
    """Whether the end of the run was as its beginning."""
    measured = {
        what: flatness(run.samples, what, since=run.schedule.warm, until=run.schedule.seconds)
        for what in (*_MEMORY, *_COUNTED, *_RATES)
    }
    limits = {
        **{what: at_most(measured[what].ratio, _RATIO, " times the first") for what in _JUDGED},
        **{what: at_most(measured[what].last - measured[what].first, _MORE, " more") for what in _COUNTED},
    }
    return [_flat_row(what, seen, limits.get(what)) for what, seen in measured.items()]


def _flat_row(what: str, seen: Flatness, target: Target | None) -> Row:
    unit = ", MiB" if what in _MEMORY else ""
    return Row((f"{what}{unit}", *map(number, (seen.first, seen.last, seen.most)), f"{seen.slope:+.1f}"), target)


def told(run: Run, server: SoakServer, part: Part, options: Options) -> dict[str, Any]:
    """All of it, for a file.

    :param run: what happened.
    :param server: the emulator.
    :param part: the table.
    :param options: what was run.
    """
    return {
        "about": {
            "airflow": version("apache-airflow"),
            "cores": os.cpu_count(),
            "options": asdict(options),
            "outages": [[start - run.began, end - run.began] for start, end in server.outages],
            "operations": list(part.notes),
        },
        "figures": [_told_row(row) for row in part.rows],
        "samples": [{"at": round(each.at, 1), **_rounded(each.values)} for each in run.samples],
    }


def _told_row(row: Row) -> dict[str, Any]:
    cells: Sequence[str] = [cell for cell in row.cells if cell]
    limit = None if row.target is None else {"words": row.target.words, "reached": row.target.reached}
    return {"what": cells[0], "seen": cells[1:], "limit": limit}


def _rounded(values: Any) -> dict[str, float]:
    return {what: round(value, 2) for what, value in values.items()}
