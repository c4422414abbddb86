"""Each call is made, and what it asked for, as the emulator saw it, is what docs/permissions.md says it needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_eeops.api.denials import PERMISSIONS
from airflow_provider_eeops.emulator import Emulator
from airflow_provider_eeops.exceptions import PermissionDeniedError
from airflow_provider_eeops.hooks.operations import EarthEngineOperationsHook as Hook

PAGE = (Path(__file__).parents[3] / "docs" / "permissions.md").read_text()
ROLE = {
    "earthengine.operations.get",
    "earthengine.operations.list",
    "earthengine.operations.update",
    "serviceusage.services.use",
}

CALLS: dict[str, Callable[[Hook, list[str]], object]] = {
    "get_operation": lambda hook, names: hook.get_operation(names[0]),
    "list_operations": lambda hook, _: list(hook.list_operations()),
    "select_operations": lambda hook, _: hook.select_operations({"description": "x"}),
    "cancel_operation": lambda hook, names: hook.cancel_operation(names[0]),
    "cancel_operations of up to 8 operations of a project": lambda hook, names: hook.cancel_operations(names[:8]),
    "cancel_operations of more": lambda hook, names: hook.cancel_operations(names),
    "wait_for_operations of up to 8 operations of a project": lambda hook, names: hook.wait_for_operations(names[:8]),
    "wait_for_operations of more": lambda hook, names: hook.wait_for_operations(names),
    "delete_operation": lambda hook, names: hook.delete_operation(names[0]),
    "test_connection": lambda hook, _: hook.test_connection(),
}


def rows() -> dict[str, set[str]]:
    found = re.findall(r"^\| (`\w+`.*) \| ((?:`\w+`(?:, )?)+) \|$", PAGE, re.MULTILINE)
    return {call.replace("`", ""): set(re.findall(r"\w+", needs)) for call, needs in found}


def test_the_page_has_every_call() -> None:
    assert set(rows()) == set(CALLS)


def test_the_role_is_the_one_that_is_enough() -> None:
    (role,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert set(yaml.safe_load(role)["includedPermissions"]) == ROLE


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("call", CALLS)
def test_a_call_needs_what_the_page_says(call: str, emulator: Emulator) -> None:
    names = [emulator.add_operation(finished=call.startswith("wait")) for _ in range(9)]
    with Hook() as hook:
        CALLS[call](hook, names)
    asked: set[Any] = {record.method for record in emulator.requests} - {"token"}
    assert {PERMISSIONS[method].rpartition(".")[2] for method in asked} == rows()[call]
    assert call == "delete_operation" or {PERMISSIONS[method] for method in asked} < ROLE


@pytest.mark.usefixtures("connection")
def test_the_quota_of_a_project_may_be_refused_by_every_call(
    emulator: Emulator, set_connection: Callable[..., None]
) -> None:
    set_connection(quota_project_id="paying")
    emulator.deny("serviceusage.services.use", project="paying")
    name = emulator.add_operation()
    with Hook() as hook:
        for call in (hook.get_operation, hook.cancel_operation, hook.delete_operation):
            with pytest.raises(PermissionDeniedError, match="serviceusage") as caught:
                call(name)
            assert caught.value.permission == "serviceusage.services.use"
        with pytest.raises(PermissionDeniedError, match=r"the principal lacks serviceusage.* on project paying"):
            hook.select_operations({"description": "x"})
        (result,) = hook.cancel_operations(name).results
        assert str(result).count("serviceusage.services.use") == 1
