"""A task that prints what it must not: its key, line by line and whole, and the access token, of either thread."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook

with DAG("prints_credentials", schedule=None):

    @task
    def show() -> None:
        tokens = Path(os.environ["AIRFLOW_HOME"]) / "printed-tokens"
        hook = EarthEngineOperationsHook()
        key = Path(hook.settings.key_path or "").read_text()
        print("the key:", key)
        logging.getLogger("of.user").info("the key's lines: %s", key.replace("\\n", "\n"))
        for many in (False, True):
            with EarthEngineOperationsHook() as hook:
                if many:  # the token is fetched by another thread
                    hook.cancel_operations([f"projects/{hook.project_id}/operations/NONE{n}" for n in range(3)])
                else:
                    list(hook.list_operations())
                token = hook.credentials.token
                with tokens.open("a") as file:
                    file.write(f"{token}\n")
                print("the token, printed:", token)
                logging.getLogger("of.user").info("the token, logged: %s", token)

    show()
