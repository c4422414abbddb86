"""The parts of the benchmarks that do not measure: statistics, judgement, tables, the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import page
from tests.benchmarks.results import (
    Part,
    Row,
    at_least,
    at_most,
    bends,
    markdown,
    missed,
    number,
    percentile,
    plain,
    requests_per_poll,
    slope,
)


def part(*rows: Row) -> Part:
    return Part("some", "Some figures", ("what", "measured"), rows, ("How it was measured.",))


@pytest.mark.parametrize(
    ("target", "reached", "words"),
    [
        (at_most(33.0, 33.0, " s"), True, "at most 33 s"),
        (at_most(33.1, 33.0, " s"), False, "at most 33 s"),
        (at_least(50.0, 50), True, "at least 50"),
        (at_least(49.9, 50), False, "at least 50"),
        (at_most(float("inf"), 11), False, "at most 11"),
    ],
)
def test_a_limit_may_be_met_and_not_passed(target: Any, reached: bool, words: str) -> None:
    assert (target.reached, target.words) == (reached, words)


def test_what_was_missed_is_named() -> None:
    parts = [part(Row(("good", "1"), at_most(1, 2)), Row(("plain", "9"))), part(Row(("bad", "3"), at_most(3, 2)))]
    assert missed(parts) == ["some: bad, 3: to reach: at most 2"]
    assert missed(parts[:1]) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3000, "3000"), (0.0, "0"), (0.04567, "0.0457"), (33.0, "33"), (31.62, "31.6"), (1234.5, "1234")],
)
def test_digits(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.51, 3), (1.0, 4), (0.0, 1)])
def test_percentile(share: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], share) == value


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_slope_is_the_power_that_costs_grow_with(power: float) -> None:
    assert slope([(x, 3 * x**power) for x in (10.0, 100.0, 3000.0)]) == pytest.approx(power)


def test_a_bend_is_where_one_more_costs_more() -> None:
    assert bends([(10, 10), (100, 100), (1000, 1090), (3000, 6000), (10000, 20000)]) == [3000]


def asked(method: str, name: str | None, token: str | None = None) -> dict[str, Any]:
    return {"method": method, "name": name, "query": {} if token is None else {"pageToken": token}}


def test_requests_of_a_poll_that_lists() -> None:
    poll = [asked("list", None), asked("list", None, "2"), asked("get", "one")]
    assert requests_per_poll(poll * 4, seconds=45, interval=10) == 3


def test_requests_of_a_poll_of_one_get_each() -> None:
    polls = [asked("get", f"number {number}") for number in range(300)] * 3
    assert requests_per_poll(polls, seconds=30, interval=10) == 300


def test_polls_of_several_at_once_add_up() -> None:
    assert requests_per_poll([asked("list", None)] * 40, seconds=40, interval=10) == 10


def test_nothing_was_asked() -> None:
    assert requests_per_poll([], seconds=40, interval=10) == 0


def test_tables() -> None:
    shown = part(Row(("time", "3 s"), at_most(3, 2, " s")), Row(("none", "1")))
    assert markdown(shown).splitlines() == [
        "| what | measured | to reach | reached |",
        "|---|---|---|---|",
        "| time | 3 s | at most 2 s | NO |",
        "| none | 1 |  |  |",
    ]
    assert plain(shown).splitlines() == [
        "Some figures",
        "what  measured  to reach     reached",
        "----  --------  -----------  -------",
        "time  3 s       at most 2 s  NO",
        "none  1",
    ]
    assert "reached" not in markdown(part(Row(("none", "1"))))


@pytest.mark.parametrize(
    ("value", "verdict"), [(1, "Every figure below was reached."), (3, "Figures that were not reached: 1.")]
)
def test_the_page_says_what_ran_and_whether_it_was_enough(tmp_path: Path, value: float, verdict: str) -> None:
    page.write([part(Row(("time", "3 s"), at_most(value, 2)))], tmp_path, arguments=["--only", "some"])
    text = (tmp_path / "benchmarks.md").read_text()
    assert "Command: `python -m tests.benchmarks --only some`." in " ".join(text.splitlines())
    assert verdict in text.splitlines()
    assert "## Some figures\n\n| what |" in text
    assert text.endswith("How it was measured.\n")


@pytest.mark.parametrize(("value", "code"), [(2, 0), (3, 1)])
def test_a_missed_figure_ends_with_1_after_all_is_written(
    value: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "set anew by main, restored by monkeypatch")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    parts = {
        "first": lambda _: part(Row(("time", "3 s"), at_most(value, 2))),
        "second": lambda _: part(Row(("a", "b"))),
    }
    monkeypatch.setattr(command, "PARTS", parts)
    assert command.main(["--output", str(tmp_path)]) == code
    assert (tmp_path / "benchmarks.md").read_text().count("## Some figures") == 2
    assert ("missed: some: time" in capsys.readouterr().out) == (code == 1)


def test_a_part_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "cancel,everything"])
    assert "no such part: everything; there are cancel, quota, confirm" in capsys.readouterr().err
