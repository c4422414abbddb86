"""The calls of the API: a request and the emulator's state -> an answer."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from airflow_provider_eeops.emulator import discovery
from airflow_provider_eeops.emulator.answers import Answer, error_answer, json_answer
from airflow_provider_eeops.emulator.errors import ApiError
from airflow_provider_eeops.emulator.identity import Identity, Issued
from airflow_provider_eeops.emulator.operations import rfc3339
from airflow_provider_eeops.emulator.routes import STARTED_TYPES, Call
from airflow_provider_eeops.emulator.service import Emulator

__all__ = ["MAX_BODY_BYTES", "Request", "form_of", "latest", "respond", "wait_seconds"]

MAX_BODY_BYTES: Final = 10 * 1024 * 1024
_MAX_WAIT_SECONDS: Final = 60.0
_SCOPE: Final = "https://www.googleapis.com/auth/"
_API_SCOPES: Final = frozenset({f"{_SCOPE}earthengine", f"{_SCOPE}cloud-platform"})
_IAM_SCOPES: Final = frozenset({f"{_SCOPE}iam", f"{_SCOPE}cloud-platform"})
_INT32_MAX: Final = 2**31 - 1
_DURATION = re.compile(r"(\d+(?:\.\d{1,9})?)s", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,60}")

# Query parameters of every Google API; they change nothing here.
_SYSTEM_PARAMETERS = frozenset(
    {
        *("access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser"),
        *("uploadType", "upload_protocol", "$.xgafv", "$alt", "$fields", "$prettyPrint"),
    }
)
_LIST_PARAMETERS = frozenset({"filter", "pageSize", "pageToken", "returnPartialSuccess"})

_PERMISSIONS: Final = {
    "get": "earthengine.operations.get",
    "wait": "earthengine.operations.get",
    "list": "earthengine.operations.list",
    "cancel": "earthengine.operations.update",
    "delete": "earthengine.operations.delete",
    "export": "earthengine.exports.create",
    "import": "earthengine.assets.create",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read completely.

    :param headers: names in lower case
    :param identity: who asks; None if the token is missing or not good
    :param base_url: address of this server
    """

    call: Call
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    identity: Identity | None
    base_url: str


def respond(emulator: Emulator, request: Request) -> Answer:
    """Let a request take effect, and answer it."""
    try:
        _check_size(request.body)
        return _ANSWERS[request.call.method](emulator, request)
    except ApiError as error:
        return error_answer(error)


def latest(emulator: Emulator, call: Call) -> Answer:
    """Operation of a call, as it is now."""
    try:
        return json_answer(_find(emulator, call.name or "", call.version))
    except ApiError as error:
        return error_answer(error)


def wait_seconds(body: bytes) -> float:
    """How long a request to wait wants to wait.

    :raises ApiError: if the body is not one
    """
    message = _json_object(body)
    _refuse_unknown_fields(message, {"timeout"})
    if message.get("timeout") is None:
        return _MAX_WAIT_SECONDS
    duration = _DURATION.fullmatch(str(message["timeout"]))
    if duration is None:
        raise ApiError(400, f"Invalid value at 'timeout' (type.googleapis.com/google.protobuf.Duration): {message}")
    return min(float(duration[1]), _MAX_WAIT_SECONDS)


def form_of(body: bytes) -> dict[str, str]:
    """Form that a request to a token endpoint carries."""
    return dict(parse_qsl(body.decode(errors="replace")))


# Operations


def _get(emulator: Emulator, request: Request) -> Answer:
    _admit(emulator, request, _PERMISSIONS["get"])
    return latest(emulator, request.call)


def _list(emulator: Emulator, request: Request) -> Answer:
    call = request.call
    _admit(emulator, request, _PERMISSIONS["list"], parameters=_LIST_PARAMETERS)
    if request.query.get("returnPartialSuccess", "false") != "false":
        raise ApiError(501, "Operation is not implemented, or supported, or enabled: returnPartialSuccess.")
    size = _page_size(request.query.get("pageSize", ""))
    operations, next_token = emulator.page(call.project, size, request.query.get("pageToken", ""), call.version)
    payload: dict[str, Any] = {}  # proto3 JSON leaves out what is empty
    if operations:
        payload["operations"] = operations
    if next_token is not None:
        payload["nextPageToken"] = next_token
    return json_answer(payload)


