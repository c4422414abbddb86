"""The mistakes of docs/troubleshooting.md, each made for real: what is on the screen then."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, Context

from airflow_provider_eeops.__main__ import main
from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.operators.exports import EarthEngineExportOperator
from airflow_provider_eeops.operators.operations import EarthEngineCancelOperationsOperator
from airflow_provider_eeops.sensors.operations import EarthEngineOperationsSensor
from tests.support.task_instance import FakeTaskInstance
from tests.support.versions import AIRFLOW
from tests.unit.glue.conftest import SetConnection

__all__ = ["ACCOUNT", "MISTAKES", "OPERATION", "PROJECT", "Place"]

PROJECT = "my-project"
ACCOUNT = f"airflow@{PROJECT}.iam.gserviceaccount.com"
_NOBODY = 65534
OPERATION = f"projects/{PROJECT}/operations/3DNU363IM57LNU4SDTMB6I33"


@dataclass
class Place:
    """Where a mistake is made: an emulator, a connection to it, a task."""

    emulator: Emulator
    server: EmulatorServer
    set_connection: SetConnection
    directory: Path
    monkeypatch: pytest.MonkeyPatch
    caplog: pytest.LogCaptureFixture
    capsys: pytest.CaptureFixture[str]

    def connect(self, conn_id: str = "earthengine_default", **changes: Any) -> None:
        """Set a connection as :func:`set_connection` does, with the page's names in it."""
        key = self.server.service_account_info(ACCOUNT)
        extras = {"project": PROJECT, "keyfile_dict": key, "num_retries": 0, **changes}
        self.set_connection(conn_id, **extras)

    def file(self, name: str, text: str) -> str:
        """Write a file; return its path."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def key(self, **changes: Any) -> dict[str, Any]:
        """A service account's key, changed."""
        return self.server.service_account_info(ACCOUNT) | changes

    def cancel(self, operations: Any = OPERATION, *, ti: FakeTaskInstance | None = None, **parameters: Any) -> str:
        """Execute the operator; return what its log and its error say."""
        if not parameters.keys() & {"xcom_task_ids", "selector"}:
            parameters["operations"] = operations
        return self.executed(EarthEngineCancelOperationsOperator(task_id="cancel", **parameters), ti=ti)

    def wait(self, operations: Any, *, ti: FakeTaskInstance | None = None) -> str:
        """Execute the sensor; return what its log and its error say."""
        return self.executed(EarthEngineOperationsSensor(task_id="wait", operations=operations), ti=ti)

    def export(self, function: Callable[[Any], Any], **changes: Any) -> str:
        """Execute an export task whose function is given ``ee``; return what its log and its error say."""
        self.connect(**changes)
        self.monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # ee also asks elsewhere, and does without

        def export() -> Any:
            return function(sys.modules["ee"])

        try:
            return self.executed(EarthEngineExportOperator(task_id="export", python_callable=export, deferrable=False))
        finally:
            if sys.modules.get("ee") is not None:
                sys.modules["ee"].Reset()

    def executed(self, operator: BaseOperator, *, ti: FakeTaskInstance | None = None) -> str:
        """Execute a task in a DAG with the tasks of the task instance's."""
        ti = ti or FakeTaskInstance("before")
        if operator.get_dag() is None:
            operator.dag = ti.task.dag
        ti.task, ti.task_id = operator, operator.task_id
        return self.told_by(lambda: operator.execute(cast(Context, {"ti": ti})))

    def told_by(self, call: Callable[[], Any]) -> str:
        """What a call writes to the log at WARNING or above, and its error."""
        self.caplog.clear()
        self.capsys.readouterr()
        told = []
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever is on the screen
            told = [str(error)]
        logged = [record.getMessage() for record in self.caplog.records if record.levelno >= logging.WARNING]
        # Airflow's own loggers, which a task's and a hook's are, write to the terminal here.
        shown = self.capsys.readouterr().out.splitlines()
        logged += [line for line in shown if "[warning" in line and "outside of the Task Runner" not in line]
        return "\n".join([*logged, *told])

    def command(self, *argv: str) -> str:
        """Run a command; return what it says on stderr."""
        with pytest.raises(SystemExit):
            main(argv)
        return self.capsys.readouterr().err


