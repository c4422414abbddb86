"""To the API's host, and to no other: on real sockets, with every host under the tests' eyes."""

from __future__ import annotations

import json
import logging
import re
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.credentials import load_credentials
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from airflow_provider_eeops.exceptions import (
    ConnectionFailedError,
    CredentialsError,
    EarthEngineError,
    InvalidSettingsError,
    PermissionDeniedError,
    UnexpectedAnswerError,
)
from tests.trust.conftest import Connected, end_of_threads
from tests.trust.google import (
    API,
    EXCHANGED,
    IAM,
    IMPERSONATED,
    NAME,
    REFRESH_TOKEN,
    STS,
    SUBJECT_TOKEN,
    TOKEN,
    TOKENS,
    authorized_user,
    federation,
    service_account,
    set_up,
)
from tests.trust.internet import Answer, Internet, Sent

ROBOT = "robot@one.iam.gserviceaccount.com"

CALLS: dict[str, Callable[[EarthEngineOperationsClient], Any]] = {
    "get": lambda client: client.get_operation(NAME),
    "cancel": lambda client: client.cancel_operation(NAME),
    "delete": lambda client: client.delete_operation(NAME),
    "wait": lambda client: client.wait_operation(NAME, timeout=1),
    "list": lambda client: list(client.list_operations("one")),
}


def call_all(client: EarthEngineOperationsClient) -> None:
    for call in CALLS.values():
        call(client)


@pytest.fixture
def route(internet: Internet) -> dict[str, Any]:
    """Extras that have all requests go through the tests' network."""
    set_up(internet)
    return {"proxies": {"https": internet.proxy}, "ca_bundle": internet.ca_bundle}


# Whatever the credentials are


def test_a_service_accounts_token(
    connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any]
) -> None:
    client = connected(keyfile_dict=service_account(server), **route)
    call_all(client)
    client.close()
    assert internet.hosts == {API, TOKENS}
    assert internet.holding(TOKEN) == {API}
    assert internet.holding("assertion=") == {TOKENS}
    assert len(internet.to(API)) == len(CALLS)
    assert {sent.headers["Authorization"] for sent in internet.to(API)} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("kind", "goes"),
    [
        ("user", {REFRESH_TOKEN: {TOKENS}, TOKEN: {API}}),
        ("federation", {SUBJECT_TOKEN: {STS}, EXCHANGED: {API}}),
        ("federation that impersonates", {SUBJECT_TOKEN: {STS}, EXCHANGED: {IAM}, IMPERSONATED: {API}}),
        ("key that impersonates", {"assertion=": {TOKENS}, TOKEN: {IAM}, IMPERSONATED: {API}}),
        ("federation, then a chain", {SUBJECT_TOKEN: {STS}, EXCHANGED: {IAM}, IMPERSONATED: {API}}),
    ],
)
def test_a_token_of_another_kind(
    *,
    connected: Connected,
    internet: Internet,
    server: EmulatorServer,
    route: dict[str, Any],
    tmp_path: Path,
    kind: str,
    goes: dict[str, set[str]],
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "user": {"credential_config_file": authorized_user()},
        "federation": {"credential_config_file": federation(tmp_path)},
        "federation that impersonates": {"credential_config_file": federation(tmp_path, impersonate=ROBOT)},
        "key that impersonates": {"keyfile_dict": service_account(server), "impersonation_chain": ROBOT},
        "federation, then a chain": {
            "credential_config_file": federation(tmp_path),
            "impersonation_chain": ["first@one.example", ROBOT],
        },
    }
    client = connected(**kinds[kind], **route)
    call_all(client)
    client.close()
    assert {secret: internet.holding(secret) for secret in goes} == goes
    assert internet.hosts == set.union(*goes.values())


def test_the_environment_of_googles_libraries_changes_nothing(
    *,
    connected: Connected,
    internet: Internet,
    server: EmulatorServer,
    route: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "GOOGLE_API_USE_CLIENT_CERTIFICATE": "true",
        "GOOGLE_API_USE_MTLS_ENDPOINT": "always",
        "GOOGLE_CLOUD_UNIVERSE_DOMAIN": "elsewhere.example",
        "GCE_METADATA_HOST": "elsewhere.example",
        "GOOGLE_CLOUD_QUOTA_PROJECT": "elsewhere",
    }.items():
        monkeypatch.setenv(name, value)
    call_all(connected(keyfile_dict=service_account(server), **route))
    assert internet.hosts == {API, TOKENS}
    assert not internet.holding("elsewhere")


