"""Airflow's secrets masker, wherever this Airflow keeps it."""

from __future__ import annotations

from typing import Any

try:
    from airflow.sdk.log import _secrets_masker, redact  # type: ignore[attr-defined]
except ImportError:  # Airflow 2
    from airflow.utils.log.secrets_masker import _secrets_masker, redact  # type: ignore[import-not-found,no-redef]

__all__ = ["forget_masked_secrets", "redact"]


def forget_masked_secrets() -> None:
    """Make the masker as new: it compiles all secrets of the process into one pattern."""
    masker: Any = _secrets_masker()
    masker.patterns = set()
    masker.replacer = None
