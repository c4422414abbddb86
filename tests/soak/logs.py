"""What the logs of one Airflow say: when triggers started and fired, and whether a credential is in any of them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["TriggerLog", "leaks", "longest_block", "secrets_of", "trigger_logs"]

_LEAST_LENGTH = 16
_BLOCKED = re.compile(r"async thread was blocked for ([\d.]+) seconds")


@dataclass
class TriggerLog:
    """When one trigger started, and when it fired, seconds since the epoch."""

    started: float | None = None
    fired: list[float] = field(default_factory=list)


def trigger_logs(files: Iterable[Path]) -> dict[int, TriggerLog]:
    """Read what the triggers of a mapped task logged, by map index.

    :param files: their own logs and the triggerer's, which has the last lines of a trigger whose log is closed already.
    """
    found: dict[int, TriggerLog] = {}
    for path in files:
        for entry in _entries(path.read_text(errors="replace")):
            log = found.setdefault(int(entry["map_index"]), TriggerLog())
            moment = datetime.fromisoformat(entry["timestamp"]).timestamp()
            log.started = moment if log.started is None else min(log.started, moment)
            if entry["event"] == "Trigger fired event":
                log.fired.append(moment)
    return found


def _entries(text: str) -> Iterator[Mapping[str, Any]]:
    """Lines of JSON that a trigger logged."""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"event", "timestamp", "map_index"} <= entry.keys():
            yield entry


def longest_block(text: str) -> float:
    """Seconds for which the event loop of the triggers stood still at most, as Airflow says if it is a fifth of one.

    :param text: of the triggerer's log.
    """
    return max((float(seconds) for seconds in _BLOCKED.findall(text)), default=0.0)


def secrets_of(keys: Iterable[Mapping[str, str]], tokens: Iterable[str]) -> dict[bytes, str]:
    """Say what must be in no log, and what it is.

    :param keys: of service accounts.
    :param tokens: that were issued.
    """
    lines = {line: "a private key" for key in keys for line in key["private_key"].splitlines() if "-----" not in line}
    named = lines | dict.fromkeys(tokens, "an access token")
    return {text.encode(): what for text, what in named.items() if len(text) >= _LEAST_LENGTH}


def leaks(folder: Path, secrets: Mapping[bytes, str], *, but: Collection[Path] = ()) -> list[str]:
    """Say which files hold a secret; the secret itself is not told.

    :param folder: with all files below.
    :param secrets: what is looked for, and what it is.
    :param but: files that may.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in but:
            content = path.read_bytes()
            kinds = {what for secret, what in secrets.items() if secret in content}
            found += [f"{path.relative_to(folder)} holds {what}" for what in sorted(kinds)]
    return found
