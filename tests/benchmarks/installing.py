"""What an installation on top of Airflow brings: packages and MiB."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.benchmarks.cancelling import Scale
from tests.benchmarks.measuring import MIB, ROOT, progress, run
from tests.benchmarks.results import Part, Row, at_most

__all__ = ["GOOGLE", "Environment", "install"]

GOOGLE = "apache-airflow-providers-google[amazon]==22.8.0"
"""Its Storage Transfer operators cannot be imported without the extra."""

_OURS = "airflow-provider-eeops"
_CONSTRAINTS = ROOT / ".ci" / "constraints.txt"


class Environment:
    """A virtual environment, made anew.

    :param folder: its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self._uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))

    def install_airflow(self) -> None:
        """Install Airflow as it is pinned here."""
        self.install("apache-airflow", "--constraint", str(_CONSTRAINTS))

    def install(self, *what: str) -> None:
        """Install packages."""
        self._uv("pip", "install", "--quiet", "--python", str(self.python), *what)

    def packages(self) -> set[str]:
        """Names of the packages that are installed."""
        listed = json.loads(self._uv("pip", "list", "--quiet", "--format", "json", "--python", str(self.python)))
        return {each["name"] for each in listed}

    def size(self) -> float:
        """MiB of the files."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*") if not path.is_dir()) / MIB

    def _uv(self, *arguments: str) -> str:
        return run([str(Path(sys.executable).with_name("uv")), *arguments], seconds=1200)


def install(scale: Scale) -> Part:
    """Install Airflow, then ours from a wheel of this checkout; Google's provider too if asked to."""
    environment = Environment(scale.folder / "install")
    environment.install_airflow()
    packages, size = environment.packages(), environment.size()
    progress(f"install: Airflow: {len(packages)} packages, {size:.0f} MiB")
    wheels = scale.folder / "wheel"
    run(
        [str(Path(sys.executable).with_name("uv")), "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(ROOT)],
        seconds=300,
    )
    (wheel,) = wheels.glob("*.whl")
    environment.install(str(wheel), "--constraint", str(_CONSTRAINTS))
    brought = environment.packages() - packages
    more = environment.size() - size
    others = sorted(brought - {_OURS})
    rows = [
        Row(("Airflow, pinned", f"{len(packages)}", f"{size:.0f}")),
        Row(
            (f"+ ours: itself and {', '.join(others)}", f"+1 +{len(others)}", ""),
            at_most(len(others), 3, " besides itself"),
        ),
        Row(("the same: MiB", "", f"+{more:.2f}"), at_most(more, 3, " MiB")),
    ]
    if scale.with_google:
        environment.install(GOOGLE)
        after = environment.packages() - packages - brought
        rows.append(Row(("+ Google provider", f"+{len(after)}", f"+{environment.size() - size - more:.0f}")))
    else:
        rows.append(Row(("+ Google provider (measured earlier)", "+1 +132", "+1228")))
    return Part(
        "install",
        "Install on top of Airflow",
        ("what", "packages", "MiB"),
        tuple(rows),
        (
            """A virtual environment with Airflow and the pins of `.ci/constraints.txt`; then a wheel of this checkout.
            MiB are the sizes of the files, without bytecode. Google's provider (apache-airflow-providers-google
            22.8.0, without its extras) was measured once; `--with-google` measures it anew, with the extra that its
            Storage Transfer operators need.""",
        ),
    )
