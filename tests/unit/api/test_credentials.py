from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth.credentials
import pytest
from google.auth import aws, external_account_authorized_user, identity_pool, pluggable
from google.auth.environment_vars import CREDENTIALS

from airflow_provider_eeops.api.client import EarthEngineOperationsClient, connect
from airflow_provider_eeops.api.credentials import load_credentials, principal
from airflow_provider_eeops.api.settings import Settings, shown_path
from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from airflow_provider_eeops.exceptions import CredentialsError, InvalidSettingsError, PermissionDeniedError
from tests.support.clock import ManualClock

Connect = Callable[..., EarthEngineOperationsClient]

ROBOT = "robot@one.iam.gserviceaccount.com"
EARTH_ENGINE = "https://www.googleapis.com/auth/earthengine"
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
SECRET = "hush-hush-hush"


@pytest.fixture
def name(emulator: Emulator) -> str:
    return emulator.add_operation("A")


def asked_by(emulator: Emulator) -> str | None:
    return emulator.requests[-1].principal


def test_a_service_account_from_its_key(
    connected: Connect, emulator: Emulator, server: EmulatorServer, name: str
) -> None:
    connected(keyfile_dict=server.service_account_info(ROBOT)).get_operation(name)
    assert asked_by(emulator) == ROBOT
    assert emulator.requests[-1].scopes == (CLOUD,)


def test_a_key_whose_line_breaks_were_escaped(
    connected: Connect, emulator: Emulator, server: EmulatorServer, name: str
) -> None:
    info = server.service_account_info(ROBOT)
    info["private_key"] = info["private_key"].replace("\n", "\\n")
    connected(keyfile_dict=json.dumps(info)).get_operation(name)
    assert asked_by(emulator) == ROBOT


def test_a_service_account_from_a_file(
    connected: Connect, emulator: Emulator, server: EmulatorServer, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(server.service_account_info(ROBOT)))
    connected(keyfile_dict=None, key_path=str(path)).get_operation(name)
    assert asked_by(emulator) == ROBOT
    identity = load_credentials(Settings(key_path=str(path), base_url=server.base_url))
    assert identity.project_id == "one"
    assert principal(identity.credentials) == ROBOT


@pytest.mark.parametrize(("scope", "enough"), [(EARTH_ENGINE, True), ("https://www.googleapis.com/auth/drive", False)])
def test_scopes(connected: Connect, emulator: Emulator, name: str, scope: str, enough: bool) -> None:
    client = connected(scope=scope)
    if enough:
        client.get_operation(name)
    else:
        with pytest.raises(PermissionDeniedError, match="insufficient authentication scopes"):
            client.get_operation(name)
    assert emulator.requests[-1].scopes == (scope,)


def test_a_user(connected: Connect, emulator: Emulator, server: EmulatorServer, name: str) -> None:
    info = server.authorized_user_info("user@example.com")
    connected(keyfile_dict=None, credential_config_file=info).get_operation(name)
    assert asked_by(emulator) == "user@example.com"


def test_a_users_refresh_token_goes_to_google_only(server: EmulatorServer) -> None:
    info = server.authorized_user_info()
    with pytest.raises(InvalidSettingsError, match="has a token_uri that is not Google's"):
        load_credentials(Settings(credential_config_file=info))
    del info["token_uri"]
    for base_url in ("https://earthengine.googleapis.com", server.base_url):
        credentials: Any = load_credentials(Settings(credential_config_file=info, base_url=base_url)).credentials
        assert credentials.token_uri == "https://oauth2.googleapis.com/token"


def federation(emulator: Emulator, server: EmulatorServer, folder: Path, **more: Any) -> dict[str, Any]:
    path = folder / "subject"
    path.write_text(emulator.issue_subject_token("pod@cluster"))
    return server.external_account_info(str(path), **more)


@pytest.mark.parametrize("as_file", [True, False])
def test_workload_identity_federation(
    *, connected: Connect, emulator: Emulator, server: EmulatorServer, name: str, tmp_path: Path, as_file: bool
) -> None:
    config: Any = federation(emulator, server, tmp_path)
    if as_file:
        path = tmp_path / "wif.json"
        path.write_text(json.dumps(config))
        config = str(path)
    connected(keyfile_dict=None, credential_config_file=config).get_operation(name)
    assert asked_by(emulator) == "pod@cluster"


