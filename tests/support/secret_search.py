"""Finds a secret in whatever a program leaves behind, also in part and in another spelling."""

from __future__ import annotations

import base64
import html
import json
import logging
import pickle
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import airflow_provider_eeops

try:
    from structlog.contextvars import get_contextvars
except ModuleNotFoundError:  # Airflow 2, whose log lines have no fields

    def get_contextvars() -> dict[str, Any]:
        return {}


__all__ = ["RecordsOfAll", "Search", "forms", "left_by_error", "left_by_record", "shown_by"]

_PACKAGE = str(Path(airflow_provider_eeops.__file__).parent)
_PART = 20
_DEEPEST = 6


def forms(secret: str) -> set[str]:
    """Every spelling of a secret that is as good as the secret: a key's lines, the ends of a long one, encodings."""
    pieces = {line for line in secret.replace("\\n", "\n").splitlines() if line and not line.startswith("-----")}
    pieces |= {end for piece in pieces if len(piece) > 2 * _PART for end in (piece[:_PART], piece[-_PART:])}
    found = {secret, *pieces}
    for piece in {secret, *pieces}:
        found |= {
            quote(piece, safe=""),
            quote(piece),
            json.dumps(piece)[1:-1],
            html.escape(piece),
            piece.replace("/", "\\/"),
        }
        found |= set(_in_base64(piece))
    return found


def _in_base64(text: str) -> Iterator[str]:
    """The base64 of a text, wherever in the encoded whole it begins; without the ends, which its neighbours change."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + text.encode())
        core = encoded[4 if shift else 0 : len(encoded) - len(encoded) % 4 - 4].decode()
        if len(core) >= _PART // 2:
            yield core
            yield core.replace("+", "-").replace("/", "_")


class Search:
    """Looks for secrets, which may become more as it goes."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}

    def plant(self, label: str, secret: str) -> str:
        """Look for a secret from now on; return it.

        :param label: what to call it when it is found.
        :param secret: the secret.
        """
        assert len(secret) >= 8, f"{label} would be found by chance"
        self._forms |= dict.fromkeys(forms(secret), label)
        return secret

    @property
    def planted(self) -> set[str]:
        """What is looked for."""
        return set(self._forms.values())

    def found_in(self, texts: Iterable[str]) -> list[str]:
        """Say which secrets are in the texts, and in what."""
        found = []
        for text in texts:
            for form, label in self._forms.items():
                if form in text:
                    at = text.index(form)
                    found.append(f"{label} in {text[max(at - 60, 0) : at]!r}[...]")
                    break
        return found


class RecordsOfAll(logging.Handler):
    """Keeps every record of every logger, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.__dict__["fields"] = get_contextvars()  # which structlog writes beside it
        self.records.append(record)

    def texts(self) -> Iterator[str]:
        for record in self.records:
            yield from left_by_record(record)


def left_by_record(record: logging.LogRecord) -> Iterator[str]:
    """What a log record may be written as, by any handler: its message, arguments, extras and traceback."""
    yield record.getMessage()
    yield logging.Formatter().format(record)
    yield repr({name: value for name, value in record.__dict__.items() if name != "exc_info"})
    if record.exc_info and record.exc_info[1] is not None:
        yield from left_by_error(record.exc_info[1])


def left_by_error(error: BaseException) -> Iterator[str]:
    """What an error reporter may take of an error, and of all that came before it: texts, fields, our variables."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.append(one)
        yield from (str(one), repr(one), *getattr(one, "__notes__", ()))
        yield from _inside((one.args, one.__dict__), depth=0)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename.startswith(_PACKAGE):
                for name, value in frame.f_locals.items():
                    yield f"{name} = {value!r}"
        waiting += [each for each in (one.__cause__, one.__context__) if each is not None]
    yield from _pickled(error)


def shown_by(thing: object) -> Iterator[str]:
    """What an object shows of itself to who prints or stores it."""
    yield from (str(thing), repr(thing))
    yield from _pickled(thing)


def _pickled(thing: object) -> Iterator[str]:
    try:
        stored = pickle.dumps(thing)
        again = pickle.loads(stored)
    except Exception:  # noqa: BLE001 - what cannot be stored, or not read, leaves nothing else
        return
    yield from (stored.decode("latin-1"), str(again), repr(again))


def _inside(value: Any, *, depth: int) -> Iterator[str]:
    """All texts in a value, in its fields, and in theirs."""
    if depth > _DEEPEST:
        return
    if isinstance(value, (str, bytes)):
        yield value if isinstance(value, str) else value.decode("latin-1")
        return
    yield repr(value)
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = value
    elif is_dataclass(value):
        inner = [getattr(value, field.name) for field in fields(value)]
    elif not isinstance(value, (type, BaseException)) and hasattr(value, "__dict__"):
        inner = list(vars(value).values())
    for item in inner:
        yield from _inside(item, depth=depth + 1)
