"""Settings -> google-auth credentials. Loaded on first use, as :mod:`.transport` is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import google.auth
import google.auth.credentials
import google.auth.exceptions
import requests
from google.auth import (
    aws,
    external_account_authorized_user,
    identity_pool,
    impersonated_credentials,
    pluggable,
)
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from airflow_provider_eeops.api import sessions
from airflow_provider_eeops.api.asking import Answer, Asking
from airflow_provider_eeops.api.secrecy import ConcealedMapping, conceal
from airflow_provider_eeops.api.settings import Settings, is_loopback, shown_path
from airflow_provider_eeops.exceptions import CredentialsError, InvalidSettingsError

__all__ = ["Identity", "load_credentials", "principal"]

_LONGEST_KIND = 40

# What google-auth raises over a file or a field that is not what it expects, besides its own errors.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OSError)

# Fields of a configuration that name where a key's signature, a refresh token or a subject token is sent.
_TOKEN_SERVERS = ("token_uri", "token_url", "token_info_url", "service_account_impersonation_url")
_GOOGLE = "googleapis.com"
_FORMERLY_GOOGLE = "accounts.google.com"  # the token_uri of keys made before 2018


class Identity(NamedTuple):
    """Who makes the requests.

    :param credentials: google-auth credentials.
    :param project_id: the project they belong to, if they name one.
    """

    credentials: google.auth.credentials.Credentials
    project_id: str | None

    def __reduce__(self) -> NoReturn:
        raise TypeError("it holds credentials, and is not to be stored")


def load_credentials(settings: Settings) -> Identity:
    """Make the credentials that the settings describe: their own, or Application Default Credentials.

    No request is made, unless Application Default Credentials ask the metadata server.

    :param settings: the connection's parameters.
    :raises InvalidSettingsError: a key or configuration cannot be used.
    :raises CredentialsError: there are no Application Default Credentials.
    """
    identity = _source(settings)
    if settings.impersonation_chain:
        identity = Identity(_impersonated(identity.credentials, settings), identity.project_id)
    credentials = identity.credentials
    if settings.quota_project_id and isinstance(credentials, google.auth.credentials.CredentialsWithQuotaProject):
        credentials = credentials.with_quota_project(settings.quota_project_id)
    return Identity(credentials, identity.project_id)


def principal(credentials: google.auth.credentials.Credentials) -> str:
    """Name who makes the requests, as far as the credentials tell without a request.

    :param credentials: google-auth credentials.
    """
    if isinstance(credentials, google.auth.credentials.AnonymousCredentials):
        return "anonymous"
    named = getattr(credentials, "service_account_email", None) or getattr(credentials, "account", None)
    return str(named) if named else f"the holder of {type(credentials).__module__} credentials"


def _source(settings: Settings) -> Identity:
    if settings.is_anonymous:
        return Identity(google.auth.credentials.AnonymousCredentials(), None)
    if settings.keyfile_dict is not None:
        return _from_info(settings.keyfile_dict, settings, "keyfile_dict")
    if settings.key_path is not None:
        return _from_info(_read(settings.key_path, "key_path"), settings, "key_path")
    if isinstance(settings.credential_config_file, str):
        info = _read(settings.credential_config_file, "credential_config_file")
        return _from_info(info, settings, "credential_config_file")
    if settings.credential_config_file is not None:
        return _from_info(settings.credential_config_file, settings, "credential_config_file")
    try:
        with sessions.made_session(1) as session:
            # Scopes would have it send a token of a federation to find the project: not if that is known.
            scopes = None if settings.project else settings.scope
            credentials, project_id = google.auth.default(scopes=scopes, request=Asking(partial(_ask, session)))
        return Identity(google.auth.credentials.with_scopes_if_required(credentials, settings.scope), project_id)
    except (google.auth.exceptions.GoogleAuthError, *_UNREADABLE) as error:
        met = type(error).__name__
    # Not raised in the block above: the error there may hold the key, and would go along as this one's context.
    raise CredentialsError(
        f"no Application Default Credentials ({met}): set key_path, keyfile_dict or"
        " credential_config_file in the connection, or GOOGLE_APPLICATION_CREDENTIALS where Airflow runs"
    )


def _read(path: str, name: str) -> Mapping[str, Any]:
    shown = shown_path(path)
    wrong = "is not a JSON object"
    try:
        info = conceal(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        wrong = (
            f"cannot be read ({error.strerror}); it must be on every machine that uses the connection: workers,"
            " triggerers, DAG processors"
        )
    except (ValueError, RecursionError):
        wrong = "is not JSON: it must be the file as Google Cloud makes it, not a .p12 or .pem"
    else:
        if isinstance(info, ConcealedMapping):
            return info
    raise InvalidSettingsError(f"connection extra {name}: {shown} {wrong}")


def _from_info(info: Mapping[str, Any], settings: Settings, name: str) -> Identity:
    """Dispatch on ``type`` ourselves: google-auth's own generic loaders are deprecated for accepting any."""
    kind = info["type"] if isinstance(info.get("type"), str) else None
    data = ConcealedMapping(info)
    scopes = settings.scope
    _check_addresses(info, settings, name)
    credentials: Any = None
    wrong = ""
    try:
        match kind:
            case "service_account":
                # Pasted into a form, a key's line breaks often arrive as backslash and n.
                if isinstance(data.get("private_key"), str):
                    data["private_key"] = conceal(data["private_key"].replace("\\n", "\n"))
                credentials = service_account.Credentials.from_service_account_info(data, scopes=scopes)
            case "authorized_user":
                credentials = user_credentials.Credentials.from_authorized_user_info(data, scopes=scopes)
                # google-auth sends a refresh token to Google whatever the file says; the emulator's is for itself.
                if settings.is_loopback and data.get("token_uri"):
                    credentials = credentials.with_token_uri(data["token_uri"])
            case "external_account":
                credentials = _external_account(data).from_info(data, scopes=scopes)
            case "external_account_authorized_user":
                # Its scopes are those the user consented to; it takes no others.
                credentials = external_account_authorized_user.Credentials.from_info(data)
            case _:
                shown = repr(kind and str(kind))
                shown = shown if len(shown) <= _LONGEST_KIND else f"of {len(shown)} characters"
                wrong = (kind is None and _taken_for_a_key(info)) or (
                    f"has the type {shown}: it must be 'service_account', 'authorized_user',"
                    " 'external_account' or 'external_account_authorized_user'"
                )
    except (google.auth.exceptions.GoogleAuthError, *_UNREADABLE) as error:
        # google-auth's text may quote the key; only what kind of thing is wrong is passed on.
        wrong = f"is not a usable {kind} configuration ({type(error).__name__}): download it again and paste it whole"
    if wrong:  # raised here, as an error above may hold the key
        raise InvalidSettingsError(f"connection extra {name} {wrong}")
    return Identity(credentials, data.get("project_id") or data.get("quota_project_id"))


