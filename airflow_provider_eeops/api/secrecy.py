"""What is secret in a connection, and how it stays so."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urlsplit

__all__ = [
    "ConcealedMapping",
    "ConcealedText",
    "Redaction",
    "conceal",
    "file_secrets",
    "forget_passage",
    "is_secret_name",
    "proxy_secrets",
    "secrets_in",
]

_SHORTEST = 5
"""A shorter one is part of too many words to be taken out of them; Airflow's masker says the same."""

_SHORTEST_UNNAMED = 16
"""What nobody knows the name of is a secret if it is as long as one."""

_MOST_LEARNED = 50

# Of a key or configuration file and of proxies: what a log may show.
_PUBLIC = frozenset(
    {
        *("type", "client_email", "client_id", "account", "project_id", "quota_project_id", "universe_domain"),
        *("auth_uri", "token_uri", "token_url", "token_info_url", "revoke_url", "audience"),
        *("auth_provider_x509_cert_url", "client_x509_cert_url", "workforce_pool_user_project"),
        *("subject_token_type", "environment_id", "file", "output_file", "subject_token_field_name"),
        *("regional_cred_verification_url", "service_account_impersonation_url"),
        *("accept", "content-type", "host", "metadata", "metadata-flavor", "user-agent", "no_proxy"),
    }
)

# Secret however short.
_SECRET = frozenset(
    {
        *("private_key", "private_key_id", "client_secret", "refresh_token", "access_token", "id_token"),
        *("assertion", "subject_token", "actor_token", "token", "password", "secret", "authorization"),
        *("http", "https", "all"),  # a proxy whose address cannot be read
    }
)


class ConcealedText(str):
    """Text whose repr, which error reporters take of every variable, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class ConcealedMapping(dict[str, Any]):
    """A mapping whose repr does not show it, and which is not pickled."""

    def __repr__(self) -> str:
        return "{***}"

    def __copy__(self) -> ConcealedMapping:
        return ConcealedMapping(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> ConcealedMapping:
        return ConcealedMapping({key: deepcopy(item, memo) for key, item in self.items()})

    def __reduce__(self) -> NoReturn:
        raise TypeError("it holds secrets, and is not to be stored")


def conceal(value: Any) -> Any:
    """Return the same value, with a repr that does not show it if it may be secret.

    :param value: any value of an extra.
    """
    if isinstance(value, str):
        return ConcealedText(value)
    if isinstance(value, Mapping):
        return ConcealedMapping({key: conceal(item) for key, item in value.items()})
    if isinstance(value, list):
        return [conceal(item) for item in value]
    return value


def forget_passage(error: BaseException) -> None:
    """Take from an error what it came through, before it is raised again: who reports errors takes the variables.

    It may have been raised in code of others that held a token: the timeout of a task is, anywhere.

    :param error: the error, as it was caught.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None


def is_secret_name(name: str) -> bool:
    """Whether what is called so, in a form or a header, is a secret.

    :param name: the name.
    """
    return name.lower() in _SECRET or any(word in name.lower() for word in ("token", "secret", "password", "api-key"))


