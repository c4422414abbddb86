"""An emulator that is served, with a clock that stands still, and a session that talks to it."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import requests

from airflow_provider_eeops.emulator import Emulator, EmulatorServer

START = 1_750_000_000.0
PROJECT = "emulator-project"


class FakeClock:
    """Stands still until it is advanced."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Served:
    """An emulator, its server and a session with a good token."""

    emulator: Emulator
    server: EmulatorServer
    clock: FakeClock
    session: requests.Session
    version: str = "v1alpha"

    @classmethod
    def start(cls, **settings: Any) -> Self:
        clock = FakeClock()
        emulator = Emulator(clock=clock, **settings)
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {emulator.issue_token('tester@example.com', 1e9)}"
        return cls(emulator, EmulatorServer(emulator).start(), clock, session)

    def stop(self) -> None:
        self.session.close()
        self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, path: str) -> str:
        """Address of an operation name, or of anything else in the API version."""
        return f"{self.server.base_url}/{self.version}/{path}"

    def get(self, path: str, **parameters: Any) -> requests.Response:
        return self.session.get(self.url(path), params=parameters, timeout=30)

    def post(self, path: str, body: Any = None) -> requests.Response:
        return self.session.post(self.url(path), json=body, timeout=30)

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(self.url(path), timeout=30)

    def control(self, verb: str, path: str, **arguments: Any) -> requests.Response:
        return self.session.request(verb, f"{self.server.base_url}/emulator/{path}", timeout=30, **arguments)


def error_of(response: requests.Response) -> tuple[int, str, str]:
    """Status code, status name and message of an answer in Google's error format."""
    error = response.json()["error"]
    assert error["code"] == response.status_code
    return error["code"], error["status"], error["message"]


def reason_of(response: requests.Response) -> str:
    """Reason of the ErrorInfo of an answer."""
    (detail,) = response.json()["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    return str(detail["reason"])