def test_headers_tell_nothing_secret(
    connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any]
) -> None:
    call_all(connected(keyfile_dict=service_account(server), quota_project_id="payer", **route))
    for sent in internet.to(API):
        assert sent.headers["User-Agent"].startswith("airflow-provider-eeops/")
        assert sent.headers["x-goog-user-project"] == "payer"
        assert set(map(str.lower, sent.headers)) <= {
            *("host", "user-agent", "accept", "accept-encoding", "connection", "content-type", "content-length"),
            *("authorization", "x-goog-user-project"),
        }


# Proxies, certificates and a .netrc


def test_a_proxy_learns_the_hosts_names_and_no_token(
    connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any]
) -> None:
    route["proxies"] = {"https": internet.proxy.replace("//", "//somebody:hush@")}
    call_all(connected(keyfile_dict=service_account(server), **route))
    assert {sent.method for sent in internet.connects} == {"CONNECT"}
    for sent in internet.connects:
        assert set(map(str.lower, sent.headers)) <= {"host", "user-agent", "proxy-authorization", "proxy-connection"}
        assert "hush" not in sent.everything  # it is encoded
    assert internet.holding(str(internet.connects[0].headers["Proxy-Authorization"])) == {"the proxy"}


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_environment_serves_the_api_and_the_token(
    connected: Connected, internet: Internet, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    set_up(internet)
    monkeypatch.setenv(variable, internet.proxy)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", internet.ca_bundle)
    call_all(connected(keyfile_dict=service_account(server)))
    assert internet.hosts == {API, TOKENS}
    assert internet.holding(TOKEN) == {API}


@pytest.mark.parametrize("no_proxy", ["", "*", "googleapis.com"])
def test_the_connections_proxy_and_certificates_win_over_the_environments(
    *,
    connected: Connected,
    internet: Internet,
    server: EmulatorServer,
    route: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    no_proxy: str,
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    (tmp_path / "none.pem").touch()
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none.pem"))
    call_all(connected(keyfile_dict=service_account(server), **route))
    assert internet.holding(TOKEN) == {API}


def test_a_host_whose_certificate_is_not_trusted_is_sent_nothing(
    connected: Connected, internet: Internet, server: EmulatorServer
) -> None:
    set_up(internet)
    client = connected(keyfile_dict=service_account(server), proxies={"https": internet.proxy})
    with pytest.raises(CredentialsError, match="SSLCertVerificationError"):
        client.get_operation(NAME)
    assert internet.sent == []


@pytest.mark.parametrize("given_in", ["environment", "connection"])
def test_what_goes_in_clear_to_this_machine_goes_through_no_proxy(
    *,
    connected: Connected,
    internet: Internet,
    emulator: Emulator,
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    given_in: str,
) -> None:
    extras: dict[str, Any] = {}
    if given_in == "environment":
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, internet.proxy)
        monkeypatch.setenv("NO_PROXY", "")
    else:
        host = server.base_url
        extras["proxies"] = dict.fromkeys(("http", "all", host, host.replace("http", "all")), internet.proxy)
    name = emulator.add_operation("A")
    client = connected(keyfile_dict=server.service_account_info(), base_url=server.base_url, **extras)
    assert client.get_operation(name).name == name
    assert (emulator.count("token"), emulator.count("get")) == (1, 1)
    assert internet.hosts == set()


def test_capitals_do_not_let_a_proxy_in(
    *,
    connected: Connected,
    internet: Internet,
    emulator: Emulator,
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", internet.proxy)
    name = emulator.add_operation("A")
    client = connected(keyfile_dict=server.service_account_info(), base_url=server.base_url.replace("http", "HTTP"))
    assert client.get_operation(name).name == name
    assert internet.hosts == set()


def test_a_header_that_is_none_is_not_logged_behind_a_proxy_either(
    *,
    connected: Connected,
    internet: Internet,
    server: EmulatorServer,
    route: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """urllib3 warns of one in full."""
    monkeypatch.setattr(logging.getLogger("urllib3"), "propagate", True)
    caplog.set_level(logging.DEBUG, "urllib3")
    internet.answers[API] = lambda sent: Answer({"name": NAME}, headers=((str(sent.headers["Authorization"]), "x"),))
    client = connected(keyfile_dict=service_account(server), **route)
    assert client.get_operation(NAME).name == NAME
    assert "Starting new HTTPS connection" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("whom", ["default", f"machine {API}", f"machine {TOKENS}"])
def test_a_netrc_replaces_no_token_and_sends_no_password(
    *,
    connected: Connected,
    internet: Internet,
    server: EmulatorServer,
    route: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    whom: str,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"{whom} login somebody password hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    call_all(connected(keyfile_dict=service_account(server), **route))
    assert internet.holding("Basic ") == set()
    assert {sent.headers["Authorization"] for sent in internet.to(API)} == {f"Bearer {TOKEN}"}


# What an answer says


LOCATIONS = [
    "https://elsewhere.example/v1alpha/x",
    "http://elsewhere.example/x",
    "//elsewhere.example/x",
    f"https://{API}:8443/v1alpha/x",
    f"http://{API}/v1alpha/x",
    "/v1alpha/projects/two/operations/B",
    "?pageToken=other",
]


def moved(status: int, location: str) -> Callable[[Sent], Answer]:
    return lambda _sent: Answer({}, status=status, headers=(("Location", location),))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_goes_along_no_redirect(
    *, connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any], status: int
) -> None:
    client = connected(keyfile_dict=service_account(server), **route)
    for location in LOCATIONS:
        internet.answers[API] = moved(status, location)
        for call in CALLS.values():
            internet.sent.clear()
            with pytest.raises(UnexpectedAnswerError):
                call(client)
            (sent,) = internet.to(API)
            assert sent.target.startswith("/v1alpha/projects/one/operations")
    assert internet.hosts == {API, TOKENS}
    assert {sent.target for sent in internet.connects} == {f"{API}:443", f"{TOKENS}:443"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_keys_signature_goes_along_no_redirect(
    *, connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any], status: int
) -> None:
    for location in LOCATIONS:
        internet.answers[TOKENS] = moved(status, location)
        with pytest.raises(CredentialsError):
            connected(keyfile_dict=service_account(server), **route).get_operation(NAME)
    assert internet.hosts == {TOKENS}
    assert [sent.target for sent in internet.sent] == ["/token"] * len(LOCATIONS)
    assert {sent.target for sent in internet.connects} == {f"{TOKENS}:443"}


TRICKS = [
    "https://elsewhere.example/next",
    "x&pageToken=y",
    "x#fragment",
    "x\r\nHost: elsewhere.example\r\n\r\nGET / HTTP/1.1",
    "../../../../elsewhere",
    "@elsewhere.example",
    "\u2028\x00",
    "x" * 4000,
]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_page_token_stays_one_parameter(
    *, connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any], trick: str
) -> None:
    pages = [Answer({"operations": [], "nextPageToken": trick}), Answer({"operations": []})]
    internet.answers[API] = lambda _sent: pages.pop(0)
    assert list(connected(keyfile_dict=service_account(server), **route).list_operations("one")) == []
    assert internet.hosts == {API, TOKENS}
    first, second = internet.to(API)
    assert re.fullmatch(r"/v1alpha/projects/one/operations\?pageSize=500", first.target)
    assert re.fullmatch(r"/v1alpha/projects/one/operations\?pageSize=500&pageToken=[A-Za-z0-9%+._~-]+", second.target)
    assert second.headers.get_all("Host") == [API]


def test_nothing_else_in_an_answer_leads_anywhere(
    connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any]
) -> None:
    link = "https://elsewhere.example/x"
    headers = (
        ("Set-Cookie", "session=planted; Domain=googleapis.com; Path=/"),
        ("Set-Cookie", "session=planted; Path=/"),
        ("Link", f'<{link}>; rel="next"'),
        ("Refresh", f"0; url={link}"),
        ("Content-Location", link),
        ("Location", link),
        ("Alt-Svc", 'h2="elsewhere.example:443"; ma=86400'),
        ("WWW-Authenticate", f'Bearer realm="{link}"'),
    )
    metadata = {"state": "RUNNING", "scriptUri": link, "destinationUris": [link]}
    help_ = {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"url": link}]}
    error = {"code": 403, "status": "PERMISSION_DENIED", "message": f"See {link}", "details": [help_]}
    internet.answers[API] = lambda sent: (
        Answer({"error": error}, status=403, headers=headers)
        if sent.method == "DELETE"
        else Answer({"name": NAME, "metadata": metadata, "operations": [{"name": link}]}, headers=headers)
    )
    internet.answers[TOKENS] = lambda _sent: Answer({"access_token": TOKEN, "expires_in": 3600}, headers=headers)
    client = connected(keyfile_dict=service_account(server), **route)
    for _ in range(2):
        assert client.get_operation(NAME).name == NAME
        assert list(client.list_operations("one")) == []
        with pytest.raises(PermissionDeniedError):
            client.delete_operation(NAME)
        with pytest.raises(UnexpectedAnswerError, match="not empty"):
            client.cancel_operation(NAME)
    assert internet.hosts == {API, TOKENS}
    assert internet.holding("planted") == set()


