"""The name under which a part of Airflow is known, as if each were a machine of its own."""

from __future__ import annotations

import os

__all__ = ["HOST", "name"]

HOST = "EEOPS_DISTRIBUTED_HOST"
"""Environment variable with the name."""


def name() -> str:
    """Return it; ``[core] hostname_callable`` names this function."""
    return os.environ.get(HOST, "localhost")
