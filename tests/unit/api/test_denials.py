from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_eeops.api.cancelling import cancel_operations
from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.denials import PERMISSIONS, SCOPES, Call, explain, explain_token
from airflow_provider_eeops.emulator import Emulator, Fault
from airflow_provider_eeops.exceptions import NotFoundError, PermissionDeniedError, UnauthenticatedError
from tests.unit.conftest import Connect

GET = "earthengine.operations.get"
USE = "serviceusage.services.use"
CALLER = "The caller does not have permission"
NOT_SAID = "the answer does not say which is missing"


@pytest.fixture
def name(emulator: Emulator) -> str:
    return emulator.add_operation("A")


def info(reason: Any, **metadata: Any) -> list[Any]:
    return [
        {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata},
    ]


@pytest.mark.parametrize(
    ("message", "details", "missing", "permission"),
    [
        ("No.", info("IAM_PERMISSION_DENIED", permission="a.b.c"), "the principal lacks a.b.c", "a.b.c"),
        ("No.", info("IAM_PERMISSION_DENIED"), NOT_SAID, GET),
        ("No.", info("IAM_PERMISSION_DENIED", permission="rm -rf <b>"), NOT_SAID, GET),
        ("No.", info("IAM_PERMISSION_DENIED", permission="a.b and more"), NOT_SAID, GET),
        ("No.", info("IAM_PERMISSION_DENIED", permission=["a.b"]), NOT_SAID, GET),
        (f"Permission '{GET}' denied on resource 'x' (or it may not exist).", [], f"the principal lacks {GET}", GET),
        ("Permission 'a b' denied", [], NOT_SAID, GET),
        ("No.", info("USER_PROJECT_DENIED", consumer="projects/paying"), f"lacks {USE} on project paying", USE),
        ("No.", info("USER_PROJECT_DENIED", consumer="<b>"), f"lacks {USE} on the project", USE),
        ("Caller does not have required permission to use project p-1. Grant", [], f"lacks {USE} on project p-1", USE),
        ("No.", info("CONSUMER_INVALID", consumer="projects/12"), f"or the principal lacks {USE} on it", USE),
        ("No.", info("CONSUMER_SUSPENDED", consumer="projects/12"), "project 12, whose quota the", None),
        ("No.", info("SERVICE_DISABLED", consumer="projects/12"), "API is not enabled in project 12", None),
        ("Earth Engine API has not been used in project 12 before or", [], "API is not enabled in project 12", None),
        ("No.", info("BILLING_DISABLED", consumer="projects/12"), "billing is not enabled in project 12", None),
        ("No.", info("SECURITY_POLICY_VIOLATED"), "VPC Service Controls forbid it", None),
        ("No.", info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), SCOPES[0], None),
        ("Request had insufficient authentication scopes.", [], SCOPES[1], None),
        ("Project p is not registered to use Earth Engine. Visit x", [], "not registered for Earth Engine", None),
        (
            "Project p is not registered to use Earth Engine. Visit x",
            info("IAM_PERMISSION_DENIED", permission=GET),
            "not registered for Earth Engine",
            None,
        ),
        ("No.", [*info("SOMETHING_NEW"), *info("BILLING_DISABLED")], "billing is not enabled in the project", None),
        (CALLER, info("SOMETHING_NEW"), NOT_SAID, GET),
        (CALLER, [], NOT_SAID, GET),
        (CALLER, [None, 7, "x", {"reason": 7}, {"reason": "SERVICE_DISABLED", "metadata": 7}], "in the project", None),
    ],
)
def test_what_is_missing(message: str, details: list[Any], missing: str, permission: str | None) -> None:
    denial = explain("get", message, details)
    assert missing in denial.missing
    assert denial.permission == permission
    assert ("no permission is missing" in denial.missing) is (permission is None)


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("Permission 'iam.serviceAccounts.getAccessToken' denied on resource", "roles/iam.serviceAccountTokenCreator"),
        ("invalid_grant: Invalid JWT: ... Check your iat and exp values in the JWT claim.", "clock of this machine"),
        ("invalid_grant: Invalid JWT Signature.", "download a new one"),
        ("invalid_grant: Invalid grant: account not found", "use the key of another"),
        ("invalid_grant: Token has been expired or revoked.", "log in again"),
        ("invalid_grant", None),
        ("", None),
    ],
)
def test_what_a_token_lacks(answer: str, missing: str | None) -> None:
    assert (missing or "None") in str(explain_token(answer))


@pytest.mark.parametrize(
    ("message", "details", "remedy"),
    [
        ("No.", info("IAM_PERMISSION_DENIED", permission=GET), "such as roles/earthengine.viewer"),
        ("No.", info("IAM_PERMISSION_DENIED", permission="earthengine.operations.update"), "roles/earthengine.writer"),
        ("No.", info("IAM_PERMISSION_DENIED", permission="a.b.c"), "grant it a role that has it"),
        ("No.", info("USER_PROJECT_DENIED", consumer="projects/paying"), "quota_project_id"),
        ("No.", info("CONSUMER_INVALID", consumer="projects/12"), "correct the connection's quota_project_id"),
        ("No.", info("SERVICE_DISABLED", consumer="projects/12"), "enable it there"),
        ("No.", info("BILLING_DISABLED", consumer="projects/12"), "enable it there"),
        ("No.", info("SECURITY_POLICY_VIOLATED"), "perimeter"),
        ("No.", info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), "the connection's scope"),
        ("Project p is not registered to use Earth Engine. Visit x", [], "register it"),
    ],
)
def test_what_to_do(message: str, details: list[Any], remedy: str) -> None:
    assert remedy in explain("get", message, details).remedy


