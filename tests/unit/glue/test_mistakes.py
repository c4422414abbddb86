"""docs/troubleshooting.md shows what is on the screen: each of its mistakes is made, and its words are compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from tests.support.clock import AdvancingClock
from tests.unit.glue.conftest import SetConnection
from tests.unit.glue.mistakes import MISTAKES, PROJECT, Place

PAGE = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
LEAST = 20


class Entry(NamedTuple):
    """What the page says of a mistake: its words, the message, why it comes, what to do."""

    words: str
    seen: str
    why: str
    remedy: str


def entries(text: str) -> list[Entry]:
    found = re.findall(
        r"^### `([^\n]+)`\n\n```text\n(.+?)\n```\n\nWhy: (.+?)\n\nDo: (.+?)(?=\n\n#|\n*\Z)",
        text,
        re.DOTALL | re.MULTILINE,
    )
    return [Entry(*each) for each in found]


ENTRIES = {entry.words: entry for entry in entries(PAGE)}


@pytest.fixture
def emulator(clock: AdvancingClock) -> Emulator:
    return Emulator(projects=(PROJECT,), clock=clock.time, pending_seconds=0, run_seconds=1000, cancel_seconds=1000)


@pytest.fixture
def place(
    emulator: Emulator,
    server: EmulatorServer,
    set_connection: SetConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> Place:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # a command sets it; put back after the test
    return Place(emulator, server, set_connection, tmp_path, monkeypatch, caplog, capsys)


def test_the_page_has_every_mistake_and_no_other() -> None:
    assert set(ENTRIES) == set(MISTAKES)
    assert len(ENTRIES) == PAGE.count("\n### ") >= LEAST


def test_the_entries_of_a_part_are_in_the_order_of_the_alphabet() -> None:
    for part in PAGE.split("\n## "):
        words = [entry.words.strip("'").lower() for entry in entries(part)]
        assert words == sorted(words)


@pytest.mark.parametrize("words", MISTAKES)
def test_the_page_shows_what_is_on_the_screen(words: str, place: Place) -> None:
    told = _plain(_as_on_the_page(MISTAKES[words](place), place))
    entry = ENTRIES[words]
    assert words in told
    assert words in _plain(entry.seen), "the heading is not in the message"
    rest = told
    for piece in filter(None, _plain(entry.seen).split(" ...")):
        before, found, rest = rest.partition(piece)
        assert found, f"{piece!r} is not in {before!r}"


def _as_on_the_page(told: str, place: Place) -> str:
    """Put the addresses and paths of production in place of those of this test."""
    told = told.replace(place.server.base_url, "https://earthengine.googleapis.com")
    return told.replace(str(place.directory), "/etc/airflow").replace("127.0.0.1", "oauth2.googleapis.com")


def _plain(text: str) -> str:
    return " ".join(text.split())