@pytest.mark.parametrize(
    ("listed_as", "name"),
    [
        ("projects/one/operations/B", "projects/one/operations/B"),
        ("projects/123456/operations/B", "projects/one/operations/B"),
        ("projects/two/operations/B", None),
        ("projects/One/operations/B", None),
        ("projects/one/../two/operations/B", None),
        ("https://elsewhere.example/projects/one/operations/B", None),
        ("projects/-/operations/B", None),
    ],
)
def test_what_a_listing_names_is_in_the_project_that_was_listed(
    *,
    connected: Connected,
    internet: Internet,
    server: EmulatorServer,
    route: dict[str, Any],
    listed_as: str,
    name: str | None,
) -> None:
    internet.answers[API] = lambda _sent: Answer({"operations": [{"name": listed_as, "metadata": {}}]})
    client = connected(keyfile_dict=service_account(server), **route)
    assert [operation.name for operation in client.list_operations("one")] == ([] if name is None else [name])


# The address of the API


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1.elsewhere.example", "http://localhost.elsewhere.example", "http://localhost."),
        *("http://127.1", "http://2130706433", "http://0x7f000001", "http://0177.0.0.1", "http://0.0.0.0", "http://0"),
        *("http://[::]", "http://[::ffff:8.8.8.8]", "http://[::1%25eth0]", "http://127.0.0.1@elsewhere.example"),
        *(
            "http://elsewhere.example#@127.0.0.1",
            "http://elsewhere.example\\@127.0.0.1",
            "http://127.0.0.1\\.elsewhere",
        ),
        *(
            "https://user@ee.example",
            "https://user:word@ee.example",
            "https://ee.example#@x",
            "https://ee.example?",
            "//x",
        ),
        *(
            "https://ee.example\\@x",
            "https://ee.exa\tmple",
            "https://ee.exa\nmple",
            "ht\ntps://ee.example",
            "\x00https://x",
        ),
        *("https://ee.example:0", "https://ee.example:65536", "https://ee.example:", "https://ee.example:44 3"),
        *(
            "https://\uff45\uff45.example",
            "https://ee\u3002example",
            "https://e\u0435.example",
            "https://ee.example/%2e",
        ),
        *("https:ee.example", "https:///ee.example", "file:///etc/passwd", "https://ee.example:\u0664\u0664\u0663"),
        "http://\u2139ocalhost",
        "http://\uff4cocalhost",
        "http://127.0.0.\u0661",
        "https://\u212aee.example",
    ],
)
def test_an_address_that_may_be_another_is_refused(address: str) -> None:
    with pytest.raises(InvalidSettingsError, match="connection extra base_url"):
        Settings.from_extras({"base_url": address})
    with pytest.raises(InvalidSettingsError, match="connection extra base_url"):
        Settings(base_url=address)


