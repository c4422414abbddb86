"""The hosts of Google that a token comes from and goes to, and what each of them is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_eeops.emulator import EmulatorServer
from tests.trust.internet import Answer, Internet, Sent

__all__ = [
    "API",
    "EXCHANGED",
    "IAM",
    "IMPERSONATED",
    "NAME",
    "REFRESH_TOKEN",
    "STS",
    "SUBJECT_TOKEN",
    "TOKEN",
    "TOKENS",
    "authorized_user",
    "federation",
    "service_account",
    "set_up",
]

API, TOKENS = "earthengine.googleapis.com", "oauth2.googleapis.com"
STS, IAM = "sts.googleapis.com", "iamcredentials.googleapis.com"
TOKEN, EXCHANGED, IMPERSONATED = "ya29.a-token", "ya29.an-exchanged-token", "ya29.an-impersonated-token"
REFRESH_TOKEN, SUBJECT_TOKEN = "a-refresh-token", "a-subject-token"
NAME = "projects/one/operations/A"
OPERATION = {"name": NAME, "metadata": {"state": "RUNNING"}}


def set_up(internet: Internet) -> None:
    """Have Google's hosts answer."""
    internet.answers[TOKENS] = lambda _sent: Answer({"access_token": TOKEN, "expires_in": 3600})
    internet.answers[STS] = lambda _sent: Answer(
        {
            "access_token": EXCHANGED,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
    )
    internet.answers[IAM] = lambda _sent: Answer({"accessToken": IMPERSONATED, "expireTime": "2099-01-01T00:00:00Z"})
    internet.answers[API] = _api


def _api(sent: Sent) -> Answer:
    if sent.method == "DELETE" or ":cancel" in sent.target:
        return Answer({})
    return Answer({"operations": [OPERATION]} if "?" in sent.target else OPERATION)


def service_account(server: EmulatorServer, **changes: Any) -> dict[str, Any]:
    """A key, with a private key that works."""
    info = {**server.service_account_info(), "token_uri": f"https://{TOKENS}/token", **changes}
    return {key: value for key, value in info.items() if value is not None}


def authorized_user(**changes: Any) -> dict[str, Any]:
    """What gcloud writes for a user."""
    return {
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": "not-so-secret",
        "refresh_token": REFRESH_TOKEN,
        **changes,
    }


def federation(folder: Path, *, impersonate: str | None = None, **changes: Any) -> dict[str, Any]:
    """A configuration of workload identity federation, its subject token in a file."""
    path = folder / "subject-token"
    path.write_text(SUBJECT_TOKEN)
    info = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/own",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"https://{STS}/v1/token",
        "credential_source": {"file": str(path)},
    }
    if impersonate is not None:
        info["service_account_impersonation_url"] = (
            f"https://{IAM}/v1/projects/-/serviceAccounts/{impersonate}:generateAccessToken"
        )
    return {**info, **changes}
