"""What was asked of the emulator."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["RequestRecord", "without_secrets"]

_SECRETS = frozenset({"assertion", "refresh_token", "client_secret", "subject_token", "actor_token"})


@dataclass(slots=True)
class RequestRecord:
    """One request, from the moment it arrived.

    :param number: position in the log, from 0
    :param method: get, list, cancel, delete, wait, export, token, discovery, algorithms, impersonate, sts or other
    :param verb: HTTP method
    :param path: path as it was sent, without the query
    :param name: the operation; for an export the one it started; for `impersonate` the service account
    :param status: status of the answer; None while there is none, and for ever if the connection was broken
    :param principal: who asked; None if the token was refused or absent
    :param scopes: scopes of the token
    :param headers: names in lower case; `authorization` holds the principal
    :param body: parsed JSON or form; text if it is neither; secrets left out
    """

    number: int
    time: float
    method: str
    verb: str
    path: str
    query: dict[str, str]
    name: str | None
    principal: str | None
    status: int | None = None
    scopes: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


def without_secrets(form: dict[str, str]) -> dict[str, str]:
    """Form of a token request, fit for the log."""
    return {key: "<left out>" if key in _SECRETS else value for key, value in form.items()}