def _taken_for_a_key(info: Mapping[str, Any]) -> str | None:
    """Say what a file is that people take for a key."""
    if "installed" in info or "web" in info:
        return "is an OAuth client's, which identifies a program and nobody: give the key of a service account"
    if "refresh_token" in info:
        return (
            "is what 'earthengine authenticate' writes, which has no type: give the key of a service account, or leave"
            " it out and run 'gcloud auth application-default login' where Airflow runs"
        )
    return None


def _check_addresses(info: Mapping[str, Any], settings: Settings, name: str) -> None:
    """Refuse a configuration that has secrets sent elsewhere than to Google; google-auth sends them anywhere.

    Google signs no address in a key or a configuration, and asks who takes one from others to check it:
    https://cloud.google.com/docs/authentication/external/externally-sourced-credentials.
    """
    universe = info.get("universe_domain", _GOOGLE)
    if universe != _GOOGLE:  # it becomes a part of addresses
        raise InvalidSettingsError(
            f"connection extra {name} has the universe_domain {universe!r:.60}: Earth Engine is in {_GOOGLE} alone"
        )
    for field in _TOKEN_SERVERS:
        address = info.get(field)
        if address is not None and not _is_token_server(address, here=settings.is_loopback):
            raise InvalidSettingsError(
                f"connection extra {name} has a {field} that is not Google's: it must begin with https:// and a host"
                f" in {_GOOGLE}, or be on this machine if base_url is; nothing was sent"
            )


def _is_token_server(address: Any, *, here: bool) -> bool:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except (ValueError, AttributeError, TypeError):
        return False
    # As parsers differ about what is left, an address that another could read in another way is none.
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        return False
    if here and is_loopback(host):
        return True
    return (
        parts.scheme == "https" and port in {None, 443} and (host == _FORMERLY_GOOGLE or host.endswith(f".{_GOOGLE}"))
    )


_ADDRESS = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?(?:/[A-Za-z0-9_.~:@%/-]*)?", re.ASCII)


def _ask(session: requests.Session, url: str, method: str = "GET", body: bytes | None = None, **more: Any) -> Answer:
    """Ask what Application Default Credentials must ask to be found; not from where an answer points to."""
    more = {"timeout": _PATIENCE} | more | sessions.route(url, None, None)
    try:
        response = session.request(method, url, data=body, **more)
    except requests.RequestException as error:
        raise google.auth.exceptions.TransportError(error) from error  # which tells that it is on no cloud
    return Answer(response.status_code, response.headers, response.content)


_PATIENCE = 30.0  # seconds


def _external_account(info: Mapping[str, Any]) -> Any:
    source = info.get("credential_source")
    source = source if isinstance(source, Mapping) else {}
    if info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request":
        return aws.Credentials
    return pluggable.Credentials if "executable" in source else identity_pool.Credentials


def _impersonated(
    source: google.auth.credentials.Credentials, settings: Settings
) -> google.auth.credentials.Credentials:
    *delegates, target = settings.impersonation_chain
    override = None
    if settings.is_loopback:  # the emulator mints the token too
        override = f"{settings.base_url}/v1/projects/-/serviceAccounts/{target}:generateAccessToken"
    return impersonated_credentials.Credentials(
        source_credentials=source,
        target_principal=target,
        delegates=delegates,
        target_scopes=list(settings.scope),
        iam_endpoint_override=override,
    )
