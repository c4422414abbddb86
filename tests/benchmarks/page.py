"""The page of the benchmarks, and its plots."""

from __future__ import annotations

import datetime as dt
import os
import platform
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.results import Curve, Part, markdown, missed

__all__ = ["write"]

_VERSIONS = ("apache-airflow", "airflow-provider-eeops", "earthengine-api", "google-auth", "requests")


def write(parts: Sequence[Part], folder: Path, *, arguments: Sequence[str]) -> None:
    """Write ``benchmarks.md`` and a plot for each part that has curves.

    :param parts: what was measured.
    :param folder: where to.
    :param arguments: what the command was given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections = [_head(parts, arguments)]
    for part in parts:
        section = [f"## {part.title}", markdown(part), *part.notes]
        if part.curves:
            plot = folder / f"benchmarks-{part.name}.svg"
            _plot(part, plot)
            section.append(f"![{part.title}]({plot.name})")
        sections.append("\n\n".join(_wrapped(paragraph) for paragraph in section))
    (folder / "benchmarks.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _head(parts: Sequence[Part], arguments: Sequence[str]) -> str:
    given = " ".join(arguments)
    versions = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    lines = missed(parts)
    verdict = "Every figure below was reached." if not lines else f"Figures that were not reached: {len(lines)}."
    return "\n\n".join(
        _wrapped(paragraph)
        for paragraph in (
            "# Benchmarks",
            """`make benchmark` measured this and wrote this page, all against the [emulator](emulator.md) on the same
            machine, in a process of its own: nothing here was measured against Earth Engine.""",
            f"""{dt.datetime.now(dt.UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()},
            {versions}. Command: `python -m tests.benchmarks{" " + given if given else ""}`.""",
            verdict,
        )
    )


def _wrapped(paragraph: str) -> str:
    """Lines of at most 120 characters; tables, headings and images as they are."""
    if paragraph.startswith(("|", "#", "!")):
        return paragraph
    return textwrap.fill(" ".join(paragraph.split()), width=120, break_long_words=False, break_on_hyphens=False)


def _plot(part: Part, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = part.name  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"  # text as text
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(part.curves), figsize=(4 * len(part.curves), 3.6), squeeze=False)
    for axis, (label, curves) in zip(axes[0], part.curves.items(), strict=True):
        _draw(axis, label, curves)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw(axis: Any, label: str, curves: Sequence[Curve]) -> None:
    for curve in curves:
        axis.plot(*zip(*curve.points, strict=True), marker="o", label=curve.label)
    xs = [x for curve in curves for x, _ in curve.points]
    if curves[0].points[-1][1] > 0:
        last_x, last_y = curves[0].points[-1]
        axis.plot([min(xs), last_x], [last_y * min(xs) / last_x, last_y], color="gray", linestyle=":", label="linear")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("operations")
    axis.set_ylabel(label)
    axis.grid(visible=True, which="both", alpha=0.2)
    axis.legend()
