"""Chromium without a screen, driven by Playwright, and all that the pages in it were sent."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["EXECUTABLE", "Visit", "visiting"]

EXECUTABLE = shutil.which("chromium") or shutil.which("google-chrome")
"""Playwright's own browser is not installed: this one is, by .ci/install-browser."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_TIMEOUT = 20_000.0  # ms; a busy machine takes seconds to answer

_VALUES = """() => [
    ...[...document.querySelectorAll("input, textarea, select")].map((field) => field.value),
    ...[localStorage, sessionStorage].flatMap((storage) => Object.values(storage)),
    document.cookie,
]"""


class Visit:
    """One profile of a browser, its page, and what that page holds and was sent.

    :param page: the page.
    :param archive: file for what it was sent; it is complete when the visit is over.
    """

    def __init__(self, page: Page, archive: Path) -> None:
        self.page = page
        self._archive = archive
        self.held: list[str] = []

    def look(self) -> None:
        """Keep all that the page holds now: its text, its fields, its storage."""
        self.held += [self.page.content(), *map(str, self.page.evaluate(_VALUES))]

    def received(self) -> Iterator[tuple[str, str]]:
        """Address, and headers and body, of every answer that the page got; of a visit that is over."""
        for entry in json.loads(self._archive.read_text())["log"]["entries"]:
            yield entry["request"]["url"], json.dumps(entry["response"]["headers"]) + _body(entry["response"])


def _body(response: dict[str, Any]) -> str:
    content = response["content"]
    text = content.get("text", "")
    return base64.b64decode(text).decode("utf-8", "replace") if content.get("encoding") == "base64" else str(text)


@contextmanager
def visiting(folder: Path) -> Iterator[Visit]:
    """Start a browser with a profile of its own; leaving the block ends it.

    :param folder: an empty folder, for the profile and the archive.
    """
    from playwright.sync_api import sync_playwright

    archive = folder / "archive.har"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=EXECUTABLE,
            args=_FLAGS,
            locale="en-US",
            color_scheme="light",
            viewport={"width": 1200, "height": 800},
            record_har_path=archive,
            record_har_content="embed",
        )
        context.set_default_timeout(_TIMEOUT)
        page = context.pages[0]
        try:
            yield Visit(page, archive)
        except BaseException as error:
            with suppress(Exception):  # what went wrong is more than what there was to see
                error.add_note(f"{page.url} shows\n{page.locator('body').aria_snapshot()}")
            raise
        finally:
            context.close()
