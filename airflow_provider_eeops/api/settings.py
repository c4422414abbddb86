"""What a connection says: one definition of its parameters, read, checked and named in one place.

The form of the connection, its documentation and its checks are all made from :data:`FIELDS`.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from airflow_provider_eeops.api.names import check_project_id
from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.secrecy import (
    ConcealedMapping,
    ConcealedText,
    conceal,
    file_secrets,
    proxy_secrets,
    secrets_in,
)
from airflow_provider_eeops.exceptions import InvalidOperationNameError, InvalidSettingsError

__all__ = [
    "API_VERSIONS",
    "DEFAULT_BASE_URL",
    "DEFAULT_SCOPES",
    "FIELDS",
    "STAND_IN_OF_FORM",
    "ConnectionField",
    "Settings",
    "is_loopback",
    "shown_path",
]

API_VERSIONS = ("v1alpha", "v1beta", "v1")
DEFAULT_BASE_URL = "https://earthengine.googleapis.com"
DEFAULT_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

# Google's old spelling, and that of Airflow 2's form when it tests what was not saved yet.
_PREFIXES = ("extra__google_cloud_platform__", "extra__earthengine__")

STAND_IN_OF_FORM = "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER"
"""What Airflow 2's form has in place of a stored secret, and takes for "unchanged"."""

_STAND_INS = ("***", STAND_IN_OF_FORM)  # the first is that of Airflow's API

# Google's provider knows these; each would choose another identity, so none may be passed over in silence.
_GOOGLE_UNSUPPORTED = ("key_secret_name", "idp_issuer_url")
# Google's provider knows these; they mean nothing without one of the above, or to Earth Engine.
_GOOGLE_IGNORED = frozenset(
    {"key_secret_project_id", "client_id", "client_secret", "idp_extra_parameters", "idp_extra_params"}
)


@dataclass(frozen=True)
class ConnectionField:
    """One parameter of the connection, an entry of its extras.

    :param name: name in the extras.
    :param label: label in the form.
    :param description: help in the form and in the documentation.
    :param schema: JSON schema of the value as the form takes it.
    """

    name: str
    label: str
    description: str
    schema: Mapping[str, Any]

    @property
    def types(self) -> Sequence[str]:
        """JSON types of the value; null is one of them, or else the form would have it filled in."""
        return list(self.schema["type"])

    @property
    def default(self) -> Any:
        """What the form begins with; None for an empty field."""
        return self.schema.get("default")

    @property
    def choices(self) -> Sequence[str]:
        """What the value may be; empty if that is not a matter of a list."""
        return list(self.schema.get("enum", ()))

    @property
    def is_secret(self) -> bool:
        """Whether the form masks it."""
        return self.schema.get("format") == "password"


def _string(**more: Any) -> dict[str, Any]:
    return {"type": ["string", "null"], **more}


