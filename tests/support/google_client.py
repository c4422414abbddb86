"""Google's own client against an emulator, in processes of their own: `ee` keeps global state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow_provider_eeops.emulator import Emulator, EmulatorServer

__all__ = ["PROJECT", "START", "GoogleClient"]

PROJECT = "emulator-project"

START = """
import json, os, sys
import ee
from google.oauth2 import service_account

credentials = service_account.Credentials.from_service_account_file(
    os.environ["KEY"], scopes=["https://www.googleapis.com/auth/earthengine"])
ee.Initialize(credentials, url=os.environ["URL"], project="emulator-project")
"""


class GoogleClient:
    """Runs code and commands that use the real client."""

    def __init__(self, emulator: Emulator, server: EmulatorServer, folder: Path) -> None:
        self.emulator = emulator
        self.server = server
        self.key = folder / "key.json"
        self.key.write_text(json.dumps(server.service_account_info()))
        self.config = folder / "config.json"
        self.config.write_text(json.dumps({"url": server.base_url, "project": PROJECT}))
        refusing = "http://127.0.0.1:9"  # whatever else the client asks for fails at once
        self.environment = {
            **{
                name: os.environ[name]
                for name in ("PATH", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START")
                if name in os.environ
            },
            "HOME": str(folder),
            "KEY": str(self.key),
            "URL": server.base_url,
            "https_proxy": refusing,
            "no_proxy": "127.0.0.1",
            "PYTHONWARNINGS": "ignore",
        }

    def run(self, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def result(self, code: str, **environment: str) -> Any:
        """What the code left in `result`."""
        done = self.run(f"{START}\n{code}\nprint(json.dumps(result))", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        fixed = ["--ee_config", str(self.config), "--service_account_file", str(self.key)]
        return self.run("import ee.cli.eecli as cli; cli.main()", *fixed, *arguments)
