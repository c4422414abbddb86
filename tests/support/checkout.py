"""The files of this checkout, as git has them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ROOT", "copied", "tracked_files"]

ROOT = Path(__file__).parents[2]


def tracked_files() -> list[Path]:
    """Paths, below the root, of what is committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(path for name in set(listed.split("\0")) if name and (ROOT / (path := Path(name))).is_file())


def copied(paths: Iterable[Path], folder: Path, *, umask: int) -> None:
    """Copy files as a checkout with this umask would have them.

    :param paths: below the root.
    :param folder: where to.
    :param umask: which permissions not to give.
    """
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
        target.chmod((0o777 if (ROOT / path).stat().st_mode & 0o100 else 0o666) & ~umask)
