"""What a DAG file's imports cost: a fresh process each time, in turns, the best of them."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.cancelling import Scale
from tests.benchmarks.installing import GOOGLE, Environment
from tests.benchmarks.measuring import ROOT, progress, run
from tests.benchmarks.results import Part, Row, Target, at_most

__all__ = ["imports"]

_ROUNDS = 10

# Read before and after: what a process needs for Airflow itself is no provider's.
_CODE = """
import importlib, json, sys, time
import psutil
rss = lambda: psutil.Process().memory_info().rss / 1024 / 1024
began = time.perf_counter()
import airflow.sdk
import airflow.providers.common.compat.sdk as compat
for name in ("BaseOperator", "BaseHook", "BaseSensorOperator", "BaseNotifier"):
    getattr(airflow.sdk, name), getattr(compat, name)
base, before, memory = time.perf_counter() - began, set(sys.modules), rss()
began = time.perf_counter()
importlib.import_module("airflow.triggers.base")
triggers = time.perf_counter() - began
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
more = time.perf_counter() - began
print(json.dumps({"base": base * 1000, "triggers": triggers * 1000, "ms": more * 1000, "mib": rss() - memory,
                  "loaded": sorted(set(sys.modules) - before)}))
"""

_OURS = [f"airflow_provider_eeops.{each}.operations" for each in ("operators", "sensors", "triggers", "notifications")]
_GOOGLES = ["airflow.providers.google.cloud.operators.cloud_storage_transfer_service"]
_HEAVY = ("google.auth", "requests")


def imports(scale: Scale) -> Part:
    """Measure ours after Airflow's base classes, and Google's if asked to."""
    ours = _best(sys.executable, _OURS, scale)
    heavy = sorted(name for name in _HEAVY if name in ours["loaded"])
    rows = [
        Row(("`airflow.sdk` and common-compat, the base", f"{ours['base']:.0f}", "")),
        Row(("+ our operators, sensors, triggers, notifier: ms", *_cells(ours)), at_most(ours["ms"], 20, " ms")),
        Row(("the same: MiB", *_cells(ours)), at_most(ours["mib"], 1, " MiB")),
        Row(("of these, Airflow's own `airflow.triggers.base`", f"+{ours['triggers']:.1f}", "")),
        Row(
            ("of `google.auth` and `requests` loaded by them", ", ".join(heavy) or "none", ""),
            Target("none", not heavy),
        ),
    ]
    if scale.with_google:
        environment = Environment(ROOT / ".cache" / "benchmarks-google")
        environment.install_airflow()
        environment.install("psutil", GOOGLE)
        google = _best(str(environment.python), _GOOGLES, scale)
        rows.append(Row(("+ Google provider's Storage Transfer cancel operator", *_cells(google))))
    else:
        rows.append(Row(("+ Google provider's Storage Transfer cancel operator (measured earlier)", "+1280", "+44")))
    return Part(
        "imports",
        "Import at DAG parse",
        ("what", "ms", "MiB"),
        tuple(rows),
        (
            f"""The best of {_ROUNDS} fresh processes, bytecode cached. Each imports Airflow's base classes first; time
            and resident memory are what comes on top. Google's operator was measured once on a machine of the same
            kind with apache-airflow-providers-google 22.8.0 on Airflow 3.3.2; `--with-google` measures it anew.""",
        ),
    )


def _cells(figures: dict[str, Any]) -> tuple[str, str]:
    return f"+{figures['ms']:.1f}", f"+{figures['mib']:.2f}"


def _best(python: str, modules: list[str], scale: Scale) -> dict[str, Any]:
    """The least of each figure; what is loaded is the same in all."""
    env = {"AIRFLOW_HOME": tempfile.mkdtemp(dir=scale.folder)}
    command = [python, "-c", _CODE, json.dumps(modules)]
    found = []
    for _ in range(1 + max(2, _ROUNDS if scale.rounds > 1 else 2)):
        printed = run(command, seconds=120, env=env)
        found.append(json.loads(printed.splitlines()[-1]))
    del found[0]  # it wrote the bytecode
    best = {key: min(each[key] for each in found) for key in ("base", "triggers", "ms", "mib")}
    progress(f"imports: {Path(modules[0]).suffix}: {best['ms']:.1f} ms, {best['mib']:.2f} MiB")
    return {**best, "loaded": found[0]["loaded"]}