@pytest.mark.parametrize(
    ("address", "read"),
    [
        (" https://ee.example/ ", "https://ee.example"),
        ("HTTPS://EE.Example:8443", "https://ee.example:8443"),
        ("HTTP://LOCALHOST:8085", "http://localhost:8085"),
        ("http://[::1]:8085", "http://[::1]:8085"),
        ("https://2130706433", "https://2130706433"),
    ],
)
def test_an_address_is_read_in_one_way(address: str, read: str) -> None:
    assert Settings.from_extras({"base_url": address}).base_url == read


def test_a_localhost_that_is_another_machine_is_sent_nothing(
    connected: Connected, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            own = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but 127.0.0.1")
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kwargs: real(own if host == "localhost" else host, *args, **kwargs),
    )
    with socket.create_server((own, 0)) as elsewhere:
        elsewhere.settimeout(10)
        port = elsewhere.getsockname()[1]
        client = connected(base_url=f"http://localhost:{port}", keyfile_dict=server.service_account_info())
        with pytest.raises(ConnectionFailedError, match=f"localhost is {own}, not this machine"):
            client.get_operation(NAME)
        with elsewhere.accept()[0] as connection:
            connection.settimeout(10)
            assert connection.recv(100) == b""


# What a key or a configuration names


ELSEWHERE = [
    "https://elsewhere.example/token",
    "http://oauth2.googleapis.com/token",
    "https://oauth2.googleapis.com.elsewhere.example/token",
    "https://elsewhere.example/.googleapis.com",
    "https://elsewheregoogleapis.com/token",
    "https://googleapis.com@elsewhere.example/token",
    "https://elsewhere.example\\.googleapis.com/token",
    "https://elsewhere.example#.googleapis.com",
    "https://elsewhere.example?.googleapis.com",
    "https://oauth2.googleapis.com:8443/token",
    "https://oauth2.googleapis.c\tom/token",
    "https://\uff45lsewhere.googleapis.com\u3002elsewhere.example/",
    "http://127.0.0.1:8085/token",
    "https://localhost/token",
    "file:///etc/passwd",
    "",
    5,
    ["https://oauth2.googleapis.com/token"],
]


