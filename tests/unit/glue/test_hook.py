from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_eeops.api.selecting import OperationSelector
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.exceptions import (
    CredentialsError,
    EarthEngineError,
    InvalidInputError,
    InvalidOperationNameError,
    InvalidSettingsError,
    NotConfirmedError,
    NotFoundError,
    OperationsFailedError,
    PermissionDeniedError,
)
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from tests.support.masking import redact
from tests.support.versions import AIRFLOW, READS_NO_BAD_EXTRAS
from tests.unit.glue.conftest import SetConnection


def test_making_a_hook_reads_no_connection() -> None:
    assert EarthEngineOperationsHook("no_such_connection").earthengine_conn_id == "no_such_connection"


def test_a_named_connection_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AirflowNotFoundException, match="no_such_connection"):
        _ = EarthEngineOperationsHook("no_such_connection").settings


def test_without_the_default_connection_application_default_credentials_serve(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps(server.service_account_info("adc@one.iam.gserviceaccount.com")))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    hook = EarthEngineOperationsHook()
    assert hook.credentials.service_account_email == "adc@one.iam.gserviceaccount.com"
    assert hook.base_url == "https://earthengine.googleapis.com"


@pytest.mark.usefixtures("connection")
def test_the_client_is_made_once_and_again_after_close() -> None:
    hook = EarthEngineOperationsHook()
    first = hook.get_conn()
    assert hook.get_conn() is first
    hook.close()
    assert hook.get_conn() is not first
    hook.close()


def test_a_google_cloud_platform_connection_works_as_it_is(
    set_connection: SetConnection, emulator: Emulator, server: EmulatorServer
) -> None:
    set_connection(
        "google_cloud_default",
        conn_type="google_cloud_platform",
        keyfile_dict=None,
        project=None,
        extra__google_cloud_platform__keyfile_dict=json.dumps(server.service_account_info()),
        extra__google_cloud_platform__project="one",
    )
    name = emulator.add_operation()
    with EarthEngineOperationsHook("google_cloud_default") as hook:
        assert hook.get_operation(name.rsplit("/", 1)[1]).state == "RUNNING"


def test_unknown_extras_are_named_in_a_warning(
    set_connection: SetConnection, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    set_connection(proyect="one")
    assert EarthEngineOperationsHook().settings.project == "one"
    out = capsys.readouterr()
    assert "proyect" in caplog.text + out.out + out.err


@pytest.mark.skipif((3, 0) <= AIRFLOW <= (3, 1), reason=READS_NO_BAD_EXTRAS)
@pytest.mark.parametrize("extra", ["not json", "[1]", '"text"'])
def test_extras_that_are_no_object_are_refused(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "earthengine", "extra": extra}))
    with pytest.raises(InvalidSettingsError, match="broken"):
        _ = EarthEngineOperationsHook("broken").settings


@pytest.mark.usefixtures("connection")
def test_the_project_is_the_parameter_then_the_connection_then_the_credentials(set_connection: SetConnection) -> None:
    assert EarthEngineOperationsHook(project_id="two").project_id == "two"
    assert EarthEngineOperationsHook().project_id == "one"
    set_connection("without_project", project=None)
    with EarthEngineOperationsHook("without_project") as hook:
        assert hook.project_id == hook.settings.keyfile_dict["project_id"]  # type: ignore[index]


@pytest.mark.usefixtures("connection")
def test_the_impersonation_chain_of_the_hook_replaces_the_connections(emulator: Emulator) -> None:
    name = emulator.add_operation()
    with EarthEngineOperationsHook(impersonation_chain=["a@one.example", "b@one.example"]) as hook:
        hook.cancel_operation(name)
    assert emulator.requests[-1].principal == "b@one.example"


@pytest.mark.usefixtures("connection")
def test_get_list_cancel_delete_and_wait(emulator: Emulator) -> None:
    first, second = emulator.add_operation(), emulator.add_operation(ends="FAILED", finished=True)
    with EarthEngineOperationsHook() as hook:
        assert {operation.name for operation in hook.list_operations()} == {first, second}
        hook.cancel_operation(first)
        report = hook.wait_for_operations([first, second], poll_interval=0.02, timeout=10)
        assert report.counts == {"cancelled": 1, "finished_first": 1}
        hook.delete_operation(first)
        with pytest.raises(NotFoundError, match=first):
            hook.get_operation(first)


