"""Known vulnerabilities in pinned versions, without a network.

``python -m tests.support.advisories CLONE PINS``: CLONE is a clone of github.com/pypa/advisory-database, PINS a file of
``name==version`` lines. It says how old the newest advisory is, as a clone knows nothing that came after it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

__all__ = ["Finding", "findings", "main", "pins"]


class Finding(NamedTuple):
    """A pinned version that an advisory is about."""

    name: str
    version: str
    advisory: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}: {self.advisory}, fixed in {', '.join(self.fixed) or 'no version'}"


def pins(text: str) -> dict[str, str]:
    """Read ``name==version`` lines; of a name with several markers the last counts.

    :param text: the lines.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = pin.version
    return found


def findings(vulns: Path, pinned: Mapping[str, str]) -> Iterator[Finding]:
    """Find the advisories about pinned versions.

    :param vulns: folder with a folder of advisories for each package, in the OSV format.
    :param pinned: version by name.
    """
    for name, version in sorted(pinned.items()):
        for path in sorted((vulns / name).glob("*.yaml")):
            advisory = _read(path)
            if advisory.get("withdrawn"):
                continue
            for affected in advisory.get("affected", ()):
                events = [
                    event
                    for each in affected.get("ranges", ())
                    if each.get("type") == "ECOSYSTEM"
                    for event in each.get("events", ())
                ]
                if version in affected.get("versions", ()) or _is_within(Version(version), events):
                    yield Finding(name, version, str(advisory["id"]), tuple(e["fixed"] for e in events if "fixed" in e))
                    break


def _is_within(version: Version, events: list[dict[str, str]]) -> bool:
    """Whether the last event at or below a version says that it is affected."""
    within, latest = False, Version("0.dev0")
    for event in events:
        for kind, value in event.items():
            try:
                moment = Version("0.dev0" if value == "0" else str(value))
            except InvalidVersion:
                continue
            reached = moment < version if kind == "last_affected" else moment <= version
            if reached and moment >= latest:
                within, latest = kind == "introduced", moment
    return within


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def main(clone: str, pinned: str) -> int:
    """Print what was found; 1 if there was anything, 2 if there are no advisories to look in.

    :param clone: a clone of the database.
    :param pinned: a file of pins.
    """
    vulns = Path(clone) / "vulns"
    newest = max((path.stem for path in vulns.glob("*/PYSEC-*.yaml")), default=None, key=_number)
    if newest is None:
        print(f"{vulns} has no advisories: pass a clone of github.com/pypa/advisory-database")
        return 2
    versions = pins(Path(pinned).read_text())
    found = list(findings(vulns, versions))
    print(f"{len(versions)} pins, {len(found)} with a known vulnerability; the newest advisory here is {newest}.")
    for finding in found:
        print(f"- {finding}")
    return 1 if found else 0


def _number(stem: str) -> tuple[int, ...]:
    return tuple(int(part) for part in stem.split("-")[1:] if part.isdigit())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
