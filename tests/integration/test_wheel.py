"""The built wheel, installed in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from airflow_provider_eeops import __version__
from tests.support.checkout import copied, tracked_files
from tests.support.versions import PINS

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


PACKAGE = "airflow_provider_eeops"
TESTS_OF_THE_WHEEL = ("tests/unit/api", "tests/unit/glue", "tests/unit/test_exceptions.py")


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command; its output, or an error that shows it."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, cwd=cwd, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    run(BIN / "uv", "pip", "install", "--quiet", "--python", python, "--constraint", PINS, wheel)
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "airflow_provider_eeops",
        f"airflow_provider_eeops-{__version__}.dist-info",
    }
    assert "airflow_provider_eeops/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_airflow_shows_the_provider_and_its_connection_type(clean_python: Path, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {"AIRFLOW_HOME": str(tmp_path), "COLUMNS": "200", "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    airflow = clean_python.with_name("airflow")
    shown = run(airflow, "providers", "get", "airflow-provider-eeops", "--full", "--output", "json", env=env)
    (info,) = json.loads(shown[shown.index("[{") :])
    assert info["versions"] == [__version__]
    assert [each["connection-type"] for each in info["connection-types"]] == ["earthengine"]
    assert "earthengine_conn_id" in run(airflow, "providers", "hooks", "--output", "plain", env=env)


def test_without_the_extra_the_provider_works_and_the_emulator_says_what_it_needs(clean_python: Path) -> None:
    code = "import airflow_provider_eeops.api.transport, airflow_provider_eeops.operators.operations"
    run(clean_python, "-W", "error::ResourceWarning", "-c", code)
    find = "from importlib.util import find_spec as find; print(bool(find('aiohttp') and find('cryptography')))"
    if run(clean_python, "-c", find).strip() == "True":
        pytest.skip("this Airflow itself installs all that the emulator needs")
    done = subprocess.run(
        [clean_python, "-m", "airflow_provider_eeops.emulator"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "airflow-provider-eeops[emulator]" in done.stderr


@pytest.fixture(scope="module")
def checkout_without_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of a checkout but the package."""
    folder = tmp_path_factory.mktemp("hidden") / "checkout"
    copied((path for path in tracked_files() if path.parts[0] != PACKAGE), folder, umask=0o022)
    return folder


@pytest.fixture(scope="module")
def testing_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and what its unit tests require."""
    folder = tmp_path_factory.mktemp("testing") / "venv"
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    install = (BIN / "uv", "pip", "install", "--quiet", "--python", python, "--constraint", PINS)
    run(*install, f"{wheel}[emulator]", "--group", f"{ROOT / 'pyproject.toml'}:unit")
    return python


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the files to copy are those of a checkout; this is none")
@pytest.mark.timeout(1800)  # two thousand tests, on a machine that may be busy
def test_the_unit_tests_pass_where_there_is_only_the_wheel(
    testing_python: Path, checkout_without_package: Path
) -> None:
    assert not (checkout_without_package / PACKAGE).exists()
    where = run(testing_python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=checkout_without_package)
    assert Path(where.strip()).is_relative_to(testing_python.parents[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "COV"))}
    environment["AIRFLOW_HOME"] = str(checkout_without_package / ".airflow")
    tests = ("-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *TESTS_OF_THE_WHEEL)
    said = run(testing_python, *tests, env=environment, cwd=checkout_without_package)
    assert " passed" in said.splitlines()[-1], said
