"""The emulator of the soak: requests of it fail now and then, its tokens are good for a minute, and it restarts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Self

from airflow_provider_eeops.emulator import Emulator, EmulatorServer, Fault
from tests.soak import plan
from tests.soak.judging import Truth
from tests.support.processes import free_port

__all__ = ["SoakEmulator", "SoakServer", "email"]

_GOOD_FOR = 60.0
_RENEWED_EARLY = 225.0
"""Seconds before the end that a token is said to have, at which google-auth renews it."""
_TOLD = {plan.CONNECTIONS[0]: _GOOD_FOR + _RENEWED_EARLY, plan.CONNECTIONS[1]: 3600.0}
"""What is said of a token of each connection: one renews it in time, the other has it refused by then."""


def email(conn_id: str) -> str:
    """Service account of a connection."""
    return f"{conn_id.replace('_', '-')}@{plan.PROJECTS[0]}.iam.gserviceaccount.com"


class SoakEmulator(Emulator):
    """An emulator whose requests fail at random.

    :param random: decides which.
    :param fault_share: of all requests, those of tokens too.
    """

    def __init__(self, random: Random, *, fault_share: float, **settings: Any) -> None:
        super().__init__(projects=plan.PROJECTS, token_lifetime=_GOOD_FOR, **settings)
        self.tokens: list[str] = []
        self.faults: Counter[str] = Counter()
        self.cancels_taken: set[str] = set()
        self._random = random
        self._fault_share = fault_share
        self._vanished: dict[str, float] = {}

    def take_fault(self, method: str, name: str | None) -> Fault | None:
        """Draw one, besides those that were added."""
        with self._lock:
            added = super().take_fault(method, name)
            drawn = added or plan.fault(self._random, share=self._fault_share)
            if drawn is not None:
                self.faults[method] += 1
            return drawn

    def grant(self, way: Callable[[Any], Any]) -> Any:
        """Say of a token what the connection it is for is to believe."""
        with self._lock:
            issued = super().grant(way)
            self.tokens.append(issued.token)
            principal = self._identities._tokens[issued.token][0].principal
            told = next((seconds for conn_id, seconds in _TOLD.items() if principal == email(conn_id)), issued.lifetime)
            return type(issued)(issued.token, told)

    def vanish(self, name: str) -> bool:
        """Forget an operation that runs; return whether it did."""
        with self._lock:
            if self.operation(name).get("done"):
                return False
            self._vanished[name] = self.clock()
            self.remove_operation(name)
            return True

    def running(self) -> list[str]:
        """Operations that have not ended."""
        with self._lock:
            return [name for name in self.names() if not self.operation(name).get("done")]

    def request_cancel(self, name: str) -> bool:
        """Note which were."""
        accepted = super().request_cancel(name)
        if accepted:
            self.cancels_taken.add(name)
        return accepted

    def truth(self, name: str) -> Truth:
        """What became of an operation, and when."""
        with self._lock:
            if name in self._vanished:
                return Truth("not_found", None, self._vanished[name])
            operation = self._known(name)
            state = self.state(name)
            ended = operation.cancel_end if state == "CANCELLED" else operation.own_end
            assert ended is not None
            return Truth("cancelled" if state == "CANCELLED" else "finished_first", state, ended)


class SoakServer:
    """Serves it at one address, with interruptions; leaving the block stops it."""

    def __init__(self, emulator: SoakEmulator) -> None:
        self.emulator = emulator
        self.port = free_port()
        self.outages: list[tuple[float, float]] = []
        self._server: EmulatorServer | None = None
        self._down_since: float | None = None

    def __enter__(self) -> Self:
        self._server = EmulatorServer(self.emulator, port=self.port).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def key(self, conn_id: str) -> dict[str, Any]:
        """Key of a connection's service account."""
        assert self._server is not None
        return self._server.service_account_info(email(conn_id))

    @property
    def base_url(self) -> str:
        """Its address, also while it is away."""
        return f"http://127.0.0.1:{self.port}"

    def go(self) -> None:
        """Break all connections, and listen no more; no token is good any more."""
        self._down_since = time.time()
        self.__exit__()
        self.emulator.revoke_tokens()

    def come_back(self) -> None:
        """Listen again."""
        assert self._down_since is not None
        self.__enter__()
        self.outages.append((self._down_since, time.time()))
        self._down_since = None
