"""A StatsD server on this machine that keeps what it is sent."""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Sample", "StatsdServer"]

_LINE = re.compile(r"(?P<name>[^,:]+)(?P<tags>(?:,[^,:=]+=[^,:]+)*):(?P<value>[^|]+)\|(?P<kind>c|ms|g)(?:\|@[\d.]+)?")


@dataclass(frozen=True)
class Sample:
    """One line.

    :param name: the metric's name, without Airflow's prefix.
    :param tags: as InfluxDB has them in the name.
    :param value: its value.
    :param kind: ``c`` of a counter, ``ms`` of a timing.
    """

    name: str
    tags: dict[str, str]
    value: float
    kind: str


class StatsdServer:
    """Listens on UDP while in its block."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._receive)

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's settings that send its metrics here, with their tags."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def samples(self, name: str = "") -> list[Sample]:
        """What was sent under this name, or under any of ours."""
        ours = [line for line in list(self.lines) if line.startswith("airflow.eeops.")]
        found = [_sample(line) for line in ours]
        return [sample for sample in found if name in ("", sample.name)]

    def total(self, name: str, **tags: str) -> float:
        """The sum of what was sent under this name with these tags."""
        return sum(each.value for each in self.samples(name) if tags.items() <= each.tags.items())

    def _receive(self) -> None:
        while datagram := self._socket.recv(65536):
            self.lines += datagram.decode().splitlines()


def _sample(line: str) -> Sample:
    found = _LINE.fullmatch(line)
    assert found is not None, f"no line of StatsD: {line!r}"
    tags = dict(tag.split("=", 1) for tag in found["tags"].split(",") if tag)
    return Sample(found["name"].removeprefix("airflow."), tags, float(found["value"]), found["kind"])