@pytest.mark.parametrize("field", ["token_uri", "token_url", "token_info_url", "service_account_impersonation_url"])
@pytest.mark.parametrize("base_url", [f"https://{API}", "https://ee.example"])
def test_a_token_server_that_is_not_googles_is_refused(
    server: EmulatorServer, tmp_path: Path, field: str, base_url: str
) -> None:
    info = service_account(server) if field == "token_uri" else federation(tmp_path)
    for address in ELSEWHERE:
        settings = Settings(credential_config_file={**info, field: address}, base_url=base_url)
        with pytest.raises(InvalidSettingsError, match=f"has a {field} that is not Google's") as caught:
            load_credentials(settings)
        assert "elsewhere" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_with_the_emulator_too_no_token_server_is_elsewhere(server: EmulatorServer) -> None:
    settings = Settings(
        keyfile_dict=service_account(server, token_uri="https://elsewhere.example/token"), base_url=server.base_url
    )
    with pytest.raises(InvalidSettingsError, match="that is not Google's"):
        load_credentials(settings)


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("token_uri", "https://oauth2.googleapis.com/token"),
        ("token_uri", "https://accounts.google.com/o/oauth2/token"),
        ("token_uri", "https://www.googleapis.com:443/oauth2/v4/token"),
        ("token_url", "https://sts.googleapis.com/v1/oauthtoken"),
        ("token_url", "https://sts-own.p.googleapis.com/v1/token"),
        ("token_url", "https://sts.us-east1.rep.googleapis.com/v1/token"),
        ("token_url", "https://sts.mtls.googleapis.com/v1/token"),
        (
            "service_account_impersonation_url",
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ROBOT}:generateAccessToken",
        ),
    ],
)
def test_googles_token_servers(server: EmulatorServer, tmp_path: Path, field: str, address: str) -> None:
    info = service_account(server) if field == "token_uri" else federation(tmp_path)
    load_credentials(Settings(credential_config_file={**info, field: address}))


def test_another_universe_is_refused(
    connected: Connected, internet: Internet, server: EmulatorServer, route: dict[str, Any], tmp_path: Path
) -> None:
    for info in (service_account(server), federation(tmp_path), authorized_user()):
        config = {**info, "universe_domain": "elsewhere.example"}
        with pytest.raises(InvalidSettingsError, match=r"Earth Engine is in googleapis\.com alone"):
            connected(credential_config_file=config, impersonation_chain=ROBOT, **route)
    call_all(connected(credential_config_file=federation(tmp_path, universe_domain="googleapis.com"), **route))
    assert internet.holding(EXCHANGED) == {API}


@pytest.mark.parametrize("kind", ["impersonated_service_account", "gdch_service_account", "external_account_aws", None])
def test_a_type_that_would_bring_addresses_of_its_own_is_refused(server: EmulatorServer, kind: str | None) -> None:
    info = {
        "type": kind,
        "service_account_impersonation_url": "https://elsewhere.example",
        "source_credentials": service_account(server),
    }
    with pytest.raises(InvalidSettingsError):
        load_credentials(Settings(credential_config_file=info))