def _cancel(emulator: Emulator, request: Request) -> Answer:
    name = request.call.name or ""
    _admit(emulator, request, _PERMISSIONS["cancel"])
    if not emulator.cancel_supported:
        raise _unimplemented()
    _refuse_unknown_fields(_json_object(request.body), set())
    try:
        accepted = emulator.request_cancel(name)
    except KeyError:
        raise _not_found(name) from None
    if not accepted and emulator.cancel_finished == "failed_precondition":
        raise ApiError(400, f'Operation "{name}" has already finished.', rpc_status="FAILED_PRECONDITION")
    return json_answer({})


def _delete(emulator: Emulator, request: Request) -> Answer:
    name = request.call.name or ""
    _admit(emulator, request, _PERMISSIONS["delete"])
    try:
        emulator.remove_operation(name)
    except KeyError:
        raise _not_found(name) from None
    return json_answer({})


def _wait(emulator: Emulator, request: Request) -> Answer:
    _admit(emulator, request, _PERMISSIONS["wait"])
    if not emulator.wait_supported:
        raise _unimplemented()
    wait_seconds(request.body)
    return latest(emulator, request.call)


def _export(emulator: Emulator, request: Request) -> Answer:
    call = request.call
    kind = call.kind.partition(":")[2]
    identity = _admit(emulator, request, _PERMISSIONS[kind])
    message = _json_object(request.body)
    request_id = message.get("requestId") or ""
    if request_id and not _REQUEST_ID.fullmatch(str(request_id)):
        raise ApiError(400, f"Invalid request id: {request_id!r}.")
    name = emulator.start_once(
        identity.principal,
        str(request_id),
        call.project,
        description=str(message.get("description") or ""),
        type=STARTED_TYPES[call.kind],
        destination_uris=_destinations(message),
    )
    return json_answer(_find(emulator, name, call.version), name=name)


def _destinations(message: Mapping[str, Any]) -> list[str]:
    uris = []
    for options in message.values():
        if not isinstance(options, dict):
            continue
        bucket = _text(options, "cloudStorageDestination", "bucket")
        asset = _text(options, "earthEngineDestination", "name")
        if bucket:
            prefix = _text(options, "cloudStorageDestination", "filenamePrefix")
            uris.append(f"https://console.developers.google.com/storage/browser/{bucket}/{prefix}")
        if asset:
            uris.append(f"https://code.earthengine.google.com/?asset={asset}")
        if "driveDestination" in options:
            uris.append("https://drive.google.com/")
    return uris


def _text(options: Mapping[str, Any], group: str, field: str) -> str:
    inner = options.get(group)
    return str(inner.get(field) or "") if isinstance(inner, dict) else ""


def _find(emulator: Emulator, name: str, version: str) -> dict[str, Any]:
    try:
        return emulator.operation(name, version=version)
    except KeyError:
        raise _not_found(name) from None


# What Google's client asks for first


def _discovery(_: Emulator, request: Request) -> Answer:
    version = request.query.get("version", "v1alpha")
    return Answer(200, discovery.discovery_document(version, request.base_url))


def _algorithms(emulator: Emulator, request: Request) -> Answer:
    _admit(emulator, request, None, parameters=frozenset({"pageSize", "pageToken"}))
    return Answer(200, discovery.algorithms())


# Tokens


def _token(emulator: Emulator, request: Request) -> Answer:
    token_uri = f"{request.base_url}/token"
    return _oauth_answer(emulator.grant(lambda identities: identities.grant(form_of(request.body), token_uri)))


def _sts(emulator: Emulator, request: Request) -> Answer:
    issued = emulator.grant(lambda identities: identities.exchange(form_of(request.body)))
    return _oauth_answer(issued, issued_token_type="urn:ietf:params:oauth:token-type:access_token")  # noqa: S106


def _impersonate(emulator: Emulator, request: Request) -> Answer:
    email = request.call.name or ""
    permission = "iam.serviceAccounts.getAccessToken"
    _check_scopes(_identified(request), _IAM_SCOPES)
    message = _json_object(request.body)
    _refuse_unknown_fields(message, {"delegates", "scope", "lifetime"})
    if emulator.denies(permission, name=email):
        raise _denied(permission, f"Permission '{permission}' denied on resource (or it may not exist).")
    scopes = message.get("scope")
    if not isinstance(scopes, list) or not scopes:
        raise ApiError(400, "Scope required.")
    lifetime = _DURATION.fullmatch(str(message.get("lifetime") or "3600s"))
    if lifetime is None:
        raise ApiError(400, "Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration).")
    seconds = float(lifetime[1])
    issued = emulator.grant(lambda identities: identities.issue(email, seconds, tuple(map(str, scopes))))
    # The client compares this with its own clock, so the emulator's clock has no say here.
    expires = rfc3339(int(time.time() + issued.lifetime))
    return json_answer({"accessToken": issued.token, "expireTime": expires})


