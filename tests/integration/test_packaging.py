"""What is built depends on the commit alone, and says on an index what it has to say."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import yaml

from airflow_provider_eeops import __version__
from airflow_provider_eeops.get_provider_info import get_provider_info
from tests.support.checkout import ROOT, copied, tracked_files

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what is built is a checkout's; this is none"),
]

COMMITTED = "1700000000"  # SOURCE_DATE_EPOCH


def build(checkout: Path, *, umask: int, seed: str) -> dict[str, Path]:
    """Build both archives as ``make dist`` does; the files by their names."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"],
        cwd=checkout,
        env=os.environ | {"SOURCE_DATE_EPOCH": COMMITTED, "PYTHONHASHSEED": seed},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return {path.name: path for path in (checkout / "dist").iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    checkout = tmp_path_factory.mktemp("one") / "checkout"
    copied(tracked_files(), checkout, umask=0o022)
    return build(checkout, umask=0o022, seed="1")


@pytest.fixture(scope="module")
def metadata(built: dict[str, Path]) -> Message:
    wheel = zipfile.ZipFile(next(path for name, path in built.items() if name.endswith(".whl")))
    return message_from_bytes(wheel.read(f"airflow_provider_eeops-{__version__}.dist-info/METADATA"))


def test_another_place_umask_time_and_litter_change_no_byte(built: dict[str, Path], tmp_path: Path) -> None:
    checkout = tmp_path / "somewhere" / "quite" / "different"
    copied(reversed(tracked_files()), checkout, umask=0o077)
    for path in checkout.rglob("*"):
        os.utime(path, (0, 10**9))
    for litter in ("airflow_provider_eeops/__pycache__/x.pyc", ".venv/x.py", "docs/.cache/x.md", "build/lib/x.py"):
        (checkout / litter).parent.mkdir(parents=True, exist_ok=True)
        (checkout / litter).write_text("x")
    again = build(checkout, umask=0o077, seed="2")
    assert len(built) == 2
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in again.items()} == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in built.items()
    }


def test_nobody_needs_a_permission_to_read_what_is_installed(built: dict[str, Path]) -> None:
    for name, path in built.items():
        if name.endswith(".whl"):
            modes = {info.external_attr >> 16 & 0o777 for info in zipfile.ZipFile(path).infolist()}
        else:
            with tarfile.open(path) as archive:
                modes = {info.mode & 0o777 for info in archive.getmembers()}
        assert all(mode & 0o444 == 0o444 for mode in modes), (name, modes)


def test_the_source_archive_holds_what_its_tests_read(built: dict[str, Path]) -> None:
    with tarfile.open(next(path for name, path in built.items() if name.endswith(".tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("airflow_provider_eeops/", "docs/", "example_dags/", "tests/")
    kept = {str(path) for path in tracked_files() if str(path).startswith(folders)}
    assert kept | {"README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", "pyproject.toml"} <= held


def test_the_metadata_is_whole(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("airflow-provider-eeops", __version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= set(metadata.get_all("Classifier", []))


def test_the_long_description_is_the_readme_without_links_that_lead_nowhere(
    metadata: Message, built: dict[str, Path]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *built.values()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    text = str(metadata.get_payload())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.compile(r"^#+ .+$", re.MULTILINE)
    assert headings.findall(text) == headings.findall(readme)
    assert re.search(r"\]\(docs/", readme)
    assert [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith(("https://", "#"))] == []


def test_the_version_is_written_in_one_place() -> None:
    assignment = re.compile(rf"""version.*["']{re.escape(__version__)}["']""")
    files = [path for path in tracked_files() if path.suffix in {".py", ".toml", ".yaml", ".yml", ".cfg"}]
    written = [str(path) for path in files if assignment.search((ROOT / path).read_text(encoding="utf-8"))]
    assert [path for path in written if not path.startswith("tests/")] == ["airflow_provider_eeops/__init__.py"]


def test_the_registrys_file_names_every_class_that_airflow_is_told_of() -> None:
    registry = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())
    info = get_provider_info()
    assert (registry["package-name"], registry["display-name"]) == (info["package-name"], info["name"])
    assert registry["description"] == info["description"]
    named = {each["module"] for kind in ("operators", "other") for each in registry[kind]}
    assert all(each["description"] for kind in ("operators", "other") for each in registry[kind])
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert attribute in __import__(module, fromlist=["_"]).__all__
    modules = {
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for each in info[kind]
        for module in each["python-modules"]
    }
    assert modules | {name.rpartition(".")[0] for name in info["notifications"]} <= {
        name.rpartition(".")[0] for name in named
    }
