from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.api.retrying import Budget
from airflow_provider_eeops.api.settings import (
    API_VERSIONS,
    DEFAULT_BASE_URL,
    DEFAULT_SCOPES,
    FIELDS,
    STAND_IN_OF_FORM,
    Settings,
    shown_path,
)
from airflow_provider_eeops.exceptions import InvalidSettingsError

LOOPBACK = {"base_url": "http://127.0.0.1:8080"}
SECRET = "hush-hush-hush"
KEY = {"type": "service_account", "client_email": "robot@one.example", "private_key": SECRET}


def refusal(extras: dict[str, Any]) -> str:
    with pytest.raises(InvalidSettingsError) as caught:
        Settings.from_extras(extras)
    return str(caught.value)


def test_no_extras() -> None:
    settings = Settings.from_extras({})
    assert settings == Settings()
    assert settings.scope == DEFAULT_SCOPES
    assert settings.base_url == DEFAULT_BASE_URL == "https://earthengine.googleapis.com"
    assert settings.api_version == "v1alpha"
    assert settings.budget == Budget(retries=5, connect_timeout=10.0, read_timeout=30.0)
    assert not settings.is_loopback
    assert settings.secrets() == []


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("project", " my-project ", "my-project"),
        ("key_path", "/keys/robot.json", "/keys/robot.json"),
        ("keyfile_dict", KEY, KEY),
        ("keyfile_dict", json.dumps(KEY), KEY),
        ("credential_config_file", " /keys/wif.json", "/keys/wif.json"),
        ("credential_config_file", json.dumps(KEY), KEY),
        ("credential_config_file", KEY, KEY),
        ("impersonation_chain", "a@one.example, b@one.example", ("a@one.example", "b@one.example")),
        ("impersonation_chain", ["a@one.example"], ("a@one.example",)),
        ("impersonation_chain", [], ()),
        ("scope", "https://a, https://b,", ("https://a", "https://b")),
        ("scope", ("https://a",), ("https://a",)),
        ("scope", [], DEFAULT_SCOPES),
        ("quota_project_id", "payer", "payer"),
        ("num_retries", 0, 0),
        ("num_retries", "7", 7),
        ("num_retries", 7.0, 7),
        ("is_anonymous", False, False),
        ("is_anonymous", "no", False),
        ("is_anonymous", "n", False),
        ("is_anonymous", " FALSE ", False),
        ("is_anonymous", 0, False),
        ("api_version", "v1", "v1"),
        ("api_version", "v1beta", "v1beta"),
        ("base_url", "https://ee.example/", "https://ee.example"),
        ("base_url", "https://ee.example:8443", "https://ee.example:8443"),
        ("base_url", "http://localhost:8080", "http://localhost:8080"),
        ("base_url", "http://127.0.0.2", "http://127.0.0.2"),
        ("base_url", "http://[::1]:80", "http://[::1]:80"),
        ("requests_per_second", "0.5", 0.5),
        ("connect_timeout", 2, 2.0),
        ("read_timeout", 0.001, 0.001),
        ("proxies", '{"https": "http://proxy.example:3128"}', {"https": "http://proxy.example:3128"}),
        ("proxies", {"http://ee.example": "socks5://p"}, {"http://ee.example": "socks5://p"}),
        ("allowed_projects", "one, two", frozenset({"one", "two"})),
        ("allowed_projects", ["example.com:p"], frozenset({"example.com:p"})),
    ],
)
def test_a_field_is_read(name: str, value: Any, read: Any) -> None:
    assert getattr(Settings.from_extras({name: value}), name) == read


@pytest.mark.parametrize("name", Settings.names())
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_field_left_empty_has_its_default(name: str, value: Any) -> None:
    assert Settings.from_extras({name: value}) == Settings()


def test_ca_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    assert Settings.from_extras({"ca_bundle": str(bundle)}).ca_bundle == str(bundle)
    missing = str(tmp_path / "missing.pem")
    shown = shown_path(missing)
    assert refusal({"ca_bundle": missing}).startswith(f"connection extra ca_bundle is {shown}: there is no such file")
    assert refusal({"ca_bundle": "gone/" * 100}).startswith("connection extra ca_bundle is a path of 500 charac")
    assert "there is no such file" in refusal({"ca_bundle": "x" * 255})


def test_what_does_not_look_like_a_path_is_not_shown() -> None:
    for path in ("/keys/robot", "./robot", "~/robot", "robot.json", "/" + "x" * 99):
        assert shown_path(path) == path
    assert shown_path("/" + "x" * 100) == "a path of 101 characters"
    assert shown_path("ya29.token") == "a path of 10 characters"


