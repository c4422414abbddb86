"""What Airflow is asked to mask, from where, and what not."""

from __future__ import annotations

import base64
import json
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest

from airflow_provider_eeops import masking
from airflow_provider_eeops.api.secrecy import file_secrets
from airflow_provider_eeops.api.settings import Settings
from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook
from airflow_provider_eeops.killing import KillCanceller
from tests.secrets.planted import CREDENTIALS, Planting
from tests.support.secret_search import Search

SetExtras = Callable[[Any], None]


def lines(key: dict[str, Any]) -> set[str]:
    return {line for line in key["private_key"].splitlines() if not line.startswith("-----")}


@pytest.mark.parametrize("where", ["keyfile_dict", "key_path", "credential_config_file", "adc", "gcloud"])
def test_a_key_is_masked_line_by_line_when_the_connection_is_read(
    where: str, planting: Planting, set_extras: SetExtras, masked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = planting.key()
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(planting.folder))
    extras: dict[str, Any] = {}
    if where == "keyfile_dict":
        extras = {where: json.dumps(key).replace("\\n", "\\\\n")}
    elif where == "gcloud":
        planting.file(key, "application_default_credentials.json")
    else:
        path = planting.file(key)
        if where == "adc":
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
        else:
            extras = {where: path}
    set_extras(extras)
    _ = EarthEngineOperationsHook().settings
    assert lines(key) | {key["private_key_id"]} == set(masked)


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_only_what_is_secret_is_masked(credentials: str, planting: Planting, search: Search) -> None:
    extras = planting.extras | CREDENTIALS[credentials](planting)
    for secret in Settings.from_extras(extras).secrets():
        assert search.found_in([secret]) != [], secret


def test_no_common_word_is_masked() -> None:
    federation = {
        "type": "external_account",
        "comment": "production",
        "universe_domain": "googleapis.com",
        "client_id": "a-client-whose-id-is-long",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {
            "url": "http://169.254.169.254/metadata/identity/oauth2/token",
            "headers": {"Metadata": "True", "Metadata-Flavor": "Google", "Accept": "application/json;v=2026-01-01"},
            "format": {"type": "json", "subject_token_field_name": "access_token_of_the_subject"},
        },
    }
    assert (
        Settings.from_extras({"credential_config_file": federation, "proxies": {"no_proxy": "localhost"}}).secrets()
        == []
    )


@pytest.mark.parametrize("many", [False, True])
def test_the_token_is_masked_by_the_thread_that_read_the_connection(
    *, many: bool, planting: Planting, set_extras: SetExtras, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {}

    def note(secrets: Any) -> None:
        for secret in secrets:
            threads.setdefault(secret, set()).add(threading.get_ident())

    monkeypatch.setattr(masking, "mask", create_autospec(masking.mask, side_effect=note))
    set_extras(planting.extras | {"keyfile_dict": planting.key()})
    name = emulator.add_operation()
    with EarthEngineOperationsHook() as hook:
        if many:
            hook.cancel_operations([name, emulator.add_operation()])
        else:
            hook.get_operation(name)
        token = hook._get_identity().credentials.token
        assert token in threads
    assert set.union(*threads.values()) == {threading.get_ident()}


@pytest.mark.usefixtures("masked")
def test_google_auth_takes_the_token_nowhere_else(
    planting: Planting, set_extras: SetExtras, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look up where the account may be used, in a thread, by a copy of what fetches tokens."""
    from google.auth import _regional_access_boundary_utils as lookups

    begun: list[object] = []
    monkeypatch.setattr(
        lookups._RegionalAccessBoundaryRefreshThread,
        "start",
        create_autospec(lookups._RegionalAccessBoundaryRefreshThread.start, side_effect=begun.append),
    )
    set_extras(planting.extras | {"keyfile_dict": planting.key()})
    with EarthEngineOperationsHook() as hook:
        hook.get_operation(emulator.add_operation())
    assert begun == []


@pytest.mark.usefixtures("masked")
def test_a_hook_is_pickled_without_the_token_that_another_thread_learned(
    planting: Planting, set_extras: SetExtras, emulator: Emulator
) -> None:
    set_extras(planting.extras | {"keyfile_dict": planting.key()})
    name = emulator.add_operation()
    with EarthEngineOperationsHook() as hook:
        client = hook.get_conn()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(client.get_operation, name).result()
        token = hook._get_identity().credentials.token
        assert str(token).encode() not in pickle.dumps(hook)


def test_a_forked_process_has_nothing_masked_by_its_parents_supervisor(masked: list[str]) -> None:
    learning = masking.Masking()
    known, told = os.pipe()
    child = os.fork()
    if child == 0:
        learning.learn("learned-in-the-child")
        learning.come_by()
        os.write(told, str(len(masked)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(known, 10) == b"0"
    os.close(known)
    os.close(told)
    learning.learn("learned-in-the-parent")
    assert masked == ["learned-in-the-parent"]


def test_a_proxys_password_is_known_without_a_scheme_too() -> None:
    settings = Settings.from_extras({"proxies": {"https": "user:of-proxy@proxy.example:3128"}})
    assert {"of-proxy", base64.b64encode(b"user:of-proxy").decode()} <= set(settings.secrets())


def test_a_user_without_a_home_has_no_file_of_gclouds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
    monkeypatch.setattr(Path, "expanduser", create_autospec(Path.expanduser, side_effect=RuntimeError("no home")))
    assert list(file_secrets([None])) == []


def test_a_kill_fetches_a_token_and_asks_airflow_for_nothing(
    planting: Planting, set_extras: SetExtras, emulator: Emulator, masked: list[str]
) -> None:
    """Its supervisor may be in the middle of an answer to the thread that the kill interrupts."""
    set_extras(planting.extras | {"keyfile_dict": planting.key()})
    name = emulator.add_operation()
    with EarthEngineOperationsHook() as hook:
        killing = KillCanceller(hook)
        masked.clear()
        killing.cancel([name])
        killing.close()
        assert emulator.cancel_requested(name)
        assert [record.method for record in emulator.requests] == ["token", "cancel"]
        assert masked == []
