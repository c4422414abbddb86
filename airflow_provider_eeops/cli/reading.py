"""What commands are given: names from arguments and stdin, selection flags, spans of time, a yes."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from airflow_provider_eeops.cli.printing import say
from airflow_provider_eeops.exceptions import InvalidInputError

__all__ = ["confirmed", "given_operations", "selection_flags", "span"]

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_FLAGS = ("states", "types", "description", "created_before", "created_after", "older_than", "min_eecu_seconds")


def selection_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Return the selection that the flags make, empty if there is none.

    :param args: the command's arguments.
    :raises InvalidInputError: a span of time cannot be read.
    """
    given = {name: getattr(args, name, None) for name in _FLAGS}
    given["older_than"] = span("--older-than", given["older_than"])
    return {name: value for name, value in given.items() if value is not None}


def given_operations(args: argparse.Namespace) -> list[Any]:
    """Return what was given as operations, stdin in place of ``-``.

    :param args: the command's arguments.
    """
    given: list[Any] = []
    for operation in args.operations:
        given.extend(_lines(sys.stdin.read()) if operation == "-" else [operation])
    return given


def span(flag: str, text: str | None) -> float | None:
    """Read a span of time in seconds.

    :param flag: the flag, for the message.
    :param text: seconds, or a number with one of s, m, h, d.
    :raises InvalidInputError: it is neither.
    """
    if text is None:
        return None
    match = _SPAN.fullmatch(text.strip())
    length = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not length:
        raise InvalidInputError(f"{flag} is {text!r:.80}: give seconds, or such as 90m, 36h, 7d, greater than 0")
    return length


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask for a yes, unless it was given; a script is not asked.

    :param question: what is to be done.
    :param yes: whether it was given.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        say("Nothing was done: stdin is no terminal to confirm on, give --yes.")
        return False
    say(f"{question} [y/N]")
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    say("Nothing was done.")
    return False


def _lines(text: str) -> list[str]:
    """Read JSON as one value, of any shape that holds operations; else each line is one."""
    if text.lstrip()[:1] in {"[", "{", '"'}:
        return [text]
    return [line.strip() for line in text.splitlines() if line.strip()]