@pytest.mark.parametrize("allowed", [None, "0", "true", "1"])
def test_an_executable_runs_only_if_google_auths_own_switch_is_on(
    *,
    connected: Connected,
    internet: Internet,
    route: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: str | None,
) -> None:
    ran, program = tmp_path / "ran", tmp_path / "program"
    answer = (
        '{"version": 1, "success": true, "token_type": "urn:ietf:params:oauth:token-type:jwt",'
        f' "id_token": "{SUBJECT_TOKEN}", "expiration_time": 9999999999}}'
    )
    program.write_text(f"#!/bin/sh\ntouch {ran}\necho '{answer}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    if allowed is not None:
        monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", allowed)
    source = {"executable": {"command": str(program), "timeout_millis": 30000}}
    client = connected(credential_config_file=federation(tmp_path, credential_source=source), **route)
    if allowed == "1":
        call_all(client)
        assert internet.holding(SUBJECT_TOKEN) == {STS}
    else:
        with pytest.raises(CredentialsError, match="GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"):
            client.get_operation(NAME)
        assert internet.sent == []
    assert ran.exists() == (allowed == "1")


def test_a_subject_token_from_an_address_is_asked_for_there_and_sent_to_google(
    connected: Connected, internet: Internet, route: dict[str, Any], tmp_path: Path
) -> None:
    internet.answers["idp.example"] = lambda _sent: Answer(SUBJECT_TOKEN.encode())
    source = {"url": "https://idp.example/token", "headers": {"X-Own": "hush"}}
    call_all(connected(credential_config_file=federation(tmp_path, credential_source=source), **route))
    assert internet.holding(SUBJECT_TOKEN) == {STS}
    assert internet.holding("hush") == {"idp.example"}
    assert internet.holding(EXCHANGED) == {API}


def test_a_subject_token_is_not_looked_for_along_a_redirect(
    connected: Connected, internet: Internet, route: dict[str, Any], tmp_path: Path
) -> None:
    internet.answers["idp.example"] = lambda _sent: Answer(
        {}, status=302, headers=(("Location", "https://elsewhere.example/"),)
    )
    config = federation(tmp_path, credential_source={"url": "https://idp.example/token"})
    with pytest.raises(CredentialsError):
        connected(credential_config_file=config, **route).get_operation(NAME)
    assert internet.hosts == {"idp.example"}


# Application Default Credentials


@pytest.fixture
def default_credentials(
    internet: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], None]:
    set_up(internet)
    monkeypatch.setenv("HTTPS_PROXY", internet.proxy)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", internet.ca_bundle)

    def be(info: dict[str, Any]) -> None:
        path = tmp_path / "default.json"
        path.write_text(json.dumps(info))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

    return be


Default = Callable[[dict[str, Any]], None]


def test_default_credentials_of_a_federation(
    connected: Connected, internet: Internet, default_credentials: Default, tmp_path: Path
) -> None:
    default_credentials(federation(tmp_path))
    client = connected(project="one")
    assert internet.hosts == set()
    call_all(client)
    client.close()
    assert internet.holding(EXCHANGED) == {API}
    assert internet.hosts == {STS, API}


def test_default_credentials_that_are_asked_for_their_project_follow_no_redirect(
    internet: Internet, default_credentials: Default, tmp_path: Path
) -> None:
    default_credentials(federation(tmp_path))
    internet.answers[STS] = lambda _sent: Answer({}, status=307, headers=(("Location", "https://elsewhere.example/"),))
    with pytest.raises(EarthEngineError):
        load_credentials(Settings())
    assert internet.hosts == {STS}


RESOURCES = "cloudresourcemanager.googleapis.com"


def test_default_credentials_that_are_asked_for_their_project_tell_nobody_else(
    *,
    internet: Internet,
    default_credentials: Default,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """google-auth's own way logs what it sends, and looks up regions in a thread of its own."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("google", "google.auth", "urllib3", "requests"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, name)
    default_credentials(federation(tmp_path, impersonate=ROBOT))
    internet.answers[RESOURCES] = lambda _sent: Answer({"projectId": "found"})
    settings = Settings()
    before = set(threading.enumerate())
    identity = load_credentials(settings)
    end_of_threads(before)
    assert identity.project_id == "found"
    assert {secret: internet.holding(secret) for secret in (SUBJECT_TOKEN, EXCHANGED, IMPERSONATED, "Basic ")} == {
        SUBJECT_TOKEN: {STS},
        EXCHANGED: {IAM},
        IMPERSONATED: {RESOURCES},
        "Basic ": set(),
    }
    assert [sent.target for sent in internet.to(IAM)] == [f"/v1/projects/-/serviceAccounts/{ROBOT}:generateAccessToken"]
    assert "Starting new HTTPS connection" in caplog.text
    written = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert [secret for secret in (SUBJECT_TOKEN, EXCHANGED, IMPERSONATED) if secret in written] == []