FIELDS: tuple[ConnectionField, ...] = (
    ConnectionField("project", "Project Id", "Google Cloud project of operation ids given without one.", _string()),
    ConnectionField(
        "key_path",
        "Key File Path",
        "Path, on every machine that uses the connection, of a service account's key file (JSON).",
        _string(),
    ),
    ConnectionField("keyfile_dict", "Key JSON", "The contents of such a key file.", _string(format="password")),
    ConnectionField(
        "credential_config_file",
        "Credential Configuration",
        "External account (workload identity federation) configuration: a path, or the JSON itself. JSON that holds a"
        " secret belongs in Key JSON: Airflow sends this field back to the page.",
        _string(format="password"),
    ),
    ConnectionField(
        "impersonation_chain",
        "Impersonation Chain",
        "Service account to impersonate, or a comma-separated chain of them: each gets a token for the next, the"
        " last one makes the requests.",
        _string(),
    ),
    ConnectionField(
        "scope",
        "Scopes",
        "Comma-separated OAuth scopes. Default: cloud-platform; .../auth/earthengine is enough.",
        _string(),
    ),
    ConnectionField(
        "quota_project_id",
        "Quota Project Id",
        "Project whose quota the requests use, if another than the credentials' own.",
        _string(),
    ),
    ConnectionField(
        "num_retries",
        "Number of Retries",
        "How often a request is sent again after 408, 429, 500, 502, 503, 504 or a broken connection. Default: 5.",
        {"type": ["integer", "null"], "minimum": 0},
    ),
    ConnectionField(
        "is_anonymous",
        "Anonymous",
        "Send no credentials. Only with a base URL on this machine, as the emulator's.",
        {"type": ["boolean", "null"], "default": False},
    ),
    ConnectionField(
        "api_version",
        "API Version",
        "v1alpha, v1beta or v1. Default: v1alpha.",
        _string(enum=list(API_VERSIONS)),
    ),
    ConnectionField(
        "base_url",
        "Base URL",
        "Scheme and host of the API, for a private endpoint or the emulator. https, or http to this machine."
        f" Default: {DEFAULT_BASE_URL}.",
        _string(),
    ),
    ConnectionField(
        "requests_per_second",
        "Requests per Second",
        "Pace of one process's requests. Earth Engine allows a project and an account 100 a second. Default: 95.",
        {"type": ["number", "null"], "minimum": 0.001},
    ),
    ConnectionField(
        "connect_timeout",
        "Connect Timeout",
        "Seconds to wait for a connection. Default: 10.",
        {"type": ["number", "null"], "exclusiveMinimum": 0},
    ),
    ConnectionField(
        "read_timeout",
        "Read Timeout",
        "Seconds to wait for an answer. Default: 30.",
        {"type": ["number", "null"], "exclusiveMinimum": 0},
    ),
    ConnectionField(
        "proxies",
        "Proxies",
        'JSON object of proxies by scheme, such as {"https": "http://proxy.example:3128"}.',
        _string(format="password"),
    ),
    ConnectionField(
        "ca_bundle",
        "CA Bundle",
        "Path of a file of CA certificates to trust instead of the default.",
        _string(),
    ),
    ConnectionField(
        "allowed_projects",
        "Allowed Projects",
        "Comma-separated projects. If set, operations of other projects are refused before a request is made.",
        _string(),
    ),
)
"""Every parameter of a connection, in the order of the form."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The parameters of a connection, checked. Its repr shows no secret.

    See :data:`FIELDS` for what each one is.
    """

    project: str | None = None
    key_path: str | None = None
    keyfile_dict: Mapping[str, Any] | None = field(default=None, repr=False)
    credential_config_file: str | Mapping[str, Any] | None = field(default=None, repr=False)
    impersonation_chain: tuple[str, ...] = ()
    scope: tuple[str, ...] = DEFAULT_SCOPES
    quota_project_id: str | None = None
    num_retries: int = 5
    is_anonymous: bool = False
    api_version: str = "v1alpha"
    base_url: str = DEFAULT_BASE_URL
    requests_per_second: float = 95.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    proxies: Mapping[str, str] | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    allowed_projects: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    """Names of extras that nothing here reads."""

    def __post_init__(self) -> None:
        """Check what no single field can, and where a token may go, whoever made this."""
        object.__setattr__(self, "base_url", _read_base_url("base_url", self.base_url))
        if isinstance(self.allowed_projects, str):  # of which every part of a name would be one
            object.__setattr__(self, "allowed_projects", _read_projects("allowed_projects", self.allowed_projects))
        for name in ("keyfile_dict", "credential_config_file", "proxies"):
            if isinstance(given := getattr(self, name), Mapping):
                object.__setattr__(self, name, conceal(given))
        identities = [
            name
            for name in ("key_path", "keyfile_dict", "credential_config_file", "is_anonymous")
            if getattr(self, name)
        ]
        if len(identities) > 1:
            raise InvalidSettingsError(
                f"{' and '.join(identities)} each choose the credentials: keep one of them in the connection"
            )
        if self.is_anonymous and not self.is_loopback:
            raise InvalidSettingsError(
                f"is_anonymous is for a base_url on this machine, such as the emulator's, not for {self.base_url}"
            )
        if self.is_anonymous and self.impersonation_chain:
            raise InvalidSettingsError("is_anonymous leaves nobody to impersonate from: remove one of the two")

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of all parameters."""
        return tuple(field.name for field in FIELDS)

    @property
    def is_loopback(self) -> bool:
        """Whether the API is on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname)

    @property
    def budget(self) -> Budget:
        """What one call may spend."""
        return Budget(retries=self.num_retries, connect_timeout=self.connect_timeout, read_timeout=self.read_timeout)

    def secrets(self) -> list[str]:
        """Values that no log may show, those in the key file too, of Application Default Credentials if none other."""
        config = self.credential_config_file
        paths: list[str | None] = [path for path in (self.key_path, config) if isinstance(path, str)]
        given = (self.keyfile_dict, None if isinstance(config, str) else config)
        if not paths and not any(given) and not self.is_anonymous:
            paths = [None]
        proxies = (secret for address in (self.proxies or {}).values() for secret in proxy_secrets(address))
        found = dict.fromkeys((*secrets_in([*given, self.proxies]), *proxies, *file_secrets(paths)))
        return list(map(ConcealedText, found))

    @classmethod
    def from_extras(cls, extras: Mapping[str, Any]) -> Self:
        """Read the extras of a connection of type ``earthengine`` or ``google_cloud_platform``.

        :param extras: the extras.
        :raises InvalidSettingsError: naming the extra, its value unless it is secret, and the remedy.
        """
        given = conceal(_without_prefix(extras))
        for name in _GOOGLE_UNSUPPORTED:
            if not _absent(given.get(name)):
                raise InvalidSettingsError(
                    f"connection extra {name} is not supported: use key_path, keyfile_dict or"
                    " credential_config_file, or remove it to use Application Default Credentials"
                )
        for name, value in given.items():
            if isinstance(value, str) and value in _STAND_INS and name in _READERS:
                raise InvalidSettingsError(
                    f"connection extra {name} is what Airflow shows in place of a stored secret: enter the secret again"
                )
        values = {
            name: _READERS[name](name, value)
            for name, value in given.items()
            if name in _READERS and not _absent(value)
        }
        known = {*_READERS, *_GOOGLE_UNSUPPORTED, *_GOOGLE_IGNORED}
        unknown = sorted(str(name) for name in given if name not in known)
        return cls(**values, unknown=tuple(unknown))


