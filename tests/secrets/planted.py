"""The credentials that a user may hold, each with secrets that are looked for."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_eeops.emulator import EmulatorServer
from tests.support.echoing import EchoingServer
from tests.support.secret_search import Search

__all__ = ["CREDENTIALS", "Planting"]

ROBOT = "robot@one.iam.gserviceaccount.com"
PASSWORD = "hush/hush hour+4711"
WRITTEN = "hush%2Fhush%20hour%2B4711"


class Planting:
    """Makes the extras of connections, and has the search look for what is secret in them.

    :param server: the emulator's.
    :param front: what stands before it.
    :param search: what looks for the secrets.
    :param folder: where files go.
    """

    def __init__(self, server: EmulatorServer, front: EchoingServer, search: Search, folder: Path) -> None:
        self._server = server
        self._front = front
        self._search = search
        self.folder = folder
        self.base_url = f"http://{front.netloc}"

    @property
    def extras(self) -> dict[str, Any]:
        return {"base_url": self.base_url, "project": "one", "requests_per_second": 1000, "num_retries": 0}

    def key(self) -> dict[str, Any]:
        info = self._server.service_account_info(ROBOT) | {"token_uri": f"{self.base_url}/token"}
        self._search.plant("the private key", info["private_key"])
        self._search.plant("the private key's id", info["private_key_id"])
        return info

    def file(self, contents: Any, name: str = "credentials.json") -> str:
        path = self.folder / name
        path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
        return str(path)

    def user(self) -> dict[str, Any]:
        info = self._server.authorized_user_info()
        info |= {"token_uri": f"{self.base_url}/token", "client_secret": f"GOCSPX-{secrets.token_urlsafe(18)}"}
        self._search.plant("the refresh token", info["refresh_token"])
        self._search.plant("the client secret", info["client_secret"])
        return info

    def federation(self) -> dict[str, Any]:
        subject = self._server.emulator.issue_subject_token("principal://pool/subject/one")
        info = self._server.external_account_info(
            self.file(self._search.plant("the subject token", subject), "subject"), impersonate=ROBOT
        )
        impersonation = f"{self.base_url}/v1/projects/-/serviceAccounts/{ROBOT}:generateAccessToken"
        return info | {
            "token_url": f"{self.base_url}/v1/token",
            "service_account_impersonation_url": impersonation,
            "client_id": "federated-client",
            "client_secret": self._search.plant("the federation's secret", f"fed-{secrets.token_urlsafe(18)}"),
        }

    def federation_by_url(self) -> dict[str, Any]:
        subject = self._search.plant("the header's token", f"header-{secrets.token_urlsafe(18)}")
        source = {"url": f"{self.base_url}/subject", "headers": {"Authorization": f"Bearer {subject}"}}
        return self.federation() | {"credential_source": source}

    def federation_by_program(self) -> dict[str, Any]:
        argument = self._search.plant("the program's argument", f"--pin={secrets.token_urlsafe(18)}")
        program = {"command": f"/bin/false {argument}", "timeout_millis": 5000}
        return self.federation() | {"credential_source": {"executable": program}}

    def proxy(self, netloc: str) -> str:
        self._search.plant("the proxy's password", PASSWORD)
        self._search.plant("the proxy's password as written", WRITTEN)
        return f"http://user:{WRITTEN}@{netloc}"


CREDENTIALS: Mapping[str, Callable[[Planting], dict[str, Any]]] = {
    "keyfile_dict": lambda plant: {"keyfile_dict": plant.key()},
    "keyfile_dict as text": lambda plant: {"keyfile_dict": json.dumps(plant.key())},
    "key_path": lambda plant: {"key_path": plant.file(plant.key())},
    "user": lambda plant: {"credential_config_file": plant.user()},
    "user's file": lambda plant: {"credential_config_file": plant.file(plant.user())},
    "federation": lambda plant: {"credential_config_file": plant.federation()},
    "federation by URL": lambda plant: {"credential_config_file": plant.federation_by_url()},
    "federation by program": lambda plant: {"credential_config_file": plant.federation_by_program()},
    "impersonation": lambda plant: {"keyfile_dict": plant.key(), "impersonation_chain": f"a@one.example,{ROBOT}"},
    "proxy": lambda plant: {"keyfile_dict": plant.key(), "proxies": {"https": plant.proxy("proxy.example:3128")}},
}
"""Extras that choose the credentials, by what a user calls them."""
