"""Airflow's pages, as a person uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

__all__ = ["ConnectionsPage", "TaskPage", "log_in"]


def log_in(page: Page, url: str, password: str) -> None:
    """Log in as ``admin``."""
    page.goto(url)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda address: "login" not in address)


class ConnectionsPage:
    """Admin > Connections.

    :param page: a page that is logged in.
    :param url: Airflow's address.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    def open(self) -> None:
        """Load it anew."""
        self.page.goto(f"{self._url}/connections")
        self.page.get_by_role("button", name="Add Connection").wait_for()

    @property
    def form(self) -> Locator:
        """The form that is open."""
        return self.page.get_by_role("dialog")

    def add(self, hook_name: str) -> None:
        """Open the form of a new connection, choose its type and, for the test in Airflow 3.3.2, the port 0."""
        self.page.get_by_role("button", name="Add Connection").click()
        self.form.get_by_role("combobox", name="Connection Type").fill(hook_name)
        self.page.get_by_role("option", name=hook_name, exact=True).click()
        self.form.get_by_label("Port (not used)").fill("0")
        self._show_fields()

    def edit(self, conn_id: str) -> None:
        """Open the form of a connection that is stored."""
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        self._show_fields()

    def _show_fields(self) -> None:
        self.form.get_by_text("Extra Fields", exact=True).click()
        self._field("project").wait_for(state="visible")

    def _field(self, name: str) -> Locator:
        return self.form.locator(f"[name=element_{name}]")

    def fill(self, **values: str) -> None:
        """Type into fields."""
        for name, value in values.items():
            self._field(name).fill(value)

    def name(self, conn_id: str) -> None:
        """Type the connection's id."""
        field = self.form.get_by_role("textbox", name="Connection ID")
        field.fill(conn_id)
        field.blur()

    @property
    def can_save(self) -> bool:
        """Whether the form may be saved as it is."""
        return self.form.get_by_role("button", name="Save").is_enabled()

    def picture(self, file: Path, *, height: int) -> None:
        """Take a picture of so many pixels of the page, with the form or what the test said."""
        before = self.page.viewport_size
        assert before is not None
        self.page.set_viewport_size({"width": before["width"], "height": height})
        if self.form.is_visible():
            self.form.get_by_role("heading").first.scroll_into_view_if_needed()
        if self._said.is_visible():
            self._said.hover()  # waits until it moves no more
        self.page.screenshot(path=file, animations="disabled")
        self.page.set_viewport_size(before)

    def save(self) -> None:
        """Save the form; it closes."""
        self.form.get_by_role("button", name="Save").click()
        self.form.wait_for(state="hidden")

    def shown(self) -> Mapping[str, tuple[str, str]]:
        """Kind and value of every field of the form that is one input."""
        found = self.form.locator("input[name^=element_]").evaluate_all(
            "fields => fields.map((field) => [field.name, field.type, field.value])"
        )
        return {name.removeprefix("element_"): (kind, value) for name, kind, value in found}

    def test(self, conn_id: str) -> str:
        """Press Test; return what it says."""
        self._row(conn_id).get_by_role("button", name="Test Connection").click()
        self._said.wait_for()
        return self._said.locator("..").inner_text()

    @property
    def _said(self) -> Locator:
        return self.page.get_by_text(re.compile(r"^Test Connection (Successful|Failed)$"))

    def _row(self, conn_id: str) -> Locator:
        return self.page.get_by_role("row").filter(has_text=conn_id)


class TaskPage:
    """The page of a task instance, with its details.

    :param page: a page that is logged in.
    :param url: Airflow's address.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    def open(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Load its details."""
        self.page.goto(f"{self._url}/dags/{dag_id}/runs/{quote(run_id, safe='')}/tasks/{task_id}/details")

    def links(self) -> Mapping[str, str]:
        """The links to Earth Engine, once they are there: their addresses by name."""
        links = self.page.get_by_role("link", name=re.compile("Earth Engine"))
        links.nth(1).wait_for()
        return dict(links.evaluate_all("all => all.map((link) => [link.innerText.trim(), link.getAttribute('href')])"))