def test_googles_connection_as_it_is() -> None:
    settings = Settings.from_extras(
        {
            "extra__google_cloud_platform__project": "one",
            "extra__google_cloud_platform__keyfile_dict": json.dumps(KEY),
            "extra__google_cloud_platform__scope": "https://a",
            "extra__google_cloud_platform__num_retries": 3,
            "extra__google_cloud_platform__key_secret_name": "",
            "extra__google_cloud_platform__key_secret_project_id": "two",
            "client_id": "x",
            "client_secret": "y",
            "idp_extra_parameters": "{}",
        }
    )
    assert settings == Settings(project="one", keyfile_dict=KEY, scope=("https://a",), num_retries=3)


@pytest.mark.parametrize(
    ("plain", "prefixed", "project"),
    [("one", "two", "one"), ("", "two", "two"), (None, "two", "two"), ("one", "", "one")],
)
def test_the_new_spelling_wins_if_it_says_something(plain: Any, prefixed: str, project: str) -> None:
    extras = {"extra__google_cloud_platform__project": prefixed, "project": plain}
    assert Settings.from_extras(extras).project == project


def test_what_airflow_2s_form_sends_to_test_is_read() -> None:
    form = {"project": "one", "base_url": LOOPBACK["base_url"], "is_anonymous": "y", "num_retries": "3", "scope": ""}
    settings = Settings.from_extras({**form, **{f"extra__earthengine__{name}": value for name, value in form.items()}})
    assert settings == Settings(project="one", base_url=LOOPBACK["base_url"], is_anonymous=True, num_retries=3)


@pytest.mark.parametrize("shown", ["***", STAND_IN_OF_FORM])
@pytest.mark.parametrize("name", ["keyfile_dict", "credential_config_file", "proxies"])
def test_what_airflow_shows_in_place_of_a_secret_is_no_secret(name: str, shown: str) -> None:
    assert refusal({name: shown}) == (
        f"connection extra {name} is what Airflow shows in place of a stored secret: enter the secret again"
    )


@pytest.mark.parametrize("name", ["key_secret_name", "idp_issuer_url", "extra__google_cloud_platform__key_secret_name"])
def test_another_identity_is_not_passed_over(name: str) -> None:
    plain = name.removeprefix("extra__google_cloud_platform__")
    assert refusal({name: "x"}) == (
        f"connection extra {plain} is not supported: use key_path, keyfile_dict or credential_config_file,"
        " or remove it to use Application Default Credentials"
    )


def test_unknown_extras_are_named() -> None:
    settings = Settings.from_extras({"poject": "one", "Project": "two", "project": "one", "keyfile": None})
    assert settings.unknown == ("Project", "keyfile", "poject")
    assert settings.project == "one"


