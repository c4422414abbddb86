"""Asks an emulator in another process what really happened there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

__all__ = ["EmulatorClient"]


class EmulatorClient:
    """The control API of a running emulator.

    :param base_url: its address.
    :param project: a project of it.
    :param key_path: its service account's key.
    """

    def __init__(self, base_url: str, *, project: str, key_path: Path) -> None:
        self.base_url = base_url
        self.project = project
        self.key_path = key_path

    @property
    def connection_extras(self) -> dict[str, str]:
        """Extras of a connection to it."""
        return {"base_url": self.base_url, "project": self.project, "key_path": str(self.key_path)}

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return requests.get(f"{self.base_url}/emulator/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    def operations(self, description: str = "") -> list[dict[str, Any]]:
        """Operations whose description begins so, by description."""
        found = self._get("operations")["operations"]
        return sorted(
            (op for op in found if str(op.get("description", "")).startswith(description)),
            key=lambda op: str(op.get("description")),
        )

    def states(self, description: str) -> list[str]:
        """States of these operations."""
        return [op["state"] for op in self.operations(description)]

    def requests(self, method: str | None = None) -> list[dict[str, Any]]:
        """The request log."""
        found: list[dict[str, Any]] = self._get("requests")["requests"]
        return [record for record in found if method in (None, record["method"])]

    def requests_since(self, number: int) -> list[dict[str, Any]]:
        """The request log from this number on."""
        found: list[dict[str, Any]] = self._get(f"requests?since={number}")["requests"]
        return found

    def add_fault(self, **parameters: Any) -> None:
        """Let something go wrong with the next requests that match."""
        requests.post(f"{self.base_url}/emulator/faults", json=parameters, timeout=10).raise_for_status()

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        requests.delete(f"{self.base_url}/emulator/faults", timeout=10).raise_for_status()

    def deny(self, permission: str, *, project: str | None = None) -> None:
        """Refuse what needs a permission, in one project or in all."""
        body = {"permission": permission, "project": project}
        requests.post(f"{self.base_url}/emulator/denials", json=body, timeout=10).raise_for_status()

    def allow_all(self) -> None:
        """Refuse nothing any more."""
        requests.delete(f"{self.base_url}/emulator/denials", timeout=10).raise_for_status()

    def add_operation(self, **parameters: Any) -> str:
        """Add an operation; return its name."""
        answer = requests.post(f"{self.base_url}/emulator/operations", json=parameters, timeout=10)
        answer.raise_for_status()
        return str(answer.json()["name"])

    def _get(self, path: str) -> Any:
        answer = requests.get(f"{self.base_url}/emulator/{path}", timeout=10)
        answer.raise_for_status()
        return answer.json()
