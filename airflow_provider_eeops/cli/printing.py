"""What commands print: rows on stdout, all else on stderr, so that output can be piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Row", "print_fields", "print_rows", "say"]

Row = Mapping[str, Any]

_LEAST_COLUMN = 12
"""Characters that a column besides the first needs, for a table to be readable."""


def say(text: str) -> None:
    """Print to stderr.

    :param text: what to say.
    """
    if sys.stderr is not None:  # closed: print would take stdout in its place
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command prints


def print_rows(rows: Sequence[Row], output: str) -> None:
    """Print rows in Airflow's formats; JSON and YAML keep numbers and nulls as they are.

    :param rows: the rows; all have the same columns.
    :param output: ``table``, ``json``, ``yaml`` or ``plain``.
    """
    if output == "json":
        _write(json.dumps(list(rows), indent=2))
    elif output == "yaml":
        import yaml

        _write(yaml.safe_dump([dict(row) for row in rows], sort_keys=False).rstrip("\n"))
    else:
        _print_cells([{column: _cell(value) for column, value in row.items()} for row in rows], output)


def print_fields(rows: Sequence[Row], output: str) -> None:
    """Print rows of many columns; as a table, a line for each field.

    :param rows: the rows.
    :param output: ``table``, ``json``, ``yaml`` or ``plain``.
    """
    if output in {"json", "yaml"}:
        print_rows(rows, output)
    else:
        print_rows([{"field": name, "value": value} for row in rows for name, value in row.items()], output)


def _print_cells(rows: Sequence[Mapping[str, str]], output: str) -> None:
    if not rows:
        say("No data found")
        return
    from airflow.cli.simple_table import AirflowConsole

    console = AirflowConsole(markup=False, highlight=False)
    if output == "table" and _fits(rows, console.width):
        console.print_as(rows, "table")
        return
    from tabulate import tabulate

    # A name that is folded into a narrow column cannot be copied: the terminal may break the lines.
    _write(tabulate([list(row.values()) for row in rows], list(rows[0]), tablefmt="plain", disable_numparse=True))


def _fits(rows: Sequence[Mapping[str, str]], width: int) -> bool:
    first = max(len(next(iter(row.values()))) for row in rows)
    return first + _LEAST_COLUMN * (len(rows[0]) - 1) <= width


def _cell(value: Any) -> str:
    """Show a value in a terminal; what other people wrote may hold what steers it."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _write(text: str) -> None:
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    # What the terminal's encoding does not have must not end the command.
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201 - a command prints