@pytest.mark.usefixtures("connection")
def test_select_operations_takes_what_matches_and_changes_nothing(emulator: Emulator) -> None:
    one, two = emulator.add_operation(description="mine"), emulator.add_operation(description="mine", project="two")
    emulator.add_operation(description="theirs")
    selector = OperationSelector(description="mine")
    with EarthEngineOperationsHook() as hook:
        selection = hook.select_operations(selector)
        assert ([operation.name for operation in selection], selection.looked_at) == ([one], 2)
        for there in (hook.select_operations(selector, project_id="two"), hook.select_operations(IN_TWO)):
            assert [operation.name for operation in there] == [two]
        assert emulator.count("cancel") == 0
        assert hook.cancel_operations(selection).counts == {"cancel_requested": 1}
    assert [emulator.cancel_requested(name) for name in (one, two)] == [True, False]


IN_TWO = {"description": "mine", "project_id": "two"}


@pytest.mark.usefixtures("connection")
def test_a_selection_needs_a_project_and_the_permission_to_list(
    set_connection: SetConnection, emulator: Emulator, server: EmulatorServer
) -> None:
    emulator.deny("earthengine.operations.list", project="two")
    with EarthEngineOperationsHook() as hook:
        with pytest.raises(PermissionDeniedError, match=r"may not list operations of project two .* lacks") as caught:
            hook.select_operations(IN_TWO)
        assert caught.value.details[0]["reason"] == "IAM_PERMISSION_DENIED"
        with pytest.raises(InvalidInputError, match="narrows nothing"):
            hook.select_operations({"states": ["RUNNING", "PENDING"]})
        with pytest.raises(InvalidInputError, match="a template that was not rendered"):
            hook.select_operations({"description": "{{ prefix }}"})
    key = {name: value for name, value in server.service_account_info().items() if name != "project_id"}
    set_connection("without_project", project=None, keyfile_dict=key)
    with (
        EarthEngineOperationsHook("without_project") as hook,
        pytest.raises(InvalidSettingsError, match="listing needs a project"),
    ):
        hook.select_operations({"description": "mine"})


@pytest.mark.usefixtures("connection")
def test_cancel_operations_reports_each_and_one_bad_value_stops_none(emulator: Emulator) -> None:
    name = emulator.add_operation()
    with EarthEngineOperationsHook() as hook:
        report = hook.cancel_operations([name, "no such shape", "projects/one/operations/GONE"])
    assert [(r.name, r.outcome.value) for r in report.results] == [
        (name, "cancel_requested"),
        ("projects/one/operations/GONE", "not_found"),
        ("'no such shape'", "error"),
    ]


@pytest.mark.usefixtures("connection")
def test_methods_for_one_operation_refuse_two(emulator: Emulator) -> None:
    names = [emulator.add_operation(), emulator.add_operation()]
    with EarthEngineOperationsHook() as hook, pytest.raises(InvalidSettingsError, match="not 2"):
        hook.cancel_operation(names)
    assert emulator.count("cancel") == 0


@pytest.mark.usefixtures("connection")
def test_waiting_says_what_was_not_confirmed_in_time(emulator: Emulator) -> None:
    name = emulator.add_operation()
    with EarthEngineOperationsHook() as hook, pytest.raises(NotConfirmedError, match=name) as caught:
        hook.wait_for_operations(name, timeout=0.05, poll_interval=0.02)
    assert caught.value.report.counts == {"not_confirmed_in_time": 1}


@pytest.mark.usefixtures("connection")
def test_waiting_says_what_cannot_be_asked_for(emulator: Emulator) -> None:
    name = emulator.add_operation(finished=True)
    with EarthEngineOperationsHook() as hook, pytest.raises(NotConfirmedError, match="not found"):
        hook.wait_for_operations([name, "GONE"])


@pytest.mark.usefixtures("connection")
def test_waiting_ends_at_a_state_that_is_not_accepted(emulator: Emulator) -> None:
    running, failed = (
        emulator.add_operation(),
        emulator.add_operation(ends="FAILED", finished=True, error_message="No."),
    )
    with EarthEngineOperationsHook() as hook, pytest.raises(OperationsFailedError, match=r"No\.") as caught:
        hook.wait_for_operations([running, failed], accepted_states=["SUCCEEDED"])
    assert caught.value.report.counts == {"finished_first": 1, "not_confirmed_in_time": 1}


def test_listing_without_a_project_says_what_to_do(set_connection: SetConnection) -> None:
    set_connection(project=None, keyfile_dict=None, is_anonymous=True)
    with EarthEngineOperationsHook() as hook, pytest.raises(InvalidSettingsError, match="project_id"):
        hook.list_operations()
    with EarthEngineOperationsHook() as hook, pytest.raises(InvalidOperationNameError, match="needs a project"):
        hook.get_operation("SOMEID")