def _without_prefix(extras: Mapping[str, Any]) -> dict[str, Any]:
    """Take an old spelling for the new one; the new one wins where both are there, as in Google's provider."""
    plain = {name: value for name, value in extras.items() if not str(name).startswith(_PREFIXES)}
    prefixed = {
        name.removeprefix(prefix): value
        for prefix in _PREFIXES
        for name, value in extras.items()
        if str(name).startswith(prefix)
    }
    return prefixed | {name: value for name, value in plain.items() if not _absent(value) or name not in prefixed}


def _absent(value: Any) -> bool:
    return value is None or value in ([], ()) or (isinstance(value, str) and not value.strip())


def _quoted(value: Any) -> str:
    """Quote a value; only the type of a container, only the length of long text: it may be a secret, misplaced."""
    if isinstance(value, str):
        text = str(value)
        return repr(text) if len(text) <= _SHOWN else f"text of {len(text)} characters"
    if not isinstance(value, (float, bool)):
        # Python refuses to print an int of more than some thousand digits.
        return str(value) if isinstance(value, int) and abs(value) < _SHOWN_INT else f"of type {_kind(value)}"
    return repr(value)


def _kind(value: Any) -> str:
    """Name a type, as who wrote the extra knows it."""
    return next((kind.__name__ for kind in (str, dict) if isinstance(value, kind)), type(value).__name__)


_SHOWN = 40
_SHOWN_INT = 10**20


def _read_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidSettingsError(f"connection extra {name} must be text, not {_kind(value)}")
    return ConcealedText(value.strip())


def _read_path(name: str, value: Any) -> str:
    # Airflow 3.1 reads JSON within the extras too: the contents of a key file are a mapping then.
    if isinstance(value, Mapping) or _is_contents(_read_text(name, value)):
        # Not quoted: it may be the key itself, also as base64 without braces.
        raise InvalidSettingsError(f"connection extra {name} must be a path, not the contents of a file")
    return str(value).strip()