def test_workload_identity_federation_that_impersonates(
    connected: Connect, emulator: Emulator, server: EmulatorServer, name: str, tmp_path: Path
) -> None:
    config = federation(emulator, server, tmp_path, impersonate=ROBOT)
    connected(keyfile_dict=None, credential_config_file=config).get_operation(name)
    assert asked_by(emulator) == ROBOT


def test_a_subject_token_that_is_missing(
    connected: Connect, emulator: Emulator, server: EmulatorServer, name: str, tmp_path: Path
) -> None:
    config = federation(emulator, server, tmp_path)
    (tmp_path / "subject").unlink()
    client = connected(keyfile_dict=None, credential_config_file=config)
    with pytest.raises(CredentialsError, match=r"no token for the holder of google\.auth\.identity_pool credentials"):
        client.get_operation(name)


@pytest.mark.parametrize(
    ("changes", "cls"),
    [
        ({}, identity_pool.Credentials),
        ({"credential_source": {"executable": {"command": "/bin/token"}}}, pluggable.Credentials),
        (
            {
                "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
                "credential_source": {
                    "environment_id": "aws1",
                    "regional_cred_verification_url": "https://sts.{region}.amazonaws.com",
                },
            },
            aws.Credentials,
        ),
    ],
)
def test_kinds_of_external_accounts(
    emulator: Emulator, server: EmulatorServer, tmp_path: Path, changes: dict[str, Any], cls: type[Any]
) -> None:
    config = {**federation(emulator, server, tmp_path), **changes}
    settings = Settings(credential_config_file=config, base_url=server.base_url)
    assert type(load_credentials(settings).credentials) is cls


def test_an_external_accounts_user(server: EmulatorServer) -> None:
    config = {
        "type": "external_account_authorized_user",
        "audience": "a",
        "refresh_token": "r",
        "token_url": f"{server.base_url}/v1/token",
        "client_id": "c",
        "client_secret": "s",
        "quota_project_id": "payer",
    }
    identity = load_credentials(Settings(credential_config_file=config, base_url=server.base_url))
    assert type(identity.credentials) is external_account_authorized_user.Credentials
    assert identity.project_id == "payer"


def test_an_impersonation_chain(connected: Connect, emulator: Emulator, name: str) -> None:
    client = connected(impersonation_chain=["first@one.example", "second@one.example", ROBOT])
    client.get_operation(name)
    assert asked_by(emulator) == ROBOT
    (asked,) = (record for record in emulator.requests if record.method == "impersonate")
    assert asked.name == ROBOT
    assert [delegate.rpartition("/")[2] for delegate in asked.body["delegates"]] == [
        "first@one.example",
        "second@one.example",
    ]
    assert asked.body["scope"] == [CLOUD]


def test_impersonation_asks_google_if_the_api_is_googles(server: EmulatorServer) -> None:
    key = {**server.service_account_info(), "token_uri": "https://oauth2.googleapis.com/token"}
    settings = Settings(keyfile_dict=key, impersonation_chain=(ROBOT,))
    credentials: Any = load_credentials(settings).credentials
    assert credentials._iam_endpoint_override is None
    assert principal(credentials) == ROBOT


def test_impersonation_that_is_refused(connected: Connect, emulator: Emulator, name: str) -> None:
    emulator.deny("iam.serviceAccounts.getAccessToken")
    refused = rf"^no token for {ROBOT}: Unable to acquire .* \(whoever impersonates it lacks iam\.serviceAccounts\."
    with pytest.raises(CredentialsError, match=refused):
        connected(impersonation_chain=ROBOT).get_operation(name)


def test_the_quota_project_is_sent(connected: Connect, emulator: Emulator, name: str) -> None:
    for extras in ({}, {"impersonation_chain": ROBOT}):
        connected(quota_project_id="payer", **extras).get_operation(name)
        assert emulator.requests[-1].headers["x-goog-user-project"] == "payer"
    connected().get_operation(name)
    assert "x-goog-user-project" not in emulator.requests[-1].headers


