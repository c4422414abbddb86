"""Errors in Google's JSON format."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

__all__ = ["ApiError", "rpc_status_of"]

_RPC_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def rpc_status_of(code: int) -> str:
    """Name of the google.rpc.Code that goes with an HTTP status."""
    return _RPC_STATUS.get(code, "UNKNOWN")


class ApiError(Exception):
    """An answer that is an error.

    :param rpc_status: name of the google.rpc.Code; derived from `code` if absent
    :param reason: reason of the ErrorInfo in the details; no details if absent
    :param oauth: error code of RFC 6749, for the token endpoints, whose errors look different
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        rpc_status: str | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] = MappingProxyType({}),
        headers: Mapping[str, str] = MappingProxyType({}),
        oauth: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message or _phrase(code)
        self.rpc_status = rpc_status or rpc_status_of(code)
        self.reason = reason
        self.metadata = dict(metadata)
        self.headers = dict(headers)
        self.oauth = oauth

    def payload(self) -> dict[str, Any]:
        """Body of the answer."""
        if self.oauth is not None:
            return {"error": self.oauth, "error_description": self.message}
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.rpc_status}
        details = self._details()
        if details:
            error["details"] = details
        return {"error": error}

    def _details(self) -> Sequence[dict[str, Any]]:
        if self.reason is None:
            return []
        return [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": self.reason,
                "domain": "googleapis.com",
                "metadata": self.metadata,
            }
        ]


def _phrase(code: int) -> str:
    try:
        return f"{HTTPStatus(code).phrase}."
    except ValueError:
        return f"Status {code}."