def _is_contents(path: str) -> bool:
    return (
        any(mark in path for mark in ("{", "[", "\n", '"', "-----", "://"))
        or len(path) > _LONGEST_PATH
        or any(len(part) > _LONGEST_NAME for part in path.split("/"))
    )


_LONGEST_PATH = 4096
_LONGEST_NAME = 255


def shown_path(path: str) -> str:
    """Name a path in a message; what does not look like one may be something else, and secret.

    :param path: the path.
    """
    looks = len(path) <= _SHOWN_PATH and (path.startswith(("/", ".", "~")) or path.endswith(_ENDINGS))
    return str(path) if looks else f"a path of {len(path)} characters"


_SHOWN_PATH = 100
_ENDINGS = (".json", ".pem", ".crt", ".cer")


def _read_file(name: str, value: Any) -> str:
    path = _read_path(name, value)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        raise InvalidSettingsError(
            f"connection extra {name} is {shown_path(path)}: there is no such file here; it must be on every machine"
            " that uses the connection"
        )
    return path


def _read_list(name: str, value: Any) -> tuple[str, ...]:
    """Read a list, or a comma-separated one as Google's provider has it."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise InvalidSettingsError(f"connection extra {name} must be comma-separated text or a list of text")
    found = tuple(ConcealedText(item.strip()) for item in items if item.strip())
    if not found:  # to take it for absent could choose another identity, or allow every project
        raise InvalidSettingsError(f"connection extra {name} names nothing: remove it, or name at least one")
    return found


def _read_chain(name: str, value: Any) -> tuple[str, ...]:
    chain = _read_list(name, value)
    if not all(len(each) <= _LONGEST_NAME and _PRINCIPAL.fullmatch(each) for each in chain):
        raise InvalidSettingsError(
            f"connection extra {name} must name service accounts, such as robot@my-project.iam.gserviceaccount.com"
        )
    return tuple(map(str, chain))


_PRINCIPAL = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.:-]+|[0-9]+", re.ASCII)


def _read_scopes(name: str, value: Any) -> tuple[str, ...]:
    scopes = _read_list(name, value)
    if not all(len(each) <= _LONGEST_NAME and _SCOPE.fullmatch(each) for each in scopes):
        raise InvalidSettingsError(f"connection extra {name} must name OAuth scopes, such as {DEFAULT_SCOPES[0]}")
    return tuple(map(str, scopes))


_SCOPE = re.compile(r"[A-Za-z0-9._:/-]+", re.ASCII)


def _read_projects(name: str, value: Any) -> frozenset[str]:
    projects = _read_list(name, value)
    for project in projects:
        _check_project(name, project)
    return frozenset(map(str, projects))


def _read_project(name: str, value: Any) -> str:
    return _check_project(name, _read_text(name, value))


def _check_project(name: str, project: str) -> str:
    with suppress(InvalidOperationNameError):
        return str(check_project_id(project))
    raise InvalidSettingsError(
        f"connection extra {name}: {_quoted(project)} is not a project id. Pass the id alone, such as 'my-project'."
    )


def _read_json_object(name: str, value: Any) -> Mapping[str, Any]:
    """Read a JSON object; the message never quotes it, as it may be secret."""
    wrong = None
    if isinstance(value, str):
        try:
            value = conceal(json.loads(value, strict=False))
        except (ValueError, RecursionError) as error:
            where = f", line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            wrong = f"connection extra {name} is not JSON{where}: paste the whole object, from {{ to }}"
    if wrong is not None:  # raised here, as the error above holds the text in which it was met
        raise InvalidSettingsError(wrong)
    if not isinstance(value, Mapping):
        raise InvalidSettingsError(f"connection extra {name} must be a JSON object, not {_kind(value)}")
    return value


def _read_config(name: str, value: Any) -> str | Mapping[str, Any]:
    """Read a path, or JSON, as Google's provider takes both."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return _read_path(name, value)
    return _read_json_object(name, value)


