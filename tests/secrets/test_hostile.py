"""Servers, proxies and programs that repeat what they were told in ways that nobody expects: no secret is left."""

from __future__ import annotations

import base64
import json
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from airflow.providers.common.compat import sdk

from airflow_provider_eeops.api import pace
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.emulator import Emulator, EmulatorServer
from airflow_provider_eeops.exceptions import EarthEngineError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from tests.faults.ways import http
from tests.secrets.planted import Planting
from tests.support.faulty_line import Exchange, FaultyLine, Way
from tests.support.secret_search import RecordsOfAll, Search, left_by_error, shown_by

SetExtras = Callable[[Any], None]
Left = Callable[..., list[str]]


def sent(exchange: Exchange, name: str = "authorization") -> str:
    """A header of the request."""
    return next(value for key, value in exchange.request.headers if key.lower() == name)


def token_of(exchange: Exchange) -> str:
    return sent(exchange).removeprefix("Bearer ")


def escaped(text: str) -> str:
    """Each character as JSON may have it."""
    return "".join(f"\\u{ord(character):04X}" for character in text)


def error_in_escapes(exchange: Exchange) -> None:
    message = escaped(token_of(exchange))
    exchange.send(http(f'{{"error": {{"code": 400, "message": "{message}"}}}}'.encode(), status="400 No"))


def operation_in_escapes(exchange: Exchange) -> None:
    name = exchange.request.target.partition("/v1alpha/")[2]
    description = escaped(token_of(exchange))
    exchange.send(
        http(f'{{"name": "{name}", "metadata": {{"state": "RUNNING", "description": "{description}"}}}}'.encode())
    )


def error_in(encoding: str) -> Way:
    def go(exchange: Exchange) -> None:
        error = {"error": {"code": 400, "message": token_of(exchange)}}
        exchange.send(http(json.dumps(error).encode(encoding), status="400 No"))

    return go


def page_in_utf_16(exchange: Exchange) -> None:
    exchange.send(http(f"<p>{token_of(exchange)}".encode("utf-16-le"), status="502 Oh"))


def broken_headers(exchange: Exchange) -> None:
    exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{sent(exchange)}\r\nX: y\r\n\r\n{{}}".encode())


