"""What a 403 lacks: the call, Google's message and its ErrorInfo -> a permission, or what else is missing.

The reasons are those of google.api.ErrorReason, see https://google.aip.dev/193 and
https://cloud.google.com/service-infrastructure/docs/service-management/reference/rpc/google.api#errorreason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

__all__ = ["PERMISSIONS", "SCOPES", "Call", "Denial", "explain", "explain_token", "remedy_for"]

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

_ROLES: Mapping[str, str] = {
    "earthengine.operations.delete": "roles/earthengine.writer",
    "earthengine.operations.get": "roles/earthengine.viewer",
    "earthengine.operations.list": "roles/earthengine.viewer",
    "earthengine.operations.update": "roles/earthengine.writer",
}
"""The least of Earth Engine's own roles that has it."""

_IMPERSONATE = "iam.serviceAccounts.getAccessToken"
_USE = "serviceusage.services.use"
_CONSUMER_ROLE = "roles/serviceusage.serviceUsageConsumer"
_LEGACY = "projects/earthengine-legacy/"
_NONE_MISSING = "no permission is missing"

# What an answer may put into our words: nothing but a name.
_PERMISSION = re.compile(r"[a-z][A-Za-z0-9]{0,62}(\.[A-Za-z][A-Za-z0-9]{0,62}){1,4}")
_CONSUMER = re.compile(r"projects/([A-Za-z0-9][A-Za-z0-9.:_-]{0,62})")


class Denial(NamedTuple):
    """Why a request was refused.

    :param missing: in words, to end a sentence.
    :param permission: the permission that is missing; where the answer names none, the one that the call needs; None
        if something else is missing.
    :param remedy: what to do, in words; nothing if that depends on which of several is missing.
    """

    missing: str
    permission: str | None
    remedy: str = ""


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
    such_as = f", such as {_ROLES[said.permission]}" if said.permission in _ROLES else ""
    return Denial(f"the principal lacks {said.permission}", said.permission, f"grant it a role that has it{such_as}")


def _may_not_use(said: _Said) -> Denial:
    return Denial(
        f"the principal lacks {_USE} on {said.of_project}, whose quota the request would use",
        _USE,
        f"grant it {_CONSUMER_ROLE} there, or name another project in the connection's quota_project_id",
    )


def _no_such_consumer(said: _Said) -> Denial:
    return Denial(
        f"{said.of_project}, whose quota the request would use, is not there, or the principal lacks {_USE} on it",
        _USE,
        f"correct the connection's quota_project_id, or grant it {_CONSUMER_ROLE} there",
    )


def _suspended(said: _Said) -> Denial:
    return Denial(f"{said.of_project}, whose quota the request would use, is suspended; {_NONE_MISSING}", None)


def _api_disabled(said: _Said) -> Denial:
    return Denial(
        f"the Earth Engine API is not enabled in {said.of_project}; {_NONE_MISSING}",
        None,
        "enable it there, or name the project that was meant",
    )


def _no_billing(said: _Said) -> Denial:
    return Denial(f"billing is not enabled in {said.of_project}; {_NONE_MISSING}", None, "enable it there")


def _not_registered(_: _Said) -> Denial:
    return Denial(
        f"the project is not registered for Earth Engine; {_NONE_MISSING}",
        None,
        "register it, or name the project that was meant",
    )


def _no_scope(_: _Said) -> Denial:
    return Denial(
        f"the token has neither scope that serves, {' or '.join(SCOPES)}; {_NONE_MISSING}",
        None,
        "name one in the connection's scope, or leave scope out",
    )


def _perimeter(_: _Said) -> Denial:
    return Denial(
        f"VPC Service Controls forbid it; {_NONE_MISSING}",
        None,
        "have the perimeter admit this principal and the network it comes from",
    )


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
        return f"whoever impersonates it lacks {_IMPERSONATE} on it: grant roles/iam.serviceAccountTokenCreator on it"
    return next((words for part, words in _BY_GRANT if part in answer), None)


# What Google's token server says of a grant that it refuses.
_BY_GRANT: Sequence[tuple[str, str]] = (
    ("Check your iat and exp", "the clock of this machine is wrong: set it, by NTP"),
    ("Invalid JWT Signature", "the key was deleted or is another account's: download a new one"),
    ("account not found", "the service account was deleted: use the key of another"),
    ("expired or revoked", "log in again, or use a service account's key"),
)


def remedy_for(operation_name: str | None, details: Sequence[Any]) -> str:
    """Say what to do about an answer that is not about a permission: 401 or 404; nothing if it depends.

    :param operation_name: the operation asked for, if one was.
    :param details: Google's ``error.details``.
    """
    if any(reason == "CREDENTIALS_MISSING" for reason, _ in _error_infos(details)):
        return (
            "none were sent, as the connection is_anonymous: start the emulator with --allow-anonymous, or give the"
            " connection a key"
        )
    if operation_name is not None and operation_name.startswith(_LEGACY):
        return (
            "this is where Earth Engine's client starts operations if it was given no project: start them after"
            " ee.Initialize(project=...), and name them in that project"
        )
    return ""


def _error_infos(details: Sequence[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for detail in details:
        if isinstance(detail, Mapping) and isinstance(detail.get("reason"), str):
            metadata = detail.get("metadata")
            yield detail["reason"], metadata if isinstance(metadata, Mapping) else {}
