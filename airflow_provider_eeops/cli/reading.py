"""What commands are given: names from arguments and stdin, selection flags, spans of time, a yes."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_eeops.cli.printing import say
from airflow_provider_eeops.exceptions import InvalidInputError

__all__ = ["check_can_confirm", "confirmed", "flags_named", "given_operations", "selection_flags", "span"]

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_FLAGS = {
    "states": "--state",
    "types": "--type",
    "description": "--description",
    "created_before": "--created-before",
    "created_after": "--created-after",
    "older_than": "--older-than",
    "min_eecu_seconds": "--min-eecu-seconds",
}
"""Parameters of a selector, and the flags that they are here."""

_PARAMETER_OR_QUOTED = re.compile(rf"'[^']*'|\"[^\"]*\"|\b(?:{'|'.join(_FLAGS)}|accepted_states)\b")


def selection_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Return the selection that the flags make, empty if there is none.

    :param args: the command's arguments.
    :raises InvalidInputError: a span of time cannot be read.
    """
    given = {name: getattr(args, name, None) for name in _FLAGS}
    given["older_than"] = span("--older-than", given["older_than"])
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def flags_named() -> Iterator[None]:
    """Have an error name the flag that was given, not the parameter that it sets."""
    flags = {**_FLAGS, "accepted_states": "--accept"}
    try:
        yield
    except InvalidInputError as error:
        told = _PARAMETER_OR_QUOTED.sub(lambda found: flags.get(found[0], found[0]), str(error))
        raise InvalidInputError(told) from None


def given_operations(args: argparse.Namespace) -> list[Any]:
    """Return what was given as operations, stdin in place of ``-``.

    :param args: the command's arguments.
    :raises InvalidInputError: stdin cannot be read, or is to be read twice.
    """
    if args.operations.count("-") > 1:
        raise InvalidInputError("'-' is given more than once: stdin can be read only once")
    given: list[Any] = []
    for operation in args.operations:
        given.extend(_lines(_stdin()) if operation == "-" else [operation])
    return given


def _stdin() -> str:
    if sys.stdin is None:
        raise InvalidInputError("'-' reads stdin, which is closed")
    if sys.stdin.isatty():
        say("Reading operations from the terminal, one a line, up to Ctrl-D.")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise InvalidInputError("stdin is no text: give names one a line, or JSON") from None


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


def check_can_confirm(*, yes: bool) -> None:
    """Refuse, before any request, what nobody can confirm.

    :param yes: whether a yes was given.
    :raises InvalidInputError: it was not, and there is nobody to ask.
    """
    if not yes and (sys.stdin is None or not sys.stdin.isatty()):
        raise InvalidInputError("stdin is no terminal to confirm on: give --yes. Nothing was done")


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask for a yes, unless it was given.

    :param question: what is to be done.
    :param yes: whether it was given.
    """
    if yes:
        return True
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