MISTAKES: dict[str, Callable[[Place], str]] = {}

_Make = Callable[[Place], str]


def _shows(words: str) -> Callable[[_Make], _Make]:
    """Enter a mistake under the words on the screen, which are its heading on the page."""

    def enter(make: _Make) -> _Make:
        assert words not in MISTAKES
        MISTAKES[words] = make
        return make

    return enter


# The connection


@_shows("connection 'earthengine_prod' does not exist")
def _wrong_connection_id(at: Place) -> str:
    return at.cancel(earthengine_conn_id="earthengine_prod")


@_shows("does not exist, and there are no Application Default Credentials")
def _no_connection_and_no_credentials(at: Place) -> str:
    at.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(at.directory / "none.json"))
    return at.cancel()


@_shows("is of type 'http'")
def _connection_of_another_type(at: Place) -> str:
    at.connect("of_another_type", conn_type="http")
    return at.cancel(earthengine_conn_id="of_another_type")


@_shows("extras that nothing reads")
def _misspelt_extra(at: Place) -> str:
    at.connect(projekt="x")
    at.emulator.add_operation(OPERATION.rsplit("/", 1)[1])
    return at.cancel()


@_shows("cannot be read (No such file or directory)")
def _key_file_missing(at: Place) -> str:
    at.connect(keyfile_dict=None, key_path=str(at.directory / "key.json"))
    return at.cancel()


@_shows("cannot be read (Permission denied)")
def _key_file_unreadable(at: Place) -> str:
    from airflow_provider_eeops.api import credentials as _loaded  # noqa: F401 - while this user may read the code

    path = at.file("key.json", "{}")
    Path(path).chmod(0)
    at.connect(keyfile_dict=None, key_path=path)
    user = os.geteuid()
    with EarthEngineOperationsHook() as hook:
        hook.settings  # noqa: B018 - reads the connection
        if user == 0:
            os.seteuid(_NOBODY)
        try:
            return at.told_by(lambda: hook.credentials)
        finally:
            os.seteuid(user)


@_shows("is not JSON: it must be the file as Google Cloud makes it")
def _key_file_not_json(at: Place) -> str:
    at.connect(keyfile_dict=None, key_path=at.file("key.json", "-----BEGIN PRIVATE KEY-----"))
    return at.cancel()


@_shows("is not JSON, line 1")
def _key_not_json(at: Place) -> str:
    at.connect(keyfile_dict='{"type": "service_account", ')
    return at.cancel()


@_shows("is an OAuth client's")
def _key_of_an_oauth_client(at: Place) -> str:
    client = {"installed": {"client_id": "x.apps.googleusercontent.com", "client_secret": "s3cret-of-the-client"}}
    at.connect(keyfile_dict=None, key_path=at.file("key.json", json.dumps(client)))
    return at.cancel()


@_shows("is what 'earthengine authenticate' writes")
def _ee_authenticate_file(at: Place) -> str:
    # What ee.Authenticate() writes to ~/.config/earthengine/credentials
    stored = {"redirect_uri": "http://localhost:8085", "refresh_token": "1//secret-refresh-token", "scopes": []}
    at.connect(keyfile_dict=None, key_path=at.file("key.json", json.dumps(stored)))
    return at.cancel()


@_shows("is not a usable service_account configuration")
def _key_cut(at: Place) -> str:
    at.connect(keyfile_dict=at.key(private_key="-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"))
    return at.cancel()


@_shows("has a token_uri that is not Google's")
def _key_for_another_service(at: Place) -> str:
    at.connect(keyfile_dict=at.key(token_uri="https://login.example.com/token"))
    return at.cancel()


@_shows("api_version is 'v2'")
def _wrong_api_version(at: Place) -> str:
    at.connect(api_version="v2")
    return at.cancel()


@_shows("a token goes over plain http to this machine only")
def _plain_http(at: Place) -> str:
    at.connect(base_url="http://earthengine.example.com")
    return at.cancel()