def broken_headers_of_a_token(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n" + exchange.request.body + b"\r\nX: y\r\n\r\n{}")


def status_line(exchange: Exchange) -> None:
    exchange.send(f"HTTP/1.1 {token_of(exchange)}\r\n\r\n".encode())
    exchange.close()


def reason_phrase(exchange: Exchange) -> None:
    exchange.send(http(b"", status=f"404 {token_of(exchange)}"))


def far_along_a_redirect(exchange: Exchange) -> None:
    """The address is cut where it is shown: in the middle of the token."""
    place = "https://elsewhere.example/" + "x" * 140 + "/" + token_of(exchange)
    exchange.send(http(b"", f"Location: {place}", status="302 There"))


@pytest.fixture
def left(
    emulator: Emulator, server: EmulatorServer, planting: Planting, records: RecordsOfAll, set_extras: SetExtras
) -> Iterator[Left]:
    """Get an operation while requests of a method go a way; return all that is left."""
    with ExitStack() as stack:

        def left_(method: str, way: Way | None, **extras: Any) -> list[str]:
            line = stack.enter_context(FaultyLine(server.base_url, method=method, way=way))
            here = f"http://127.0.0.1:{line.port}"
            pace._forget()
            given = planting.extras | {"base_url": here, "num_retries": 0} | extras
            set_extras(json.loads(json.dumps(given).replace(planting.base_url, here)))
            found: list[str] = []
            with EarthEngineOperationsHook() as hook:
                try:
                    operation = hook.get_operation(emulator.add_operation())
                    found += [*shown_by(operation), repr(asdict(operation))]
                except EarthEngineError as error:
                    found += left_by_error(error)
            assert line.count(method) or not method, "it was not asked"
            return [*found, *records.texts()]

        yield left_


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize(
    "way",
    [
        error_in_escapes,
        operation_in_escapes,
        error_in("utf-16"),
        error_in("utf-16-le"),
        error_in("utf-32-be"),
        page_in_utf_16,
        broken_headers,
        status_line,
        reason_phrase,
        far_along_a_redirect,
    ],
    ids=lambda way: way.__qualname__.partition(".")[0],
)
def test_no_token_is_left_however_the_api_repeats_it(way: Way, left: Left, planting: Planting, search: Search) -> None:
    found = left("get", way, keyfile_dict=planting.key())
    assert "an access token" in search.planted
    # who reads it sees no NUL
    assert search.found_in([text.replace("\\x00", "").replace("\0", "") for text in found]) == []


def token_error_in_escapes(exchange: Exchange) -> None:
    told = escaped(exchange.request.body.decode())
    exchange.send(http(f'{{"error": "invalid_grant", "error_description": "{told}"}}'.encode(), status="400 No"))


def token_error_in_utf_16(exchange: Exchange) -> None:
    told = {"error": "invalid_grant", "error_description": exchange.request.body.decode()}
    exchange.send(http(json.dumps(told).encode("utf-16"), status="400 No"))


def client_in_plain_text(exchange: Exchange) -> None:
    """What a client said in base64, as its server reads it."""
    client = base64.b64decode(sent(exchange).removeprefix("Basic ")).decode()
    told = {"error": "invalid_client", "error_description": f"Not one of ours: {client}"}
    exchange.send(http(json.dumps(told).encode(), status="401 No"))


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize("way", [token_error_in_escapes, token_error_in_utf_16, broken_headers_of_a_token])
@pytest.mark.parametrize("who", ["key", "user"])
def test_nothing_is_left_however_a_token_server_repeats_it(
    way: Way, who: str, left: Left, planting: Planting, search: Search
) -> None:
    name = "keyfile_dict" if who == "key" else "credential_config_file"
    found = left("token", way, **{name: getattr(planting, who)()})
    assert search.found_in(found) == []


@pytest.mark.usefixtures("masked")
def test_a_clients_secret_is_not_left_by_a_server_that_decodes_it(
    left: Left, planting: Planting, search: Search
) -> None:
    found = left("sts", client_in_plain_text, credential_config_file=planting.federation())
    assert search.found_in(found) == []


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ('{{"version": 1, "success": true, "id_token": "{}"}}', 1),
        ('{{"version": 1, "success": true, "id_token": "{}"', 0),
        ('{{"version": 9, "success": true, "id_token": "{}"}}', 0),
        ("{}", 0),
    ],
)
@pytest.mark.usefixtures("masked")
def test_what_a_program_says_is_not_left(
    *, says: str, code: int, left: Left, planting: Planting, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    token = search.plant("the program's token", "eyJ-of-a-program-0123456789")
    path = planting.file(f"#!/bin/sh\necho '{says.format(token)}'\nexit {code}\n", "program")
    Path(path).chmod(0o700)
    config = planting.federation() | {"credential_source": {"executable": {"command": path, "timeout_millis": 30000}}}
    found = left("", None, credential_config_file=config)
    assert any("no token for" in text for text in found)
    assert search.found_in(found) == []


def test_a_proxys_key_is_known_that_is_given_as_its_user() -> None:
    key = "a-key-of-a-proxy"
    for address in (f"http://{key}:@proxy.example:8011", f"http://{key}@proxy.example"):
        settings = Settings(proxies={"https": address})
        assert {key, base64.b64encode(f"{key}:".encode()).decode()} <= set(settings.secrets())


@pytest.mark.parametrize("field", ["keyfile_dict", "credential_config_file", "proxies"])
def test_settings_hold_what_they_were_given_as_closely_as_what_they_read(
    field: str, planting: Planting, search: Search
) -> None:
    given: Any = {"https": planting.proxy("proxy.example")} if field == "proxies" else planting.key()
    settings = Settings(**{field: given})
    found = [*shown_by(settings), repr(asdict(settings)), repr(vars(settings))]
    assert search.found_in(found) == []


class Interruption(BaseException):
    """What a timeout of the task raises, wherever it is."""


def left_on_the_way(error: BaseException) -> Iterator[str]:
    """All variables of all that an error came through, whose code it may be, but for the tests' own."""
    yield from left_by_error(error)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "tests" not in Path(frame.f_code.co_filename).parts:
            yield from (f"{name} = {value!r}" for name, value in frame.f_locals.items())


@pytest.mark.parametrize("what", ["the key", "what a token is asked for with", "the token"])
def test_nothing_is_left_where_masking_is_interrupted(
    what: str, planting: Planting, search: Search, set_extras: SetExtras, emulator: Emulator, monkeypatch: Any
) -> None:
    """It asks the supervisor, which can fail, or take as long as the task has."""
    marks = {"the key": "", "what a token is asked for with": "eyJ", "the token": "ya29."}

    def interrupted(secrets: Any, *_: Any) -> None:
        if secrets[0].startswith(marks[what]):
            raise Interruption

    monkeypatch.setattr(sdk, "mask_secret", create_autospec(sdk.mask_secret, side_effect=interrupted))
    set_extras(planting.extras | {"keyfile_dict": planting.key()})
    name = emulator.add_operation()
    with pytest.raises(Interruption) as caught:
        EarthEngineOperationsHook().get_operation(name)
    assert search.found_in(left_on_the_way(caught.value)) == []


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize("method", ["get", "token"])
def test_nothing_is_left_of_a_request_that_a_timeout_interrupts(
    method: str, left: Left, planting: Planting, search: Search
) -> None:
    def interrupt(*_: object) -> None:
        raise Interruption

    def hang(exchange: Exchange) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        exchange.hang()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interruption) as caught:
            left(method, hang, credential_config_file=planting.user())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert search.found_in(left_on_the_way(caught.value)) == []