def secrets_in(value: Any, *, name: str = "") -> Iterator[str]:
    """Find every string that no log may show; names, types and addresses that anybody may know are none.

    A private key is found line by line, as that is how a log shows it.

    :param value: a key or configuration file, or proxies.
    :param name: what the value is called.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if str(key).lower() not in _PUBLIC:
                yield from secrets_in(item, name=str(key).lower())
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secrets_in(item, name=name)
    elif isinstance(value, str):
        yield from _secrets_in_text(value, name)


def _secrets_in_text(value: str, name: str) -> Iterator[str]:
    if _is_url(value):
        yield from proxy_secrets(value, alone=True)
        return
    lines = [line.strip() for line in value.replace("\\n", "\n").splitlines()]
    for line in lines:
        scheme, _, rest = line.partition(" ")
        found = rest if scheme.lower() in {"bearer", "basic"} else line
        least = _SHORTEST if name in _SECRET else _SHORTEST_UNNAMED
        if len(found) >= least and not found.startswith("-----"):
            yield found
        if scheme.lower() == "basic":
            yield from _password_in(rest)


def _password_in(encoded: str) -> Iterator[str]:
    with suppress(ValueError):
        password = base64.b64decode(encoded).decode().partition(":")[2]
        if len(password) >= _SHORTEST:
            yield password


def _is_url(value: str) -> bool:
    try:
        return "://" in value and bool(urlsplit(value).netloc)
    except ValueError:
        return False


def proxy_secrets(address: str, *, alone: bool = False) -> Iterator[str]:
    """Find the password in a URL, or the key in its place, and what becomes of it in a header.

    :param address: the URL, of a proxy.
    :param alone: the password as it is written alone.
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        user, password = parts.username, parts.password
    except ValueError:
        return
    secret = password or user  # some are given a key as the user, and no password
    if not secret:
        return
    yield secret
    if not alone:
        yield unquote(secret)
        yield base64.b64encode(f"{unquote(user or '')}:{unquote(password or '')}".encode()).decode()


def file_secrets(paths: Iterable[str | None]) -> Iterator[str]:
    """Find what no log may show in key files; one that cannot be read is for others to complain of.

    :param paths: paths of the files; None, and the environment names them, if nothing does where gcloud has its own.
    """
    for path in paths:
        try:
            info = json.loads(Path(_default_path() if path is None else path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, RuntimeError):  # the last if this user has no home
            continue
        if isinstance(info, dict):
            yield from secrets_in(info)


def _default_path() -> str:
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud"
    return named or str(Path(folder).expanduser() / "application_default_credentials.json")


class Redaction:
    """Takes secrets out of what others say.

    :param secrets: secrets that are known from the start.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known = _written(secrets)
        self._learned: tuple[str, ...] = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("it holds secrets, and is not to be stored")

    def learn(self, *secrets: str) -> list[str]:
        """Take these out from now on; return those that are new.

        :param secrets: secrets that were just sent or received.
        """
        new = [secret for secret in secrets if len(secret) >= _SHORTEST and secret not in self._learned]
        if new:
            self._learned = (*self._learned, *_written(new))[-_MOST_LEARNED:]
        return new

    def text(self, text: str) -> str:
        """Return the text without the secrets.

        :param text: what somebody said.
        """
        for secret in (*self._learned, *self._known):
            text = text.replace(secret, "[secret]")
        return text

    def content(self, content: bytes) -> bytes:
        """Return the bytes without the secrets, in whatever spelling JSON would be read.

        :param content: the body of an answer.
        """
        if b"\0" in content:  # UTF-16 or 32, in which JSON may come; in UTF-8 it has none
            content = content.replace(b"\0", b"")
        if b"\\u00" in content:
            content = _ESCAPED.sub(_unescaped, content)
        for secret in (*self._learned, *self._known):
            content = content.replace(secret.encode(), b"[secret]")
        return content


_ESCAPED = re.compile(rb"\\(?:u00([2-7][0-9A-Fa-f])|.)", re.DOTALL)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    """Write a character of ASCII as itself, but for those that JSON has escaped."""
    character = bytes.fromhex(escape[1].decode()) if escape[1] else b"\\"
    return escape[0] if character in b'"\\' else character


def _written(secrets: Iterable[str]) -> tuple[str, ...]:
    """Each secret as a page, a URL or JSON would have it, the longest first as one may be part of another."""
    found: dict[str, None] = {}
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            forms = (secret, quote(secret, safe=""), html.escape(secret), json.dumps(secret)[1:-1])
            found.update(dict.fromkeys((*forms, secret.replace("/", "\\/"))))
    return tuple(sorted(found, key=len, reverse=True))