@pytest.mark.parametrize("call", ["get", "cancel"])
def test_an_operation_of_nobodys_project(client: EarthEngineOperationsClient, emulator: Emulator, call: str) -> None:
    error = refused(client, call, "projects/earthengine-legacy/operations/A")
    assert "ee.Initialize(project=...)" in str(error)
    emulator.add_fault(Fault(call, status=404))
    with pytest.raises(NotFoundError, match=r"ee\.Initialize\(project=\.\.\.\)"):
        CALLS[call](client, "projects/earthengine-legacy/operations/A")


def test_a_request_without_a_token(connected: Connect, name: str) -> None:
    with pytest.raises(UnauthenticatedError, match="start the emulator with --allow-anonymous"):
        connected(is_anonymous=True).get_operation(name)


@pytest.mark.parametrize(
    ("call", "permission"),
    [
        ("cancel", "earthengine.operations.update"),
        ("delete", "earthengine.operations.delete"),
        ("export", "earthengine.exports.create"),
        ("get", GET),
        ("list", "earthengine.operations.list"),
        ("wait", GET),
    ],
)
def test_where_the_answer_says_nothing_the_calls_own_permission_is_named(call: Call, permission: str) -> None:
    denial = explain(call, CALLER, [])
    assert denial.permission == permission
    assert denial.missing.startswith(f"to {call} takes {permission}, ")
    assert set(PERMISSIONS) == {"cancel", "delete", "export", "get", "list", "wait"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
REASON = st.sampled_from(["IAM_PERMISSION_DENIED", "USER_PROJECT_DENIED", "SERVICE_DISABLED"]) | JSON
METADATA = st.fixed_dictionaries({}, optional={"permission": JSON, "consumer": JSON}) | JSON
DETAIL = st.fixed_dictionaries({"reason": REASON}, optional={"metadata": METADATA}) | JSON


@given(st.sampled_from(sorted(PERMISSIONS)), st.text(), st.lists(DETAIL))
@example("get", "Permission '\x1b[31m.x' denied", [])
@example("get", "", info("IAM_PERMISSION_DENIED", permission="a.b\n"))
@example("get", "", info("SERVICE_DISABLED", consumer="projects/" + "9" * 10_000))
def test_nothing_but_a_name_gets_from_the_answer_into_our_words(call: Call, message: str, details: list[Any]) -> None:
    denial = explain(call, message, details)
    assert denial.missing.isprintable()
    assert len(denial.missing) < 600


CALLS: dict[str, Callable[[EarthEngineOperationsClient, str], object]] = {
    "cancel": lambda client, name: client.cancel_operation(name),
    "delete": lambda client, name: client.delete_operation(name),
    "get": lambda client, name: client.get_operation(name),
    "list": lambda client, _name: list(client.list_operations("one")),
    "wait": lambda client, name: client.wait_operation(name, timeout=0),
}


def refused(client: EarthEngineOperationsClient, call: str, name: str) -> PermissionDeniedError:
    with pytest.raises(PermissionDeniedError) as caught:
        CALLS[call](client, name)
    for copy in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (copy.permission, copy.missing) == (caught.value.permission, caught.value.missing)
        assert str(copy) == str(caught.value)
    return caught.value


@pytest.mark.parametrize("call", sorted(CALLS))
def test_each_call_names_its_permission(
    client: EarthEngineOperationsClient, emulator: Emulator, call: Any, name: str
) -> None:
    permission = PERMISSIONS[call]
    emulator.deny(permission)
    error = refused(client, call, name)
    assert (error.permission, error.missing) == (permission, f"the principal lacks {permission}")
    assert str(error).count(permission) == 1
    assert emulator.count(call) == 1


@pytest.mark.parametrize("call", sorted(CALLS))
def test_also_where_the_server_does_not(
    client: EarthEngineOperationsClient, emulator: Emulator, call: Any, name: str
) -> None:
    body = json.dumps({"error": {"code": 403, "message": CALLER, "status": "PERMISSION_DENIED"}}).encode()
    emulator.add_fault(Fault(call, status=403, body=body))
    error = refused(client, call, name)
    assert error.permission == PERMISSIONS[call]
    assert f"HTTP 403 PERMISSION_DENIED: {CALLER} (to {call} takes {PERMISSIONS[call]}, " in str(error)


def test_the_project_whose_quota_is_used(connected: Connect, emulator: Emulator, name: str) -> None:
    emulator.deny(USE, project="paying")
    error = refused(connected(quota_project_id="paying"), "get", name)
    assert error.permission == USE
    assert "project paying" in error.missing


def test_a_project_without_the_api(client: EarthEngineOperationsClient) -> None:
    error = refused(client, "get", "projects/three/operations/A")
    assert error.permission is None
    assert error.missing == "the Earth Engine API is not enabled in project three; no permission is missing"
    assert "overview?project=three then retry. (the Earth Engine API" in str(error)


def test_a_token_of_another_scope(connected: Connect, name: str) -> None:
    error = refused(connected(scope="https://www.googleapis.com/auth/drive"), "get", name)
    assert error.permission is None
    assert all(scope in error.missing for scope in SCOPES)


def test_the_report_names_the_permission_once_an_operation(
    client: EarthEngineOperationsClient, emulator: Emulator
) -> None:
    names = [emulator.add_operation() for _ in range(3)]
    emulator.deny("earthengine.operations.update")
    for result in cancel_operations(client, names).results:
        assert str(result).startswith(f"{result.name}: permission denied: HTTP 403 PERMISSION_DENIED: ")
        assert str(result).count("earthengine.operations.update") == 1