def test_another_project_than_the_allowed_ones_gets_no_request(
    set_connection: SetConnection, emulator: Emulator
) -> None:
    set_connection(allowed_projects="one")
    name = emulator.add_operation(project="two")
    with EarthEngineOperationsHook() as hook:
        report = hook.cancel_operations(name)
    assert report.counts == {"permission_denied": 1}
    assert emulator.requests == []


def test_loading_in_an_event_loop_reads_the_same(set_connection: SetConnection) -> None:
    set_connection()
    hook = EarthEngineOperationsHook()
    asyncio.run(hook.load())
    assert hook.settings == EarthEngineOperationsHook().settings


def test_loading_in_an_event_loop_treats_missing_connections_the_same() -> None:
    with pytest.raises(AirflowNotFoundException, match="no_such_connection"):
        asyncio.run(EarthEngineOperationsHook("no_such_connection").load())
    hook = EarthEngineOperationsHook()
    asyncio.run(hook.load())
    assert hook.settings.project is None


@pytest.mark.usefixtures("connection")
def test_the_connection_test_names_principal_and_project(emulator: Emulator) -> None:
    with EarthEngineOperationsHook() as hook:
        ok, message = hook.test_connection()
        principal = hook.credentials.service_account_email
    assert ok
    assert principal in message
    assert "project one" in message
    assert [record.method for record in emulator.requests if record.method != "token"] == ["list", "get", "cancel"]


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(
    "permission", ["earthengine.operations.list", "earthengine.operations.get", "earthengine.operations.update"]
)
def test_the_connection_test_says_which_permission_lacks(permission: str, emulator: Emulator) -> None:
    emulator.deny(permission)
    with EarthEngineOperationsHook() as hook:
        ok, message = hook.test_connection()
    assert not ok
    assert permission in message


def test_the_connection_test_takes_a_400_for_an_answer(set_connection: SetConnection, emulator: Emulator) -> None:
    set_connection(proyect="one")
    emulator.add_fault(Fault("cancel", status=400))
    with EarthEngineOperationsHook() as hook:
        ok, message = hook.test_connection()
    assert ok
    assert message.endswith("Extras that nothing reads: proyect.")


def test_without_connection_and_credentials_both_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, set_connection: SetConnection
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(CredentialsError, match=r"earthengine_default does not exist.*no Application Default"):
        _ = EarthEngineOperationsHook().credentials
    set_connection("with_connection", keyfile_dict=None)
    with pytest.raises(CredentialsError, match=r"^no Application Default"):
        _ = EarthEngineOperationsHook("with_connection").credentials


def test_the_connection_test_fails_without_a_project(set_connection: SetConnection, emulator: Emulator) -> None:
    set_connection(project=None, keyfile_dict=None, is_anonymous=True)
    with EarthEngineOperationsHook() as hook:
        ok, message = hook.test_connection()
    assert (ok, "Set 'project'" in message) == (False, True)
    assert emulator.requests == []


@pytest.mark.usefixtures("connection")
def test_the_connection_test_fails_with_the_servers_error(emulator: Emulator) -> None:
    emulator.add_fault(Fault("list", status=503, message="Try later.", times=None))
    with EarthEngineOperationsHook() as hook:
        ok, message = hook.test_connection()
    assert (ok, "Try later." in message) == (False, True)


def test_the_connection_test_fails_with_the_settings_error(set_connection: SetConnection) -> None:
    set_connection(api_version="v9")
    assert EarthEngineOperationsHook().test_connection() == (
        False,
        "connection extra api_version is 'v9': it must be one of v1alpha, v1beta, v1",
    )


def test_a_connection_that_is_not_there_fails_the_test() -> None:
    ok, message = EarthEngineOperationsHook("no_such_connection").test_connection()
    assert (ok, "no_such_connection" in message) == (False, True)


def test_the_form_hides_the_url_fields_that_nobody_needs() -> None:
    behaviour = EarthEngineOperationsHook.get_ui_field_behaviour()
    assert set(behaviour["hidden_fields"]) == {"host", "schema", "login", "password"}


def test_secrets_are_masked_as_soon_as_they_are_read(set_connection: SetConnection, server: EmulatorServer) -> None:
    set_connection(proxies=json.dumps({"https": "http://user:hunter22@proxy.example:3128"}))
    _ = EarthEngineOperationsHook().settings
    key = server.service_account_info()["private_key"]
    assert key not in str(redact(f"the key is {key}"))
    assert "hunter22" not in str(redact("the password is hunter22"))


def test_every_error_of_the_hook_is_ours(set_connection: SetConnection) -> None:
    set_connection(keyfile_dict='{"type": "service_account"}')
    with pytest.raises(EarthEngineError, match="keyfile_dict"):
        EarthEngineOperationsHook().get_conn()