def test_anonymous(connected: Connect, emulator: Emulator, name: str) -> None:
    emulator.require_token = False
    connected(is_anonymous=True, quota_project_id="payer").get_operation(name)
    assert asked_by(emulator) == "anonymous"
    assert [record.method for record in emulator.requests] == ["get"]
    credentials = load_credentials(Settings(is_anonymous=True, base_url="http://127.0.0.1")).credentials
    assert principal(credentials) == "anonymous"


def test_application_default_credentials(
    *,
    emulator: Emulator,
    server: EmulatorServer,
    clock: ManualClock,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "adc.json"
    path.write_text(json.dumps(server.service_account_info(ROBOT)))
    monkeypatch.setenv(CREDENTIALS, str(path))
    settings = Settings(base_url=server.base_url, scope=(EARTH_ENGINE,))
    identity = load_credentials(settings)
    with connect(settings, identity.credentials, clock=clock) as client:
        client.get_operation(name)
    assert identity.project_id == "one"
    assert asked_by(emulator) == ROBOT
    assert emulator.requests[-1].scopes == (EARTH_ENGINE,)


@pytest.mark.parametrize(
    "contents", [None, SECRET, '{"type": "x"}', f'{{"type": "service_account", "x": "{SECRET}"}}', "[]"]
)
def test_no_application_default_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: str | None
) -> None:
    path = tmp_path / "adc.json"
    if contents is not None:
        path.write_text(contents)
    monkeypatch.setenv(CREDENTIALS, str(path))
    with pytest.raises(CredentialsError) as info:
        load_credentials(Settings())
    assert str(info.value).startswith("no Application Default Credentials (")
    assert "set key_path, keyfile_dict or credential_config_file in the connection" in str(info.value)
    assert SECRET not in str(info.value)


def test_nowhere_any_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (CREDENTIALS, "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(CredentialsError, match="no Application Default Credentials"):
        load_credentials(Settings())


@pytest.mark.parametrize(
    "changes",
    [
        {"private_key": None},
        {"private_key": SECRET},
        {"private_key": 5},
        {"private_key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"},
        {"private_key": "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n"},
        {"client_email": None},
        {"token_uri": None},
    ],
)
def test_a_broken_key_is_not_quoted(server: EmulatorServer, changes: dict[str, Any]) -> None:
    info = {key: value for key, value in {**server.service_account_info(), **changes}.items() if value is not None}
    with pytest.raises(InvalidSettingsError) as caught:
        load_credentials(Settings(keyfile_dict=info, base_url=server.base_url))
    text = str(caught.value)
    assert text.startswith("connection extra keyfile_dict is not a usable service_account configuration (")
    assert text.endswith("): download it again and paste it whole")
    assert SECRET not in text
    assert "MII" not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "config",
    [
        {"type": "authorized_user"},
        {"type": "authorized_user", "refresh_token": SECRET, "client_id": SECRET},
        {"type": "external_account"},
        {"type": "external_account", "credential_source": SECRET},
        {"type": "external_account", "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request"},
        {"type": "external_account_authorized_user", "refresh_token": SECRET},
    ],
)
def test_a_broken_configuration_is_not_quoted(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingsError, match=f"is not a usable {config['type']} configuration") as caught:
        load_credentials(Settings(credential_config_file=config))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("info", [{}, {"type": "robot"}, {"type": {"private_key": SECRET}}])
def test_a_type_nobody_knows(info: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingsError, match="it must be 'service_account', 'authorized_user'") as caught:
        load_credentials(Settings(keyfile_dict=info))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (None, "cannot be read (No such file or directory); it must be on every machine that uses the connection"),
        (SECRET.encode(), "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a JSON object"),
    ],
)
@pytest.mark.parametrize("name", ["key_path", "credential_config_file"])
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, contents: bytes | None, says: str) -> None:
    path = tmp_path / "key.json"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(InvalidSettingsError) as caught:
        load_credentials(Settings.from_extras({name: str(path)}))
    assert str(caught.value).startswith(f"connection extra {name}: {shown_path(str(path))} {says}")
    assert SECRET not in str(caught.value)


def test_the_principal_of_credentials_that_name_none() -> None:
    class Own(google.auth.credentials.Credentials):
        def refresh(self, request: Any) -> None: ...

    own: Any = Own
    assert principal(own()).startswith("the holder of ")
