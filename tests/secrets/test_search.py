"""The search finds what it is to find, in each place a secret can be left, also in part and in other spellings."""

from __future__ import annotations

import base64
import html
import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from airflow_provider_eeops.api.logfields import log_fields
from airflow_provider_eeops.exceptions import EarthEngineError
from tests.support.secret_search import RecordsOfAll, Search, left_by_error, shown_by
from tests.support.versions import HAS_NO_FIELDS, IS_AIRFLOW_2

KEY = f"-----BEGIN PRIVATE KEY-----\n{'Zq3+/' * 12}\n{'kW9/+' * 12}\n-----END PRIVATE KEY-----\n"
TOKEN = "ya29.planted/token+of-a-test-0123456789-and-longer"


@pytest.fixture
def search() -> Search:
    search = Search()
    search.plant("the key", KEY)
    search.plant("the token", TOKEN)
    return search


@pytest.mark.parametrize(
    "leak",
    [
        f"Bearer {TOKEN}",
        f"?token={quote(TOKEN, safe='')}",
        html.escape(f"<{TOKEN}>"),
        json.dumps({"token": TOKEN}).replace("/", "\\/"),
        *(base64.b64encode(b"x" * n + f":{TOKEN} and more".encode()).decode() for n in range(3)),
        base64.urlsafe_b64encode(f"token={TOKEN}".encode()).decode(),
        TOKEN[:20],
        TOKEN[-20:],
        json.dumps({"private_key": KEY}),
        KEY.splitlines()[1],
        KEY.splitlines()[2],
        base64.b64encode(json.dumps({"private_key": KEY}).encode()).decode(),
        quote(KEY),
    ],
)
def test_each_spelling_is_found(leak: str, search: Search) -> None:
    assert len(search.found_in([f"nothing, {leak}, nothing", "nothing"])) == 1


def test_nothing_is_found_where_nothing_is(search: Search) -> None:
    assert search.found_in(["-----BEGIN PRIVATE KEY-----", "ya29.", "", "Bearer [secret]"]) == []


@dataclass
class Holder:
    secret: str


def _with(error: Exception, **fields: object) -> Exception:
    error.__dict__.update(fields)
    return error


def _noted() -> Exception:
    error = ValueError("harmless")
    error.add_note(TOKEN)
    return error


def _caused() -> Exception:
    error = ValueError("harmless")
    error.__cause__ = KeyError(TOKEN)
    return error


def _in_context() -> Exception:
    try:
        try:
            json.loads("[" + json.dumps(TOKEN))
        except ValueError:
            raise EarthEngineError("harmless") from None
    except EarthEngineError as error:
        caught = error
    return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError(TOKEN),
        _with(ValueError("harmless"), request=Holder(TOKEN)),
        _with(ValueError("harmless"), details=[{"echo": TOKEN.encode()}]),
        _noted(),
        _caused(),
        _in_context(),
    ],
)
def test_what_an_error_holds_is_found(error: Exception, search: Search) -> None:
    assert search.found_in(left_by_error(error)) != []


def test_a_variable_of_ours_is_found_in_the_traceback(search: Search) -> None:
    from airflow_provider_eeops.checks import require_choice

    try:
        require_choice("x", TOKEN[:0] + "a", [TOKEN])  # the variable choices has it; the message too
    except ValueError as error:
        met = error
    met.args = ("harmless",)
    assert search.found_in(left_by_error(met)) != []


@pytest.mark.parametrize("thing", [Holder(TOKEN), {"a": [TOKEN]}, pickle.dumps(TOKEN)])
def test_what_an_object_shows_is_found(thing: object, search: Search) -> None:
    assert search.found_in(shown_by(thing)) != []


def _with_a_field(logger: logging.Logger) -> None:
    with log_fields(operation=TOKEN):
        logger.debug("harmless")


@pytest.mark.parametrize(
    "log",
    [
        lambda logger: logger.debug("Sent %s", TOKEN),
        lambda logger: logger.debug("Sent", extra={"request": {"headers": TOKEN}}),
        lambda logger: logger.debug("harmless", exc_info=_in_context()),
        pytest.param(_with_a_field, marks=pytest.mark.skipif(IS_AIRFLOW_2, reason=HAS_NO_FIELDS)),
    ],
)
def test_what_is_logged_is_found(log: Callable[[logging.Logger], None], records: RecordsOfAll, search: Search) -> None:
    log(logging.getLogger("google.auth.transport"))
    assert search.found_in(records.texts()) != []
