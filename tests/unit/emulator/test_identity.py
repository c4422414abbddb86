import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth.credentials
import google.auth.transport.requests
import pytest
import requests
from google.auth import exceptions, identity_pool, impersonated_credentials, jwt
from google.auth.crypt import RSASigner
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from tests.support.emulation import PROJECT, Served, error_of, reason_of

LISTING = f"projects/{PROJECT}/operations"
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
ROBOT = "robot@emulator-project.iam.gserviceaccount.com"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def bearer(served: Served, token: str | None) -> requests.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.get(served.url(LISTING), headers=headers, timeout=30)


def token_of(credentials: Any) -> str:
    with requests.Session() as session:
        session.trust_env = False
        credentials.refresh(google.auth.transport.requests.Request(session))
    return str(credentials.token)


def post_form(served: Served, path: str, form: dict[str, str]) -> tuple[int, Any]:
    answer = requests.post(f"{served.server.base_url}/{path}", data=form, timeout=30)
    return answer.status_code, answer.json().get("error")


def service_account_credentials(served: Served, *scopes: str) -> Any:
    return service_account.Credentials.from_service_account_info(
        served.server.service_account_info(ROBOT), scopes=list(scopes)
    )


def test_without_a_token(served: Served) -> None:
    answer = bearer(served, None)
    assert error_of(answer)[:2] == (401, "UNAUTHENTICATED")
    assert reason_of(answer) == "CREDENTIALS_MISSING"
    assert "WWW-Authenticate" in answer.headers
    assert served.emulator.requests[-1].principal is None


@pytest.mark.parametrize("header", ["Bearer nonsense", "Basic bm9uc2Vuc2U=", "nonsense", ""])
def test_with_a_wrong_token(serve: Callable[..., Served], header: str) -> None:
    for require_token in (True, False):
        served = serve(require_token=require_token)
        answer = requests.get(served.url(LISTING), headers={"Authorization": header}, timeout=30)
        assert error_of(answer)[:2] == (401, "UNAUTHENTICATED")
        assert served.emulator.requests[-1].headers["authorization"] == "<refused>"


def test_anonymous_if_no_token_is_required(serve: Callable[..., Served]) -> None:
    served = serve(require_token=False)
    assert bearer(served, None).status_code == 200
    assert served.emulator.requests[-1].principal == "anonymous"


def test_tokens_expire_and_can_be_revoked(served: Served) -> None:
    short = served.emulator.issue_token("me", 10)
    assert bearer(served, short).status_code == 200
    served.clock.advance(10)
    answer = bearer(served, short)
    assert reason_of(answer) == "ACCESS_TOKEN_EXPIRED"
    long = served.emulator.issue_token("me")
    assert bearer(served, long).status_code == 200
    served.emulator.revoke_tokens()
    assert bearer(served, long).status_code == 401


def test_service_account(served: Served) -> None:
    token = token_of(service_account_credentials(served, CLOUD))
    assert bearer(served, token).status_code == 200
    assert served.emulator.requests[-1].principal == ROBOT
    assert served.emulator.requests[-1].scopes == (CLOUD,)
    assert served.emulator.requests[-1].headers["authorization"] == ROBOT
    assert token not in repr(served.emulator.requests)
    assert served.emulator.requests[0].body == {"grant_type": JWT_BEARER, "assertion": "<left out>"}


def test_delegated_service_account_is_the_subject(served: Served) -> None:
    token = token_of(service_account_credentials(served, CLOUD).with_subject("person@example.com"))
    bearer(served, token)
    assert served.emulator.requests[-1].principal == "person@example.com"


@pytest.mark.parametrize("scopes", [["https://www.googleapis.com/auth/drive"], []])
def test_insufficient_scopes(served: Served, scopes: list[str]) -> None:
    answer = bearer(served, token_of(service_account_credentials(served, *scopes)))
    assert error_of(answer)[:2] == (403, "PERMISSION_DENIED")
    assert reason_of(answer) == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_an_assertion_is_checked(served: Served) -> None:
    info = served.server.service_account_info()
    signer = RSASigner.from_service_account_info(info)
    good = {"iss": ROBOT, "aud": info["token_uri"], "iat": 0, "exp": 0, "scope": CLOUD}

    def signed(**changes: Any) -> str:
        return jwt.encode(signer, {**good, **changes}).decode()  # type: ignore[no-any-return]

    fresh = {"iat": time.time(), "exp": time.time() + 60}
    assert post_form(served, "token", {"grant_type": JWT_BEARER, "assertion": signed(**fresh)}) == (200, None)
    tampered = signed(**fresh)[:-20] + "A" * 20
    for bad in (signed(), signed(**fresh, aud="https://example.com/token"), tampered, "nonsense", ""):
        refused = post_form(served, "token", {"grant_type": JWT_BEARER, "assertion": bad})
        assert refused == (400, "invalid_grant")


def test_authorized_user(served: Served) -> None:
    info = served.server.authorized_user_info()
    assert info["type"] == "authorized_user"
    credentials = user_credentials.Credentials.from_authorized_user_info(info).with_token_uri(info["token_uri"])
    assert bearer(served, token_of(credentials)).status_code == 200
    assert served.emulator.requests[-1].principal == "user@example.com"


def test_refused_grants(served: Served) -> None:
    assert post_form(served, "token", {"grant_type": "refresh_token", "refresh_token": "x"}) == (400, "invalid_grant")
    assert post_form(served, "token", {"grant_type": "password"}) == (400, "unsupported_grant_type")
    assert post_form(served, "token", {}) == (400, "unsupported_grant_type")


