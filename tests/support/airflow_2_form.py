"""Airflow 2's form of a connection, filled in and opened again; prints what was seen as JSON. It takes its own process.

The page is asked for and posted as a browser does, without its scripts.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["main"]

_INPUT = re.compile(r"<input([^>]*)>")
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_EXTRA = re.compile(r'<textarea[^>]*name="extra"[^>]*>(.*?)</textarea>', re.DOTALL)
_PREFIX = "extra__earthengine__"


def main() -> None:
    """Go through it; the JSON of the keys to type comes on standard input."""
    typed = {f"{_PREFIX}{name}": value for name, value in json.load(sys.stdin).items()}
    pages = _Pages()
    blank = pages.show("add")
    pages.post("add", _posted(blank) | {"conn_id": "form", "conn_type": "earthengine"} | typed)
    pk, stored = pages.stored()
    shown = pages.show(f"edit/{pk}")
    changed = pages.post(f"edit/{pk}", _posted(shown) | {f"{_PREFIX}read_timeout": "20"})
    _, kept = pages.stored()
    refused = pages.post(
        f"edit/{pk}", _posted(shown) | {f"{_PREFIX}num_retries": "many", f"{_PREFIX}api_version": "v9"}
    )
    seen = {
        "blank": {name: each["type"] for name, each in _fields(blank).items()},
        "shown": {name: each["value"] for name, each in _fields(shown).items()},
        "stored": stored,
        "kept": kept,
        "refused": [text for text in ("Not a valid integer value", "Invalid value, must be one of") if text in refused],
        "pages": [blank, shown, changed, refused],
    }
    print(f"\n{json.dumps(seen)}")


class _Pages:
    """The web server, without a socket, and its user."""

    def __init__(self) -> None:
        from airflow.utils.db import initdb
        from airflow.www.app import create_app  # type: ignore[import-not-found]

        initdb()
        app = create_app(testing=True)
        app.config["WTF_CSRF_ENABLED"] = False
        users = app.appbuilder.sm
        users.add_user("admin", "a", "b", "a@one.example", users.find_role("Admin"), "admin")
        self._client = app.test_client()
        self._client.post("/login/", data={"username": "admin", "password": "admin"})

    def show(self, what: str) -> str:
        return str(self._client.get(f"/connection/{what}").get_data(as_text=True))

    def post(self, what: str, data: Mapping[str, str]) -> str:
        return str(self._client.post(f"/connection/{what}", data=data, follow_redirects=True).get_data(as_text=True))

    @staticmethod
    def stored() -> tuple[int, dict[str, Any]]:
        from airflow.providers.common.compat.sdk import Connection
        from airflow.utils.session import create_session

        with create_session() as session:
            connection: Any = session.query(Connection).filter_by(conn_id="form").one()
            return connection.id, json.loads(connection.extra)


def _inputs(page: str) -> list[dict[str, str]]:
    found = [dict(_ATTRIBUTE.findall(each)) for each in _INPUT.findall(page)]
    return [{name: html.unescape(value) for name, value in each.items()} for each in found if "name" in each]


def _fields(page: str) -> dict[str, dict[str, str]]:
    return {each["name"].removeprefix(_PREFIX): each for each in _inputs(page) if each["name"].startswith(_PREFIX)}


def _posted(page: str) -> dict[str, str]:
    """What a browser would post of a page that nobody typed into."""
    posted = {each["name"]: each.get("value", "") for each in _inputs(page) if each.get("type") in {"text", "password"}}
    extra = _EXTRA.search(page)
    return posted | {"conn_type": "earthengine", "extra": html.unescape(extra[1]).strip() if extra else ""}


if __name__ == "__main__":
    main()