@pytest.mark.parametrize(
    ("extras", "says"),
    [
        ({"project": "a/b"}, "connection extra project: 'a/b' is not a project id. Pass the id alone"),
        ({"project": 5}, "connection extra project must be text, not int"),
        ({"quota_project_id": ".."}, "connection extra quota_project_id: '..' is not a project id"),
        ({"key_path": ["x"]}, "connection extra key_path must be text, not list"),
        # Airflow 3.1 reads JSON within the extras too.
        ({"key_path": {"type": "x"}}, "connection extra key_path must be a path, not the contents of a file"),
        ({"keyfile_dict": "{"}, "connection extra keyfile_dict is not JSON, line 1 column 2: paste the whole object"),
        ({"keyfile_dict": "[" * 100_000}, "connection extra keyfile_dict is not JSON: paste the whole object"),
        ({"keyfile_dict": "[]"}, "connection extra keyfile_dict must be a JSON object, not list"),
        ({"keyfile_dict": 5}, "connection extra keyfile_dict must be a JSON object, not int"),
        ({"credential_config_file": "{x"}, "connection extra credential_config_file is not JSON, line 1 column 2"),
        ({"credential_config_file": 5}, "connection extra credential_config_file must be a JSON object, not int"),
        ({"impersonation_chain": ","}, "connection extra impersonation_chain names nothing: remove it"),
        ({"impersonation_chain": 5}, "connection extra impersonation_chain must be comma-separated text or a list"),
        ({"impersonation_chain": [5]}, "connection extra impersonation_chain must be comma-separated text or a list"),
        ({"scope": " , "}, "connection extra scope names nothing"),
        ({"allowed_projects": ","}, "connection extra allowed_projects names nothing"),
        ({"allowed_projects": "a, b/c"}, "connection extra allowed_projects: 'b/c' is not a project id"),
        ({"num_retries": -1}, "connection extra num_retries is -1: it must be a number 0 or more"),
        ({"num_retries": 1.5}, "connection extra num_retries is 1.5: it must be a whole number"),
        ({"num_retries": "many"}, "connection extra num_retries is 'many': it must be a number 0 or more"),
        ({"num_retries": True}, "connection extra num_retries is True: it must be a number 0 or more"),
        ({"num_retries": [1]}, "connection extra num_retries is of type list: it must be a number 0 or more"),
        ({"read_timeout": 0}, "connection extra read_timeout is 0: it must be a number greater than 0"),
        ({"read_timeout": -0.5}, "connection extra read_timeout is -0.5: it must be a number greater than 0"),
        ({"connect_timeout": "nan"}, "connection extra connect_timeout is 'nan': it must be a number greater than 0"),
        ({"connect_timeout": float("inf")}, "connection extra connect_timeout is inf: it must be a number"),
        ({"connect_timeout": 10**5000}, "connection extra connect_timeout is of type int: it must be a number"),
        ({"requests_per_second": "0"}, "connection extra requests_per_second is '0': it must be a number 0.001 or"),
        ({"read_timeout": "0"}, "connection extra read_timeout is '0': it must be a number greater than 0"),
        ({"requests_per_second": "x" * 500}, "requests_per_second is text of 500 characters: it must be a number"),
        ({"project": "x/" * 21}, "connection extra project: text of 42 characters is not a project id"),
        ({"impersonation_chain": '{"type": "x"}'}, "impersonation_chain must name service accounts, such as robot@"),
        ({"impersonation_chain": "x@" + "x" * 254}, "impersonation_chain must name service accounts"),
        ({"scope": '{"type": "x"}'}, "scope must name OAuth scopes, such as https://www.googleapis.com/auth/cloud"),
        ({"is_anonymous": "perhaps"}, "connection extra is_anonymous is 'perhaps': it must be true or false"),
        ({"is_anonymous": 2}, "connection extra is_anonymous is 2: it must be true or false"),
        ({"is_anonymous": {}}, "connection extra is_anonymous is of type dict: it must be true or false"),
        ({"api_version": "v2"}, "connection extra api_version is 'v2': it must be one of v1alpha, v1beta, v1"),
        ({"api_version": ["v1"]}, "connection extra api_version is of type list: it must be one of"),
        ({"base_url": 5}, "connection extra base_url must be text, not int"),
        ({"base_url": "earthengine.googleapis.com"}, "base_url is not the address of an API: give scheme and host"),
        ({"base_url": "ftp://ee.example"}, "base_url is not the address of an API"),
        ({"base_url": "https://"}, "base_url is not the address of an API"),
        ({"base_url": "https://ee.example:port"}, "base_url is not the address of an API"),
        ({"base_url": "https://[::1"}, "base_url is not the address of an API"),
        ({"base_url": "https://ee.example/v1"}, "base_url must be scheme and host alone"),
        ({"base_url": "https://ee.example?x"}, "base_url must be scheme and host alone"),
        ({"base_url": "https://ee.example#x"}, "base_url must be scheme and host alone"),
        ({"base_url": "https://ee.example\\x"}, "base_url must be scheme and host alone"),
        ({"base_url": "https://ee example"}, "base_url must be scheme and host alone"),
        ({"base_url": "http://ee.example"}, "base_url is http://ee.example: a token goes over plain http to this"),
        ({"base_url": "http://127.0.0.1.example"}, "a token goes over plain http to this machine only; use https"),
        ({"base_url": "http://localhost.example"}, "a token goes over plain http to this machine only; use https"),
        ({"base_url": "http://0.0.0.0"}, "a token goes over plain http to this machine only; use https"),
        ({"proxies": "proxy.example:3128"}, "connection extra proxies is not JSON"),
        ({"proxies": '["p"]'}, "connection extra proxies must be a JSON object, not list"),
        ({"proxies": {"htpps": "http://p"}}, "connection extra proxies has a key that is no scheme, such as 'https'"),
        ({"proxies": {1: "http://p"}}, "connection extra proxies has a key that is no scheme"),
        ({"proxies": {"https": 5}}, "connection extra proxies: a proxy must be text, a URL"),
        ({"proxies": {"https": "user:hush@"}}, "connection extra proxies: a proxy's URL needs a host, such as http://"),
        ({"proxies": {"https": "http://p:port"}}, "connection extra proxies: a proxy's URL needs a host, such as"),
        ({"proxies": {"https": "http://u:\u0439@p"}}, "connection extra proxies: a proxy's URL has a character beyond"),
        ({"proxies": {"https": "http://u:%D0%B9@p"}}, "connection extra proxies: a proxy's URL has a character beyond"),
        ({"is_anonymous": True}, "is_anonymous is for a base_url on this machine, such as the emulator's, not for htt"),
        (
            {"is_anonymous": "yes", "impersonation_chain": "a@b", **LOOPBACK},
            "is_anonymous leaves nobody to impersonate from: remove one of the two",
        ),
        ({"key_path": "k", "keyfile_dict": KEY}, "key_path and keyfile_dict each choose the credentials: keep one"),
        (
            {"key_path": "k", "credential_config_file": "c", "is_anonymous": True, **LOOPBACK},
            "key_path and credential_config_file and is_anonymous each choose the credentials",
        ),
    ],
)
def test_a_bad_value_is_named_with_the_remedy(extras: dict[str, Any], says: str) -> None:
    assert says in refusal(extras)