def test_workload_identity(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "subject"
    file.write_text(served.emulator.issue_subject_token("pod@cluster"))
    credentials = identity_pool.Credentials.from_info(served.server.external_account_info(str(file)), scopes=[CLOUD])
    assert bearer(served, token_of(credentials)).status_code == 200
    assert served.emulator.requests[-1].principal == "pod@cluster"
    file.write_text("forged")
    with pytest.raises(exceptions.OAuthError, match="invalid_grant"):
        token_of(credentials)


def test_workload_identity_with_impersonation(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "subject"
    file.write_text(served.emulator.issue_subject_token())
    info = served.server.external_account_info(str(file), impersonate=ROBOT)
    credentials = identity_pool.Credentials.from_info(info, scopes=[CLOUD])
    assert bearer(served, token_of(credentials)).status_code == 200
    assert served.emulator.requests[-1].principal == ROBOT


def test_refused_exchanges(served: Served) -> None:
    good = {"grant_type": TOKEN_EXCHANGE, "audience": "a", "subject_token": served.emulator.issue_subject_token()}
    assert post_form(served, "v1/token", good) == (200, None)
    assert post_form(served, "v1/token", good | {"grant_type": "x"}) == (400, "unsupported_grant_type")
    assert post_form(served, "v1/token", good | {"audience": ""}) == (400, "invalid_request")


def test_impersonation(served: Served) -> None:
    credentials = impersonated_credentials.Credentials(
        source_credentials=service_account_credentials(served, CLOUD),
        target_principal=ROBOT,
        target_scopes=[CLOUD],
        delegates=["between@example.com"],
        lifetime=600,
        iam_endpoint_override=served.server.impersonation_url(ROBOT),
    )
    assert bearer(served, token_of(credentials)).status_code == 200
    (record,) = (record for record in served.emulator.requests if record.method == "impersonate")
    assert record.name == ROBOT
    assert record.principal == ROBOT
    assert record.body["delegates"] == ["between@example.com"]
    served.clock.advance(600)
    assert bearer(served, credentials.token).status_code == 401


@pytest.mark.parametrize("body", [{}, {"scope": []}, {"scope": [CLOUD], "lifetime": "long"}, {"scopes": [CLOUD]}])
def test_impersonation_refuses_bodies(served: Served, body: dict[str, Any]) -> None:
    answer = served.session.post(served.server.impersonation_url(ROBOT), json=body, timeout=30)
    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")


def test_impersonation_refuses_callers(served: Served) -> None:
    url = served.server.impersonation_url(ROBOT)
    body = {"scope": [CLOUD]}
    assert served.session.post(url, json=body, timeout=30).status_code == 200
    assert requests.post(url, json=body, timeout=30).status_code == 401
    served.emulator.deny("iam.serviceAccounts.getAccessToken", name="robot@*")
    refused = served.session.post(url, json=body, timeout=30)
    assert error_of(refused)[:2] == (403, "PERMISSION_DENIED")
    assert reason_of(refused) == "IAM_PERMISSION_DENIED"
    other = served.server.impersonation_url("other@example.com")
    assert served.session.post(other, json=body, timeout=30).status_code == 200


@pytest.mark.parametrize(
    ("permission", "method"),
    [
        ("earthengine.operations.get", "get"),
        ("earthengine.operations.get", "wait"),
        ("earthengine.operations.list", "list"),
        ("earthengine.operations.update", "cancel"),
        ("earthengine.operations.delete", "delete"),
        ("earthengine.exports.create", "export"),
        ("earthengine.assets.create", "import"),
    ],
)
def test_denied_permissions(served: Served, permission: str, method: str) -> None:
    name = served.emulator.add_operation()
    calls: dict[str, Callable[[], requests.Response]] = {
        "get": lambda: served.get(name),
        "wait": lambda: served.post(f"{name}:wait", {"timeout": "0s"}),
        "list": lambda: served.get(LISTING),
        "cancel": lambda: served.post(f"{name}:cancel"),
        "delete": lambda: served.delete(name),
        "export": lambda: served.post(f"projects/{PROJECT}/table:export"),
        "import": lambda: served.post(f"projects/{PROJECT}/table:import"),
    }
    served.emulator.deny(permission)
    code, status, message = error_of(calls[method]())
    assert (code, status) == (403, "PERMISSION_DENIED")
    assert permission in message
    assert served.emulator.state(name) == "PENDING"
    served.emulator.allow_all()
    assert calls[method]().status_code == 200


def test_permission_denied_on_one_operation_or_project(serve: Callable[..., Served]) -> None:
    served = serve(projects=["one", "two"])
    mine = served.emulator.add_operation("MINE", project="one")
    theirs = served.emulator.add_operation("THEIRS", project="one")
    elsewhere = served.emulator.add_operation("MINE", project="two")
    served.emulator.deny("earthengine.operations.update", name="*/THEIRS")
    served.emulator.deny("earthengine.operations.update", project="two")
    assert [served.post(f"{name}:cancel").status_code for name in (mine, theirs, elsewhere)] == [200, 403, 403]


def test_unknown_project(served: Served) -> None:
    for path in ("projects/nope/operations", "projects/nope/operations/X", "projects/nope/algorithms"):
        answer = served.get(path)
        code, status, message = error_of(answer)
        assert (code, status) == (403, "PERMISSION_DENIED")
        assert message.startswith("Earth Engine API has not been used in project nope before or it is disabled.")
        assert reason_of(answer) == "SERVICE_DISABLED"


def test_quota_project(served: Served) -> None:
    served.session.headers["X-Goog-User-Project"] = "payer"
    assert served.get(LISTING).status_code == 200
    assert served.emulator.requests[-1].headers["x-goog-user-project"] == "payer"
    served.emulator.deny("serviceusage.services.use", project="payer")
    assert reason_of(served.get(LISTING)) == "USER_PROJECT_DENIED"