def _oauth_answer(issued: Issued, **more: str) -> Answer:
    return json_answer(
        {"access_token": issued.token, "expires_in": int(issued.lifetime), "token_type": "Bearer", **more}
    )


def _other(_: Emulator, __: Request) -> Answer:
    raise ApiError(404, "Method not found.")


_ANSWERS: Final[Mapping[str, Callable[[Emulator, Request], Answer]]] = {
    "get": _get,
    "list": _list,
    "cancel": _cancel,
    "delete": _delete,
    "wait": _wait,
    "export": _export,
    "discovery": _discovery,
    "algorithms": _algorithms,
    "token": _token,
    "sts": _sts,
    "impersonate": _impersonate,
    "other": _other,
}


# What every call is asked first


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise ApiError(400, f"Request payload size exceeds the limit: {MAX_BODY_BYTES} bytes.")


def _admit(
    emulator: Emulator, request: Request, permission: str | None, *, parameters: frozenset[str] = frozenset()
) -> Identity:
    call = request.call
    identity = _identified(request)
    _check_scopes(identity, _API_SCOPES)
    _check_quota_project(emulator, request)
    if call.project not in emulator.projects:
        raise _service_disabled(call.project)
    emulator.spend_quota(call.project)
    if permission is not None and emulator.denies(permission, project=call.project, name=call.name):
        resource = f"//earthengine.googleapis.com/projects/{call.project}"
        raise _denied(permission, f"Permission '{permission}' denied on resource '{resource}' (or it may not exist).")
    for parameter in request.query:
        if parameter not in parameters and parameter not in _SYSTEM_PARAMETERS:
            raise ApiError(
                400,
                f'Invalid JSON payload received. Unknown name "{parameter}": Cannot bind query parameter. '
                f"Field '{parameter}' could not be found in request message.",
            )
    return identity


def _identified(request: Request) -> Identity:
    if request.identity is not None:
        return request.identity
    challenge = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}
    if "authorization" not in request.headers:
        raise ApiError(
            401,
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
            "other valid authentication credential.",
            reason="CREDENTIALS_MISSING",
            headers=challenge,
        )
    raise ApiError(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential.",
        reason="ACCESS_TOKEN_EXPIRED",
        headers=challenge,
    )


def _check_scopes(identity: Identity, sufficient: frozenset[str]) -> None:
    if identity.scopes is not None and not sufficient.intersection(identity.scopes):
        raise ApiError(403, "Request had insufficient authentication scopes.", reason="ACCESS_TOKEN_SCOPE_INSUFFICIENT")


def _check_quota_project(emulator: Emulator, request: Request) -> None:
    quota_project = request.headers.get("x-goog-user-project")
    if quota_project and emulator.denies("serviceusage.services.use", project=quota_project):
        raise ApiError(
            403,
            f"Caller does not have required permission to use project {quota_project}. Grant the caller the "
            "roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use "
            "permission.",
            reason="USER_PROJECT_DENIED",
            metadata={"service": "earthengine.googleapis.com", "consumer": f"projects/{quota_project}"},
        )


def _page_size(text: str) -> int:
    if not text:
        return 0
    try:
        size = int(text)
    except ValueError:
        size = -1
    if not 0 <= size <= _INT32_MAX:
        raise ApiError(400, f"Invalid value at 'page_size' (TYPE_INT32), {text!r}.")
    return size


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        message = json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"Invalid JSON payload received. {error}") from error
    if not isinstance(message, dict):
        raise ApiError(400, "Invalid JSON payload received. Root element must be a message.")
    return message


def _refuse_unknown_fields(message: Mapping[str, Any], known: set[str]) -> None:
    for name in message:
        if name not in known:
            raise ApiError(400, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')


def _not_found(name: str) -> ApiError:
    return ApiError(404, f'Operation "{name}" not found.')


def _unimplemented() -> ApiError:
    return ApiError(501, "Operation is not implemented, or supported, or enabled.")


def _denied(permission: str, message: str) -> ApiError:
    return ApiError(403, message, reason="IAM_PERMISSION_DENIED", metadata={"permission": permission})


def _service_disabled(project: str) -> ApiError:
    url = f"https://console.developers.google.com/apis/api/earthengine.googleapis.com/overview?project={project}"
    return ApiError(
        403,
        f"Earth Engine API has not been used in project {project} before or it is disabled. Enable it by visiting "
        f"{url} then retry.",
        reason="SERVICE_DISABLED",
        metadata={
            "service": "earthengine.googleapis.com",
            "consumer": f"projects/{project}",
            "activationUrl": url,
        },
    )
