"""What a 403 lacks: the call, Google's message and its ErrorInfo -> a permission, or what else is missing.

The reasons are those of google.api.ErrorReason, see https://google.aip.dev/193 and
https://cloud.google.com/service-infrastructure/docs/service-management/reference/rpc/google.api#errorreason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

__all__ = ["PERMISSIONS", "SCOPES", "Call", "Denial", "explain", "explain_token"]

Call = Literal["cancel", "delete", "export", "get", "list", "wait"]

PERMISSIONS: Mapping[Call, str] = {
    "cancel": "earthengine.operations.update",
    "delete": "earthengine.operations.delete",
    "export": "earthengine.exports.create",
    "get": "earthengine.operations.get",
    "list": "earthengine.operations.list",
    "wait": "earthengine.operations.get",
}
"""What each call needs on the project of the operation."""

SCOPES = ("https://www.googleapis.com/auth/earthengine", "https://www.googleapis.com/auth/cloud-platform")
"""Either will do for every call."""

_IMPERSONATE = "iam.serviceAccounts.getAccessToken"
_USE = "serviceusage.services.use"
_NONE_MISSING = "no permission is missing"

# What an answer may put into our words: nothing but a name.
_PERMISSION = re.compile(r"[a-z][A-Za-z0-9]{0,62}(\.[A-Za-z][A-Za-z0-9]{0,62}){1,4}")
_CONSUMER = re.compile(r"projects/([A-Za-z0-9][A-Za-z0-9.:_-]{0,62})")


class Denial(NamedTuple):
    """Why a request was refused.

    :param missing: in words, to end a sentence.
    :param permission: the permission that is missing; where the answer names none, the one that the call needs; None
        if something else is missing.
    """

    missing: str
    permission: str | None


class _Said(NamedTuple):
    """What an answer says of a refusal, as far as it is well-formed."""

    call: Call
    project: str | None
    permission: str | None

    @property
    def of_project(self) -> str:
        return f"project {self.project}" if self.project else "the project"


def _lacks(said: _Said) -> Denial:
    if said.permission is None:
        return _not_said(said)
    return Denial(f"the principal lacks {said.permission}", said.permission)


def _may_not_use(said: _Said) -> Denial:
    return Denial(f"the principal lacks {_USE} on {said.of_project}, whose quota the request would use", _USE)


def _no_such_consumer(said: _Said) -> Denial:
    return Denial(
        f"{said.of_project}, whose quota the request would use, is not there, or the principal lacks {_USE} on it", _USE
    )


def _suspended(said: _Said) -> Denial:
    return Denial(f"{said.of_project}, whose quota the request would use, is suspended; {_NONE_MISSING}", None)


def _api_disabled(said: _Said) -> Denial:
    return Denial(f"the Earth Engine API is not enabled in {said.of_project}; {_NONE_MISSING}", None)


def _no_billing(said: _Said) -> Denial:
    return Denial(f"billing is not enabled in {said.of_project}; {_NONE_MISSING}", None)


def _not_registered(_: _Said) -> Denial:
    return Denial(f"the project is not registered for Earth Engine; {_NONE_MISSING}", None)


def _no_scope(_: _Said) -> Denial:
    return Denial(f"the token has neither scope that serves, {' or '.join(SCOPES)}; {_NONE_MISSING}", None)


def _perimeter(_: _Said) -> Denial:
    return Denial(f"VPC Service Controls forbid it; {_NONE_MISSING}", None)


def _not_said(said: _Said) -> Denial:
    permission = PERMISSIONS[said.call]
    return Denial(
        f"to {said.call} takes {permission}, the Earth Engine API enabled in the project, and a project that is"
        " registered for Earth Engine; the answer does not say which is missing",
        permission,
    )


_Explain = Callable[[_Said], Denial]

_BY_REASON: Mapping[str, _Explain] = {
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _no_scope,
    "BILLING_DISABLED": _no_billing,
    "CONSUMER_INVALID": _no_such_consumer,
    "CONSUMER_SUSPENDED": _suspended,
    "IAM_PERMISSION_DENIED": _lacks,
    "SECURITY_POLICY_VIOLATED": _perimeter,
    "SERVICE_DISABLED": _api_disabled,
    "USER_PROJECT_DENIED": _may_not_use,
}

_NOT_REGISTERED = re.compile(r"not registered to use Earth Engine")

# For answers without an ErrorInfo. What these find is Google's own spelling of a project or a permission.
_BY_MESSAGE: Sequence[tuple[re.Pattern[str], _Explain]] = (
    (re.compile(r"has not been used in project (?P<project>[\w.:-]{1,63})"), _api_disabled),
    (re.compile(r"required permission to use project (?P<project>[\w:-]{1,63})"), _may_not_use),
    (re.compile(r"insufficient authentication scopes"), _no_scope),
    (re.compile(rf"[Pp]ermission '(?P<permission>{_PERMISSION.pattern})' denied"), _lacks),
)


def explain(call: Call, message: str, details: Sequence[Any]) -> Denial:
    """Say what a refused request lacks.

    :param call: what was asked for.
    :param message: Google's message.
    :param details: Google's ``error.details``.
    """
    if _NOT_REGISTERED.search(message):  # has no reason of its own, and comes under others'
        return _not_registered(_Said(call, None, None))
    for reason, metadata in _error_infos(details):
        if reason in _BY_REASON:
            consumer = _CONSUMER.fullmatch(str(metadata.get("consumer")))
            permission = _PERMISSION.fullmatch(str(metadata.get("permission")))
            said = _Said(call, consumer and consumer[1], permission and permission[0])
            return _BY_REASON[reason](said)
    for pattern, words in _BY_MESSAGE:
        if found := pattern.search(message):
            groups = found.groupdict()
            return words(_Said(call, groups.get("project"), groups.get("permission")))
    return _not_said(_Said(call, None, None))


def explain_token(answer: str) -> str | None:
    """Say what a refused token lacks, if the answer says that.

    :param answer: what the server of the token answered.
    """
    if _IMPERSONATE in answer:
        return f"whoever impersonates it lacks {_IMPERSONATE} on it (roles/iam.serviceAccountTokenCreator)"
    return None


def _error_infos(details: Sequence[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for detail in details:
        if isinstance(detail, Mapping) and isinstance(detail.get("reason"), str):
            metadata = detail.get("metadata")
            yield detail["reason"], metadata if isinstance(metadata, Mapping) else {}