@_shows("base_url must be scheme and host alone")
def _base_url_with_version(at: Place) -> str:
    at.connect(base_url="https://earthengine.googleapis.com/v1alpha")
    return at.cancel()


@_shows("'My Project' is not a project id")
def _display_name(at: Place) -> str:
    at.connect(project="My Project")
    return at.cancel()


@_shows("'projects/my-project' is not a project id")
def _project_path(at: Place) -> str:
    at.connect(project="projects/my-project")
    return at.cancel()


@_shows("operation id '3DNU363IM57LNU4SDTMB6I33' needs a project")
def _no_project(at: Place) -> str:
    at.connect(project=None, keyfile_dict=None, is_anonymous=True)
    return at.cancel("3DNU363IM57LNU4SDTMB6I33")


@_shows("listing needs a project")
def _no_project_to_list(at: Place) -> str:
    at.connect(project=None, keyfile_dict=None, is_anonymous=True)
    return at.command("list")


@_shows("a project's number is another name than its id")
def _number_not_allowed(at: Place) -> str:
    at.connect(allowed_projects="my-project")
    return at.cancel("projects/123456789012/operations/3DNU363IM57LNU4SDTMB6I33")


@_shows("is not in one of the connection's allowed_projects")
def _not_allowed(at: Place) -> str:
    at.connect(allowed_projects="my-project")
    return at.cancel("projects/other-project/operations/3DNU363IM57LNU4SDTMB6I33")


# Tokens


