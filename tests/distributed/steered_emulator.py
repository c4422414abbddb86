"""An emulator whose operations end when the suite says so: how long it takes to start 200 tasks is not known before."""

from __future__ import annotations

from collections import Counter

from airflow_provider_eeops.emulator import Emulator

__all__ = ["SteeredEmulator"]


class SteeredEmulator(Emulator):
    """An emulator in this process. It serves parts of Airflow, which are others."""

    def end_in(self, name: str, seconds: float) -> None:
        """Have a running operation come to its own end so many seconds from now.

        :param name: the operation.
        :param seconds: from now.
        """
        with self._lock:
            operation = self._known(name)
            operation.run_seconds = self.clock() + seconds - operation.start

    def names_like(self, prefix: str) -> list[str]:
        """Names of the operations whose description begins so.

        :param prefix: how.
        """
        return [name for name in self.names() if self.description(name).startswith(prefix)]

    def description(self, name: str) -> str:
        """What an operation is described as."""
        return str(self.operation(name)["metadata"]["description"])

    def asked_by(self, principal: str, *, since: float, until: float) -> dict[str, int]:
        """How many requests of each method somebody made in some time.

        :param principal: how the name of who asked begins.
        :param since: seconds since the epoch.
        :param until: seconds since the epoch.
        """
        return dict(
            Counter(
                record.method
                for record in self.requests_since(0)
                if since <= record.time < until and (record.principal or "").startswith(principal)
            )
        )

    def asked(self) -> dict[str, list[float]]:
        """When a part of Airflow, which has a service account, asked to cancel which operation."""
        found: dict[str, list[float]] = {}
        for record in self.requests_since(0):
            if record.method == "cancel" and (record.principal or "").endswith(".gserviceaccount.com"):
                found.setdefault(str(record.name), []).append(record.time)
        return found
