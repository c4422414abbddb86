"""The rules that hold the house up."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_eeops
from tests.support.versions import HAS_NO_SDK, IS_AIRFLOW_2

PACKAGE = Path(airflow_provider_eeops.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "airflow_provider_eeops.")
    if not module.name.endswith("__main__")
)
WITHOUT_AIRFLOW = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent.name in {"api", "emulator"} or path.name in {"exceptions.py", "get_provider_info.py", "checks.py"}
]


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of all that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", WITHOUT_AIRFLOW, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_nothing_of_airflow(path: Path) -> None:
    assert "airflow" not in imported(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_googles_client_is_imported_in_one_place_and_late(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.name == "ee_state.py":
        tree = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert "ee" not in imported(tree)


def test_the_provider_does_not_import_the_emulator() -> None:
    outside = [path for path in PACKAGE.rglob("*.py") if "emulator" not in path.parts]
    assert [path for path in outside if "airflow_provider_eeops.emulator" in path.read_text()] == []


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", None)
    if public is None:
        assert Path(str(module.__file__)).name == "__init__.py", f"{name} has no __all__"
        return
    assert [each for each in public if not hasattr(module, each)] == []
    assert list(public) == sorted(public, key=lambda each: (not each.isupper(), not each[0].isupper(), each))


@pytest.mark.skipif(IS_AIRFLOW_2, reason=HAS_NO_SDK)
def test_importing_the_classes_after_airflow_loads_neither_google_auth_nor_requests() -> None:
    code = """
import importlib, sys
import airflow.sdk
import airflow.providers.common.compat.sdk as compat
compat.BaseOperator, compat.BaseHook, compat.BaseSensorOperator, compat.BaseNotifier
before = set(sys.modules)
for module in ("get_provider_info", "hooks.operations", "notifications.operations", "operators.operations",
               "sensors.operations", "session", "tracking", "triggers.operations"):
    importlib.import_module(f"airflow_provider_eeops.{module}")
    heavy = ("google.auth", "google.oauth2", "requests", "urllib3", "aiohttp", "ee.")
    print(module, sorted(name for name in set(sys.modules) - before if f"{name}.".startswith(heavy)))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = loaded.stdout.strip().splitlines()[-8:]
    assert [line.split(" ", 1)[1] for line in lines] == ["[]"] * 8, lines


def test_importing_the_package_loads_nothing_else_of_it() -> None:
    code = "import sys, airflow_provider_eeops; print(sum('airflow' in name for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "1"
