"""Who is asking: service-account keys, grants and access tokens."""

import functools
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import exceptions as auth_exceptions
from google.auth import jwt

from airflow_provider_eeops.emulator.errors import ApiError

__all__ = [
    "ANONYMOUS",
    "DEFAULT_EMAIL",
    "DEFAULT_USER",
    "JWT_BEARER",
    "TOKEN_EXCHANGE",
    "Identities",
    "Identity",
    "Issued",
]

DEFAULT_EMAIL: Final = "emulator@emulator-project.iam.gserviceaccount.com"
DEFAULT_USER: Final = "user@example.com"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant
_CLOCK_SKEW_SECONDS: Final = 10
# google-auth signs for this audience whatever the token_uri of the key is.
_GOOGLE_AUDIENCE: Final = "https://oauth2.googleapis.com/token"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request comes from.

    :param scopes: None if the token is good for anything
    """

    principal: str
    scopes: tuple[str, ...] | None = None


ANONYMOUS: Final = Identity("anonymous")


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token and how long it is good for."""

    token: str
    lifetime: float


@dataclass(frozen=True, slots=True)
class _KeyPair:
    key_id: str
    private_pem: str
    public_pem: bytes


class Identities:
    """Tokens issued by one emulator, and what it takes to get one.

    :param clock: seconds, as time.time; decides when an access token expires
    :param lifetime: seconds an access token is good for
    """

    def __init__(self, clock: Callable[[], float], lifetime: float) -> None:
        self._clock = clock
        self.lifetime = lifetime
        self._tokens: dict[str, tuple[Identity, float]] = {}
        self._refresh_tokens: dict[str, str] = {}
        self._subject_tokens: dict[str, str] = {}

    def service_account_info(self, email: str, token_uri: str) -> dict[str, Any]:
        """Service-account key, as the JSON file that Google hands out."""
        pair = _key_pair()
        _, _, domain = email.partition("@")
        return {
            "type": "service_account",
            "project_id": domain.partition(".")[0],
            "private_key_id": pair.key_id,
            "private_key": pair.private_pem,
            "client_email": email,
            "client_id": "100000000000000000000",
            "auth_uri": token_uri,
            "token_uri": token_uri,
        }

    def refresh_token(self, user: str) -> str:
        """Refresh token for a user."""
        token = f"1//{secrets.token_urlsafe(24)}"
        self._refresh_tokens[token] = user
        return token

    def subject_token(self, subject: str) -> str:
        """Token of a foreign identity provider that the token exchange accepts."""
        token = f"subject.{secrets.token_urlsafe(24)}"
        self._subject_tokens[token] = subject
        return token

    def issue(self, principal: str, lifetime: float | None = None, scopes: tuple[str, ...] | None = None) -> Issued:
        """Access token for a principal."""
        seconds = self.lifetime if lifetime is None else lifetime
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self._tokens[token] = (Identity(principal, scopes), self._clock() + seconds)
        return Issued(token, seconds)

    def revoke_all(self) -> None:
        """Make all access tokens worthless."""
        self._tokens.clear()

    def identify(self, authorization: str | None) -> Identity | None:
        """Who an Authorization header stands for; None if its token is not good."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        identity, expires = self._tokens.get(token.strip(), (None, 0.0))
        return identity if self._clock() < expires else None

    def grant(self, form: Mapping[str, str], token_uri: str) -> Issued:
        """Access token for a request to the token endpoint.

        :raises ApiError: if the grant is not good
        """
        grant_type = form.get("grant_type")
        if grant_type == JWT_BEARER:
            claims = _verified_claims(form.get("assertion", ""), token_uri)
            return self.issue(claims.get("sub") or claims["iss"], scopes=tuple(claims.get("scope", "").split()))
        if grant_type == "refresh_token":
            user = self._refresh_tokens.get(form.get("refresh_token", ""))
            if user is None:
                raise ApiError(400, "Token has been expired or revoked.", oauth="invalid_grant")
            scopes = form.get("scope", "").split()
            return self.issue(user, scopes=tuple(scopes) or None)
        raise ApiError(400, f"Invalid grant_type: {grant_type}", oauth="unsupported_grant_type")

    def exchange(self, form: Mapping[str, str]) -> Issued:
        """Access token for a request to the token exchange.

        :raises ApiError: if the subject token is not good
        """
        if form.get("grant_type") != TOKEN_EXCHANGE:
            raise ApiError(400, "Invalid grant_type.", oauth="unsupported_grant_type")
        if not form.get("audience"):
            raise ApiError(400, "Invalid value for 'audience'.", oauth="invalid_request")
        subject = self._subject_tokens.get(form.get("subject_token", ""))
        if subject is None:
            raise ApiError(400, "The given credential is rejected by the attribute condition.", oauth="invalid_grant")
        return self.issue(subject, scopes=tuple(form.get("scope", "").split()))


@functools.cache
def _key_pair() -> _KeyPair:
    """One key for the process: making it takes a tenth of a second."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return _KeyPair(
        key_id=uuid.uuid4().hex,
        private_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        public_pem=key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def _verified_claims(assertion: str, audience: str) -> Mapping[str, str]:
    # The client signs with the time of its own clock, so the emulator's clock has no say here.
    try:
        claims: Mapping[str, str] = jwt.decode(
            assertion,
            certs=_key_pair().public_pem,
            audience=[audience, _GOOGLE_AUDIENCE],
            clock_skew_in_seconds=_CLOCK_SKEW_SECONDS,
        )
    except (ValueError, auth_exceptions.GoogleAuthError) as error:
        raise ApiError(400, f"Invalid JWT: {error}", oauth="invalid_grant") from error
    return claims