@pytest.mark.parametrize("name", ["key_path", "credential_config_file", "ca_bundle"])
@pytest.mark.parametrize(
    "contents",
    [
        json.dumps(json.dumps(KEY)),
        json.dumps([KEY]),
        f"x{json.dumps(KEY)}",
        f"-----BEGIN PRIVATE KEY-----{SECRET}",
        f"a\n{SECRET}",
        SECRET * 1000,
        base64.b64encode(json.dumps({**KEY, "private_key": SECRET * 100}).encode()).decode(),
        f"/keys/{'x' * 256}",
    ],
)
def test_a_key_pasted_where_a_path_belongs_is_not_quoted(name: str, contents: str) -> None:
    assert refusal({name: contents}) == f"connection extra {name} must be a path, not the contents of a file"


@pytest.mark.parametrize(
    "extras",
    [
        {"keyfile_dict": f'{{"private_key": "{SECRET}'},
        {"keyfile_dict": f'"{SECRET}"'},
        {"proxies": {f"user:{SECRET}@proxy.example": "https"}},
        {"proxies": {"https": [SECRET]}},
        {"base_url": f"https://user:{SECRET}@ee.example"},
        {"base_url": f"http://user:{SECRET}@[127.0.0.1"},
        {"num_retries": {"private_key": SECRET}},
    ],
)
def test_a_secret_is_not_quoted(extras: dict[str, Any]) -> None:
    assert SECRET not in refusal(extras)


def test_anonymous_on_this_machine() -> None:
    settings = Settings.from_extras({"is_anonymous": "1", **LOOPBACK})
    assert settings.is_anonymous
    assert settings.is_loopback


def test_the_repr_shows_no_secret() -> None:
    for name, value in (
        ("keyfile_dict", KEY),
        ("credential_config_file", KEY),
        ("proxies", {"https": f"http://user:{SECRET}@proxy.example"}),
    ):
        settings = Settings.from_extras({"project": "one", name: value})
        assert SECRET not in repr(settings)
        assert "project='one'" in repr(settings)


def test_secrets() -> None:
    settings = Settings.from_extras(
        {
            "keyfile_dict": {
                "type": "service_account",
                "project_id": "one",
                "private_key_id": "id-of-key",
                "private_key": "-----BEGIN",
                "client_email": "robot@one.example",
                "token_uri": "https://oauth2.googleapis.com/token",
                "unreadable": "http://user:unreadable@[",
            },
            "proxies": {
                "https": "http://user:of-proxy@proxy.example:3128",
                "http": "http://proxy.example",
                "no_proxy": "localhost",
            },
        }
    )
    basic = base64.b64encode(b"user:of-proxy").decode()
    assert sorted(settings.secrets()) == sorted(["id-of-key", "of-proxy", "http://user:unreadable@[", basic])


def test_secrets_of_a_user_and_of_a_federation() -> None:
    user = {"type": "authorized_user", "client_id": "client", "client_secret": "of-client", "refresh_token": "1//xy"}
    assert Settings.from_extras({"credential_config_file": user}).secrets() == ["of-client", "1//xy"]
    federation = {
        "type": "external_account",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "credential_source": {"file": "/token", "headers": [{"Authorization": "of-header"}], "n": 5},
    }
    assert Settings.from_extras({"credential_config_file": federation}).secrets() == ["of-header"]
    assert Settings.from_extras({"credential_config_file": "/wif.json"}).secrets() == []


def test_one_definition_of_the_fields() -> None:
    names = [field.name for field in FIELDS]
    assert tuple(names) == Settings.names()
    assert len(set(names)) == len(names)
    assert all(hasattr(Settings(), name) for name in names)
    (version,) = (field for field in FIELDS if field.name == "api_version")
    assert version.choices == list(API_VERSIONS)
