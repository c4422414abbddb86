"""Airflow's secrets masker, wherever this Airflow keeps it."""

from __future__ import annotations

import importlib
from typing import Any

from airflow.providers.common.compat.sdk import redact

__all__ = ["forget_masked_secrets", "redact"]


def forget_masked_secrets() -> None:
    """Make the masker as new: it compiles all secrets of the process into one pattern."""
    masker: Any = importlib.import_module(redact.__module__)._secrets_masker()
    masker.patterns = set()
    masker.replacer = None