def _read_proxies(name: str, value: Any) -> Mapping[str, str]:
    proxies = _read_json_object(name, value)
    for scheme, address in proxies.items():
        if scheme not in {"http", "https", "all", "no_proxy"} and "://" not in str(scheme):
            raise InvalidSettingsError(f"connection extra {name} has a key that is no scheme, such as 'https'")
        if not isinstance(address, str):
            raise InvalidSettingsError(f"connection extra {name}: a proxy must be text, a URL")
        if address and scheme != "no_proxy":
            _check_proxy(name, address)
    return ConcealedMapping(proxies)


def _check_proxy(name: str, address: str) -> None:
    """Refuse what requests would fail with at each request, by an error of its own; the message quotes no password."""
    try:
        unquote(address).encode("latin-1")
        parts = urlsplit(address if "://" in address else f"http://{address}")
        usable = bool(parts.hostname) and parts.port != 0
    except UnicodeEncodeError:
        raise InvalidSettingsError(
            f"connection extra {name}: a proxy's URL has a character beyond Latin-1, which HTTP cannot send"
        ) from None
    except ValueError:
        usable = False
    if not usable:
        raise InvalidSettingsError(
            f"connection extra {name}: a proxy's URL needs a host, such as http://proxy.example:3128"
        )


def _read_number(name: str, value: Any, *, least: float, exclusive: bool) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < least or (exclusive and number == least):
        wanted = f"greater than {least:g}" if exclusive else f"{least:g} or more"
        raise InvalidSettingsError(f"connection extra {name} is {_quoted(value)}: it must be a number {wanted}")
    return number


def _read_positive(name: str, value: Any) -> float:
    return _read_number(name, value, least=0, exclusive=True)


def _read_pace(name: str, value: Any) -> float:
    return _read_number(name, value, least=_SLOWEST_PACE, exclusive=False)


_SLOWEST_PACE = 0.001  # a request in 17 minutes; still slower is a slip, and at some point too long to sleep


def _read_count(name: str, value: Any) -> int:
    number = _read_number(name, value, least=0, exclusive=False)
    if not number.is_integer():
        raise InvalidSettingsError(f"connection extra {name} is {_quoted(value)}: it must be a whole number")
    return int(number)


def _read_flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "y": True, "false": False, "0": False, "no": False, "n": False}
    flag = words.get(_quoted(value).strip("' ").lower())
    if flag is None:
        raise InvalidSettingsError(f"connection extra {name} is {_quoted(value)}: it must be true or false")
    return flag


def _read_api_version(name: str, value: Any) -> str:
    if value not in API_VERSIONS:
        raise InvalidSettingsError(
            f"connection extra {name} is {_quoted(value)}: it must be one of {', '.join(API_VERSIONS)}"
        )
    return str(value)


def _read_base_url(name: str, value: Any) -> str:
    url = _read_text(name, value)
    wrong = _wrong_with(url.rstrip("/"))
    if wrong is not None:  # raised here, as the parts of a URL show a password
        raise InvalidSettingsError(f"connection extra {name} {wrong}")
    return str(url).rstrip("/").lower()


def _wrong_with(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or port == 0 or parts.scheme not in {"http", "https"}:
        return f"is not the address of an API: give scheme and host, such as {DEFAULT_BASE_URL}"
    # Put together again: a parser passes over what another takes for a part of the host, such as a tab.
    if url.lower() != f"{parts.scheme}://{parts.netloc.lower()}" or not _HOST.fullmatch(parts.netloc):
        return f"must be scheme and host alone, such as {DEFAULT_BASE_URL}: no user, path, query or fragment"
    if parts.scheme == "http" and not is_loopback(host):
        return f"is {url}: a token goes over plain http to this machine only; use https"
    return None


_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?", re.ASCII)


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine.

    :param host: a name or an address.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "project": _read_project,
    "key_path": _read_path,
    "keyfile_dict": _read_json_object,
    "credential_config_file": _read_config,
    "impersonation_chain": _read_chain,
    "scope": _read_scopes,
    "quota_project_id": _read_project,
    "num_retries": _read_count,
    "is_anonymous": _read_flag,
    "api_version": _read_api_version,
    "base_url": _read_base_url,
    "requests_per_second": _read_pace,
    "connect_timeout": _read_positive,
    "read_timeout": _read_positive,
    "proxies": _read_proxies,
    "ca_bundle": _read_file,
    "allowed_projects": _read_projects,
}
