"""What is fuzzed: each takes bytes, and fails if they are met with anything but an answer or an error of ours."""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import google.auth.credentials
import requests
import requests.adapters
import urllib3

from airflow_provider_eeops.api.client import EarthEngineOperationsClient
from airflow_provider_eeops.api.models import TERMINAL_STATES, Operation, OperationResult, Outcome, Report
from airflow_provider_eeops.api.names import parse_operation_names
from airflow_provider_eeops.api.pace import Pace
from airflow_provider_eeops.api.retrying import Budget, retry_after_seconds
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.api.transport import Transport
from airflow_provider_eeops.exceptions import EarthEngineError, InvalidOperationNameError, InvalidSettingsError
from tests.fuzz.structure import Input
from tests.support.attempt import attempt
from tests.support.clock import ManualClock

__all__ = ["HARNESSES"]

A = "projects/one/operations/A"

_NAME = re.compile(r"projects/[A-Za-z0-9][A-Za-z0-9_.:-]*/operations/[A-Za-z0-9_.~-]+(?:/[A-Za-z0-9_.~-]+)*", re.ASCII)


def names(data: bytes) -> None:
    """Any text or value -> operation names or refusals."""
    given = Input(data)
    form = given.byte() % 5
    value: Any = given.text() if form == 0 else given.json() if form == 1 else given.value()
    if form == 3:
        value = repr(value)
    elif form == 4:
        value = json.dumps(value)
    parsed = _quietly(lambda: parse_operation_names([value, A], project_id="one"))
    assert A in parsed.names
    assert len(set(parsed.names)) == len(parsed.names)
    for name in parsed.names:
        assert _NAME.fullmatch(name), name
        assert not {"", ".", ".."}.intersection(name.split("/")), name
    for error in parsed.invalid:
        assert isinstance(error, InvalidOperationNameError)
        str(error).encode()


def payloads(data: bytes) -> None:
    """Any JSON value -> an operation that says no more than the value does."""
    given = Input(data)
    value = given.json() if given.byte() % 2 else given.value()
    _check_operation(Operation.from_payload(value, name=A), value)


def answers(data: bytes) -> None:
    """Any answer over HTTP -> an operation, a page or an error of ours, with a wait that fits into the budget."""
    given = Input(data)
    status = (200, 200, 200, 400, 401, 403, 404, 408, 409, 429, 500, 501, 503, 302, 204, 206)[given.byte() % 16]
    form, with_retry_after = given.byte() % 3, given.byte() % 2
    header = given.rest().partition(b"\n")[0][:60].decode("latin-1") if with_retry_after else None
    given = Input(data[3:])
    body = given.rest() if form == 0 else json.dumps({"error": given.value()} if form == 1 else given.value()).encode()
    clock = ManualClock()
    seconds = retry_after_seconds(header, now=clock.time())
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
    client = _client(clock, status, body, header)
    began = clock.monotonic()
    for call in (client.get_operation, client.cancel_operation, lambda _name: list(client.list_pages("one"))):
        _, error = attempt(call, A, error=EarthEngineError)
        if error is not None:
            assert error.code in range(1, 17)
            assert str(error)
            json.dumps(Report((OperationResult.from_error(A, error),)).to_dict(), allow_nan=False)
    assert clock.monotonic() - began <= 3 * 130


def extras(data: bytes) -> None:
    """Any JSON object -> settings or a refusal that keeps the secret."""
    given = Input(data)
    value = given.json() if given.byte() % 2 else {given.word(): given.value() for _ in range(given.byte() % 5)}
    if not isinstance(value, dict):
        value = {"keyfile_dict": value}
    hidden = {"keyfile_dict": {"private_key": [_SECRET, value]}, "proxies": {"https": f"http://u:{_SECRET}@{value}"}}
    for each in (value, value | hidden):
        settings, error = attempt(Settings.from_extras, each, error=InvalidSettingsError)
        if error is not None:
            assert _SECRET not in f"{error}{error!r}"
            str(error).encode()
        else:
            assert _SECRET not in repr(settings)
            assert settings.base_url.startswith("https://") or settings.is_loopback
            for number in (settings.read_timeout, settings.connect_timeout, settings.requests_per_second):
                assert 0 < number < math.inf
            settings.secrets()


HARNESSES: Mapping[str, Callable[[bytes], None]] = {
    "answers": answers,
    "extras": extras,
    "names": names,
    "payloads": payloads,
}

_SECRET = "hush-hush-hush"


def _quietly(call: Callable[[], Any]) -> Any:
    """Call without the warnings that Python's own parser has for odd literals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def _check_operation(operation: Operation, value: Any) -> None:
    said = value if isinstance(value, dict) else {}
    metadata: Any = said.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    terminal = said.get("done") is True or metadata.get("state") in list(TERMINAL_STATES)
    assert operation.confirmed is terminal
    if operation.outcome is Outcome.CANCELLED:
        error = said.get("error")
        assert float(error["code"]) == 1 if error else metadata.get("state") == "CANCELLED"
    report = Report((OperationResult.from_operation(operation, otherwise=Outcome.NOT_CONFIRMED),))
    assert Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report
    f"{report.results[0]} {operation.progress_words}".encode()


class _Canned(requests.adapters.BaseAdapter):
    """Answers each request with the same bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}

    def send(self, request: requests.PreparedRequest, *_args: Any, **_kwargs: Any) -> requests.Response:
        assert re.fullmatch(
            r"http://127\.0\.0\.1/v1alpha/projects/one/operations(?:/A(?::cancel)?|\?\S*)", str(request.url)
        ), request.url
        raw = urllib3.HTTPResponse(
            io.BytesIO(self.body), status=self.status, headers=self.headers, preload_content=False
        )
        return _BUILDER.build_response(request, raw)

    def close(self) -> None:
        """Nothing is open."""


_BUILDER = requests.adapters.HTTPAdapter()


@cache
def _transport() -> tuple[Transport, _Canned]:
    """The one transport of all inputs: to make one takes longer than to use it."""
    canned = _Canned()
    transport = Transport(google.auth.credentials.AnonymousCredentials(), base_url="http://127.0.0.1", pace=Pace(1e6))
    transport._session.mount("http://", canned)
    return transport, canned


def _client(clock: ManualClock, status: int, body: bytes, retry_after: str | None) -> EarthEngineOperationsClient:
    transport, canned = _transport()
    transport._clock, transport._pace = clock, Pace(1e6, clock=clock)
    canned.status, canned.body = status, body
    canned.headers = {} if retry_after is None else {"Retry-After": retry_after}
    return EarthEngineOperationsClient(transport, budget=Budget(retries=1), clock=clock)
