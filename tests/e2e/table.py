"""The page docs/kill-matrix.md: the figures of each Airflow version, kept beside it as JSON, as Markdown tables.

The JSON is what is stored: a run replaces its own version's figures in it, and the page is written anew from all.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.matrix import Record, Row

__all__ = ["page", "store"]

_HEAD = """# The kill matrix

Each row is a way for a task to end badly, and an owner of Earth Engine operations. `make kill-matrix` lets each happen
on a real Airflow (scheduler with LocalExecutor, triggerer, DAG processor, two API servers, SQLite; of Airflow 2 one
webserver, and PostgreSQL, as on SQLite it runs but one task at a time) and writes this page. What is told of operations
and requests was read from the [emulator](emulator.md), not from Airflow.

A row passes when every operation that the owner has was asked to cancel within the bound and ended CANCELLED, when
the log of who asked names each of them with its outcome, and when no other operation was asked: a sibling task's,
another run's, a later try's. Where nothing is to be cancelled it passes when nothing was, and the wait ended as it
should within the bound. Where a row does not hold before a later Airflow, the result says what was seen, and what to
use instead.

- first, last: seconds from the event until the first and until the last of the operations was asked to cancel. An
  event that is a limit (a timeout) is the moment in which the limit was over.
- sent: requests to cancel, repetitions and those that failed counted, for so many operations. An operator's include
  those it is there for.
- who: where the log is that names the operations and their outcomes. `worker` is the process of the task itself;
  another task or try is named. `trigger` is the log of the waiting task's trigger; `triggerer` is the triggerer's own,
  where lines go that come after Airflow has put that log away.

A task's heartbeat was set to {heartbeat} s, for which Airflow's default is 5 s; a task counts as lost after
{timeout} s without one, for which it is 300 s. The bounds are for these settings.
"""

_COLUMNS = "| # | owner | event | who | first | last | sent | bound | result |\n|---|---|---|---|---|---|---|---|---|\n"


def store(
    file: Path,
    version: str,
    rows: Sequence[Row],
    records: Mapping[str, Record],
    *,
    cannot_run: Mapping[str, str],
    seconds: float,
) -> None:
    """Put the figures of one version into the JSON file; a run of some rows replaces those of these rows alone.

    :param file: the file.
    :param version: Airflow's.
    :param rows: all rows, in order.
    :param records: what was seen of each.
    :param cannot_run: why rows cannot be run on this version.
    :param seconds: how long the suite took.
    """
    known = json.loads(file.read_text()) if file.exists() else {}
    left_out = [_told(row, version) | {"why": cannot_run[row.key]} for row in rows if row.key in cannot_run]
    before = known.get(version, {"seconds": 0, "rows": [], "again": []})
    figures = {row["row"]: row for row in before["rows"]}
    figures |= {row.key: _told(row, version) | records[row.key].to_dict() for row in rows if row.key in records}
    whole = len(records) + len(left_out) == len(rows)
    known[version] = {
        "seconds": round(seconds) if whole else before["seconds"],
        "again": [] if whole else [row.key for row in rows if row.key in {*before.get("again", []), *records}],
        "cannot_run": left_out,
        "rows": [figures[row.key] for row in rows if row.key in figures],
    }
    file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def page(known: Mapping[str, Any], *, heartbeat: float, timeout: float) -> str:
    """The page, of what the JSON file holds.

    :param known: the figures by version.
    :param heartbeat: seconds between a task's heartbeats.
    :param timeout: seconds without one after which it counts as lost.
    """
    parts = [_HEAD.format(heartbeat=heartbeat, timeout=timeout)]
    for version in sorted(known, key=_sortable, reverse=True):
        figures = known[version]
        passed = sum(row["passed"] for row in figures["rows"])
        known_not_to = sum(not row["passed"] and row.get("instead") is not None for row in figures["rows"])
        apart = f", {known_not_to} do not hold on this version" if known_not_to else ""
        again = figures.get("again")
        parted = f" Rows of another run: {'; '.join(again)}." if again else ""
        told = f"{passed} of {len(figures['rows'])} rows pass{apart}; the suite took {figures['seconds']} s.{parted}"
        parts.append(
            f"## Airflow {version}\n\n{textwrap.fill(told, 120)}\n\n{_COLUMNS}"
            + "".join(map(_line, figures["rows"]))
            + "".join(map(_left_out, figures.get("cannot_run", ())))
        )
    return "\n".join(parts)


def _told(row: Row, version: str) -> dict[str, Any]:
    return {
        "number": row.number,
        "owner": row.owner,
        "event": row.event,
        "bound": row.bound.seconds,
        "because": row.bound.because,
        "cancelled": row.cancelled,
        "instead": None if row.holds_on(version) else row.instead,
    }


def _line(row: Mapping[str, Any]) -> str:
    cells = (
        row["number"],
        row["owner"],
        row["event"],
        ", ".join(row["who"]) if row["cancelled"] else "nobody is to",
        _seconds(row["first"]),
        _seconds(row["last"]),
        f"{row['sent']} for {row['owned']}",
        f"{row['bound']:g} s: {row['because']}",
        _result(row),
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _left_out(row: Mapping[str, Any]) -> str:
    cells = (row["number"], row["owner"], row["event"], *"-----", f"not run: {row['why']}")
    return f"| {' | '.join(cells)} |\n"


def _result(row: Mapping[str, Any]) -> str:
    if row["passed"]:
        return "passes"
    seen = "; ".join(row["problems"])
    instead = row.get("instead")
    return f"**fails**: {seen}" if instead is None else f"does not hold: {seen}; use instead: {instead}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _sortable(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
