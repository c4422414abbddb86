"""The page docs/faults.md: the table of cases as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from airflow_provider_eeops.api.retrying import Budget
from tests.faults.case import HURRIED, METHODS, Case, Expect, Method
from tests.faults.cases import CASES, PARTS
from tests.faults.several import SCENES

__all__ = ["Told", "expected_page", "page", "told"]


class Told(NamedTuple):
    """What the page says of a row."""

    gets: str
    tries: int
    waits: float
    above: str
    asked: bool


_HEAD = """# What happens when something fails

Each row is a fault on real sockets between the client and the [emulator](emulator.md), and what was seen of it:
`tests/faults` tries every row, and fails if this page says anything else.

A connection's defaults hold: {retries} retries, {deadline:g} s for a call. Requests are counted by the server; where
none can arrive, its connections. Waits are what is slept at most between tries. Rows in which a socket times out have
one retry, and the connection's timeouts come on top. In no row did an error, its pickle or a log line at DEBUG hold a
token, did another host see a connection, or was what was left of an answer taken for that of the next request.
"""

_INTRO: Mapping[Method, str] = {
    "get": "`get_operation`. The last column is what a poll makes of it: a failed poll is counted, and tried again.",
    "list": (
        "`list_operations` of a project with 12 operations. The last column is what a poll of all 12 says of each:"
        " where a listing does not tell, each operation is asked for by itself."
    ),
    "cancel": (
        "`cancel_operation`, and in the last columns what `cancel_operations` reports after a look at the operation,"
        " and whether the server was in truth asked to cancel."
    ),
    "token": (
        "`get_operation` without a token, while the token server fails. The last column is what `cancel_operations`"
        " reports of 12 operations; one failure is enough, and the others are not tried."
    ),
}
_TITLES: Mapping[Method, str] = {"get": "Get", "list": "List", "cancel": "Cancel", "token": "Token"}
_ABOVE: Mapping[Method, str] = {"get": "a poll", "list": "a poll", "cancel": "the report", "token": "the report"}


def told(expected: Expect) -> Told:
    """What the page says if all is as expected."""
    return Told(expected.gets, expected.tries, expected.longest, expected.above, expected.asked)


def expected_page() -> str:
    """The page, if all is as expected."""
    rows = {
        (case.what, method): told(expected)
        for case in CASES
        for method in METHODS
        if isinstance(expected := case.expected(method), Expect)
    }
    return page(rows, {scene.what: scene.told for scene in SCENES})


def page(rows: Mapping[tuple[str, Method], Told], scenes: Mapping[str, str]) -> str:
    """The page.

    :param rows: what was seen of each case and method.
    :param scenes: what was seen of each scene.
    """
    return "\n".join(
        [
            _HEAD.format(retries=Budget().retries, deadline=Budget().deadline),
            *(line for method in METHODS for line in _method(method, rows)),
            *_several(scenes),
        ]
    )


def _method(method: Method, rows: Mapping[tuple[str, Method], Told]) -> Iterator[str]:
    yield f"## {_TITLES[method]}\n\n{textwrap.fill(_INTRO[method], 120)}\n"
    truth = ["in truth"] if method == "cancel" else []
    head = ["fault", "the caller gets", "requests", "waits at most", _ABOVE[method], *truth]
    for part in PARTS:
        cases = [case for case in CASES if case.part == part]
        tried = [case for case in cases if (case.what, method) in rows]
        if tried:
            yield f"### {_TITLES[method]}: {part[0].lower() if part != 'TLS' else 'T'}{part[1:]}\n"
            yield _line(head)
            yield "|" + "---|" * len(head)
            yield from (_row(case, rows[case.what, method], with_truth=bool(truth)) for case in tried)
            yield ""
        left_out = [f"{case.what} ({case.expected(method)})" for case in cases if case not in tried]
        if left_out and not tried:
            yield f'Nothing under "{part}": {cases[0].expected(method)}.\n'
        elif left_out:
            yield from (f"- not tried: {each}" for each in left_out)
            yield ""


def _row(case: Case, row: Told, *, with_truth: bool) -> str:
    waits = f"{row.waits:g} s" if row.waits else "-"
    if case.budget is HURRIED:
        waits += ", and timeouts"
    requests = str(row.tries) if row.tries else "none arrives"
    truth = ["asked" if row.asked else "not asked"] if with_truth else []
    return _line([case.what, row.gets, requests, waits, row.above, *truth])


def _several(scenes: Mapping[str, str]) -> Iterator[str]:
    yield "## Several at once, and waits\n"
    yield _line(["what happens", "what came of it"])
    yield "|---|---|"
    yield from (_line([scene.what, scenes[scene.what]]) for scene in SCENES if scene.what in scenes)
    yield ""


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