def _nobody_listens() -> str:
    """An address on this machine at which nobody answers."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


@_shows("no answer from")
def _no_token_server(at: Place) -> str:
    at.connect(keyfile_dict=at.key(token_uri=f"{_nobody_listens()}/token"))
    return at.cancel()


@_shows("at the proxy")
def _no_proxy(at: Place) -> str:
    at.connect(
        base_url=None,
        keyfile_dict=at.key(token_uri="https://oauth2.googleapis.com/token"),
        proxies=json.dumps({"https": _nobody_listens()}),
    )
    return at.cancel()


def _grant_refused(at: Place, description: str) -> str:
    body = json.dumps({"error": "invalid_grant", "error_description": description}).encode()
    at.emulator.add_fault(Fault("token", status=400, body=body, content_type="application/json", times=None))
    at.connect()
    return at.cancel()


@_shows("Check your iat and exp values")
def _clock_skew(at: Place) -> str:
    return _grant_refused(
        at,
        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat"
        " and exp values in the JWT claim.",
    )


@_shows("Invalid JWT Signature")
def _key_deleted(at: Place) -> str:
    return _grant_refused(at, "Invalid JWT Signature.")


@_shows("invalid_grant: Invalid grant: account not found")
def _account_deleted(at: Place) -> str:
    return _grant_refused(at, "Invalid grant: account not found")


@_shows("Token has been expired or revoked")
def _user_token_expired(at: Place) -> str:
    user = at.server.authorized_user_info() | {"refresh_token": "1//revoked-refresh-token"}
    at.connect(keyfile_dict=user)
    return at.cancel()


@_shows("Unable to acquire impersonated credentials")
def _impersonation(at: Place) -> str:
    at.emulator.deny("iam.serviceAccounts.getAccessToken")
    at.connect(impersonation_chain="robot@my-project.iam.gserviceaccount.com")
    return at.cancel()


# What the API refuses


@_shows("HTTP 401 UNAUTHENTICATED: Request is missing required authentication credential")
def _anonymous(at: Place) -> str:
    at.connect(keyfile_dict=None, is_anonymous=True)
    return at.cancel()


@_shows("HTTP 403 PERMISSION_DENIED: Earth Engine API has not been used in project other-project")
def _api_not_enabled(at: Place) -> str:
    at.connect()
    return at.cancel("projects/other-project/operations/3DNU363IM57LNU4SDTMB6I33")


@_shows("is not registered to use Earth Engine")
def _not_registered(at: Place) -> str:
    message = (
        f"Project {PROJECT} is not registered to use Earth Engine. Visit"
        f" https://console.cloud.google.com/earth-engine/configuration?project={PROJECT} to register your project."
    )
    at.emulator.add_fault(Fault("cancel", status=403, message=message, times=None))
    at.connect()
    return at.cancel()


@_shows("Permission 'earthengine.operations.update' denied on resource")
def _viewer(at: Place) -> str:
    at.emulator.deny("earthengine.operations.update")
    at.emulator.add_operation(OPERATION.rsplit("/", 1)[1])
    at.connect()
    return at.cancel()


@_shows("may not list operations of project")
def _may_not_list(at: Place) -> str:
    at.emulator.deny("earthengine.operations.list")
    at.connect()
    return at.cancel(selector={"description": "nightly-*"})


@_shows("no answer (ConnectionRefusedError: Connection refused)")
def _nobody_answers(at: Place) -> str:
    at.connect(base_url="http://localhost:9", is_anonymous=True, keyfile_dict=None)
    return at.cancel()


@_shows("HTTP 403 PERMISSION_DENIED: The caller does not have permission")
def _unspecific(at: Place) -> str:
    at.emulator.add_fault(Fault("cancel", status=403, message="The caller does not have permission", times=None))
    at.connect()
    return at.cancel()


@_shows("Request had insufficient authentication scopes")
def _wrong_scope(at: Place) -> str:
    at.connect(scope="https://www.googleapis.com/auth/drive")
    return at.cancel()


@_shows("Caller does not have required permission to use project paying-project")
def _quota_project(at: Place) -> str:
    at.emulator.deny("serviceusage.services.use", project="paying-project")
    at.connect(quota_project_id="paying-project")
    return at.cancel()


@_shows("projects/earthengine-legacy/")
def _legacy(at: Place) -> str:
    at.connect()
    return at.cancel("projects/earthengine-legacy/operations/3DNU363IM57LNU4SDTMB6I33")


@_shows("has not been used in project 123456789012")
def _project_number(at: Place) -> str:
    at.connect(project="123456789012")
    return at.cancel("3DNU363IM57LNU4SDTMB6I33")


@_shows("HTTP 404 NOT_FOUND")
def _not_found(at: Place) -> str:
    at.connect()
    return at.cancel()


@_shows("with an answer that is not the API's")
def _html(at: Place) -> str:
    at.emulator.add_fault(
        Fault(
            "any",
            status=407,
            body=b"<html><title>Proxy Authentication Required</title>",
            content_type="text/html",
            times=None,
        )
    )
    at.connect(keyfile_dict=None, is_anonymous=True)
    return at.cancel()


# Names and XComs


def _after_export(**pushed: Any) -> FakeTaskInstance:
    """A task instance in a DAG that has a task ``export``, and what that pushed."""
    ti = FakeTaskInstance("before")
    export = ti.sibling("export")
    for key, value in pushed.items():
        export.xcom_push(key, value)
    return ti


def _ee_task(task_id: str | None, state: str) -> Any:
    import ee.batch

    return ee.batch.Task(
        task_id, ee.batch.Task.Type.EXPORT_IMAGE, ee.batch.Task.State(state), {"description": "nightly"}
    )


@_shows("a task id of this DAG, and no operation: pass it as xcom_task_ids")
def _airflow_task_id(at: Place) -> str:
    at.connect()
    return at.cancel("export", ti=_after_export())


@_shows("a task id of this DAG, and no operation: pass what the task returns")
def _airflow_task_id_wait(at: Place) -> str:
    at.connect()
    return at.wait("export", ti=_after_export())


@_shows("EXPORT_IMAGE: nightly (READY)>' is not an operation name")
def _repr(at: Place) -> str:
    at.connect()
    return at.cancel("<Task 3DNU363IM57LNU4SDTMB6I33 EXPORT_IMAGE: nightly (READY)>")


@_shows("is neither JSON nor a Python literal that holds operations. It is how Python shows an object")
def _reprs(at: Place) -> str:
    at.connect()
    return at.cancel("[<Task 3DNU363IM57LNU4SDTMB6I33 EXPORT_IMAGE: nightly (READY)>]")


@_shows("No operation to cancel: operations is empty, or its template rendered to nothing")
def _none(at: Place) -> str:
    at.connect()
    return at.cancel("None")


@_shows("It is a template that was not rendered")
def _unrendered(at: Place) -> str:
    at.connect()
    return at.cancel("{{ ti.xcom_pull(task_ids='export') }}")


@_shows("No operation to wait for: operations is empty, or its template rendered to nothing")
def _none_wait(at: Place) -> str:
    at.connect()
    return at.wait("None")


@_shows("an Earth Engine task that was not started")
def _unsubmitted(at: Place) -> str:
    at.connect()
    return at.cancel(_ee_task(None, "UNSUBMITTED"))


@_shows("export pushed none, neither as return_value nor")
def _pushed_nothing(at: Place) -> str:
    at.connect()
    return at.cancel(xcom_task_ids="export", ti=_after_export())


@_shows("export pushed none as 'earthengine_operation'")
def _key_misspelt(at: Place) -> str:
    at.connect()
    ti = _after_export(earthengine_operations=[OPERATION])
    return at.cancel(xcom_task_ids="export", xcom_key="earthengine_operation", ti=ti)


@_shows("xcom_task_ids names 'exprot'")
def _unknown_task(at: Place) -> str:
    at.connect()
    return at.cancel(xcom_task_ids="exprot", ti=_after_export())


@_shows("a mapping without 'name' or 'id'")
def _something_else(at: Place) -> str:
    at.connect()
    return at.cancel(xcom_task_ids="export", ti=_after_export(return_value={"rows": 12}))


@_shows("Cannot serialize object of type <class 'ee.batch.Task'>")
def _ee_task_in_xcom(at: Place) -> str:
    if AIRFLOW < (3, 3):
        pytest.skip("the words are Airflow 3.3's own; those of earlier ones differ")
    from airflow.sdk.bases.xcom import BaseXCom

    return at.told_by(lambda: BaseXCom.serialize_value(_ee_task("3DNU363IM57LNU4SDTMB6I33", "READY")))


# Exports


@_shows("a value of type ee.image.Image is not an operation")
def _image_returned(at: Place) -> str:
    return at.export(lambda ee: ee.Image.constant(1))


@_shows("ConnectionRefusedError: Connection refused")
def _nobody_at_base_url(at: Place) -> str:
    import ee

    ee.data.setMaxRetries(0)  # Google's client waits for a minute in between
    return at.export(lambda ee: ee.Image.constant(1), base_url="http://localhost:9")


@_shows("Earth Engine client library not initialized")
def _ee_in_an_ordinary_task(at: Place) -> str:
    import ee

    return at.told_by(lambda: ee.Image.constant(1).getInfo())


@_shows("Google's client for Earth Engine is not installed")
def _no_ee(at: Place) -> str:
    at.monkeypatch.setitem(sys.modules, "ee", None)
    return at.export(lambda ee: ee)


@_shows("It returned None")
def _return_forgotten(at: Place) -> str:
    return at.export(lambda _ee: None)


@_shows("'outputBucket'")
def _no_bucket(at: Place) -> str:
    return at.export(lambda ee: ee.batch.Export.image.toCloudStorage(ee.Image.constant(1), description="nightly"))


@_shows("Please authorize access to your Earth Engine account")
def _initialize_again(at: Place) -> str:
    for name in ("HOME", "CLOUDSDK_CONFIG"):  # where a person's credentials may be
        at.monkeypatch.setenv(name, str(at.directory))
    at.monkeypatch.setenv("NO_GCE_CHECK", "true")
    at.monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    return at.export(lambda ee: ee.Initialize())


# Command line


@_shows("stdin is no terminal")
def _no_terminal(at: Place) -> str:
    at.connect()
    return at.command("cancel", OPERATION)


# A net that does not run


@_shows("does not run when this one fails, as its trigger_rule is all_success")
def _trigger_rule(at: Place) -> str:
    at.connect()
    with DAG("dag", schedule=None):
        wait = EarthEngineOperationsSensor(task_id="wait", operations=OPERATION)
        wait >> EarthEngineCancelOperationsOperator(task_id="cancel", xcom_task_ids="wait")
    return at.executed(wait)
