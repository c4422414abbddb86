"""Bytes -> text, JSON and values, the same with and without the fuzzer, so that what it found can be replayed."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["WORDS", "Input"]

WORDS = (
    *("projects/one/operations/A", "projects/", "/operations/", "A", "one", "..", "%2f", "\0", "\ud800", "{{ ds }}"),
    *(
        "name",
        "id",
        "operations",
        "state",
        "outcome",
        "error",
        "metadata",
        "done",
        "code",
        "message",
        "status",
        "details",
    ),
    *("RUNNING", "SUCCEEDED", "CANCELLED", "FAILED", "UNSUBMITTED", "NOT_FOUND", "FAILED_PRECONDITION", "progress"),
    *(
        "createTime",
        "2026-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999-23:59",
        "attempt",
        "destinationUris",
        "description",
    ),
    *(
        "nextPageToken",
        "keyfile_dict",
        "credential_config_file",
        "proxies",
        "https",
        "http://u:p@h:1",
        "base_url",
        "scope",
    ),
    *("project", "num_retries", "is_anonymous", "requests_per_second", "allowed_projects", "api_version", "key_path"),
    *("impersonation_chain", "read_timeout", "http://127.0.0.1", "extra__google_cloud_platform__", "[", "{", "'", '"'),
)
"""Words that mean something to the code, in the form and the order that seeds count on: add at the end."""

_DEEPEST = 6


class Input:
    """Takes the bytes from front to back; past their end come zeros.

    :param data: the bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def rest(self) -> bytes:
        """All that is left."""
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    def text(self) -> str:
        """All that is left, as text that may hold halves of surrogate pairs."""
        return self.rest().decode("utf-8", "surrogateescape")

    def json(self) -> Any:
        """All that is left, as JSON; as it is if it is none."""
        text = self.text()
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text

    def value(self, *, levels: int = _DEEPEST) -> Any:
        """A JSON value of the words that mean something."""
        kind = self.byte() % 10
        if kind < 4 or levels == 0:
            return self.word()
        if kind < 6:
            return (None, True, False, 0, 1, 2**31, 10**400, 0.5, float("nan"), float("inf"))[self.byte() % 10]
        size = self.byte() % 5
        if kind < 8:
            return [self.value(levels=levels - 1) for _ in range(size)]
        return {self.word(): self.value(levels=levels - 1) for _ in range(size)}

    def word(self) -> str:
        """A word, or two in one."""
        chosen = self.byte()
        word = WORDS[chosen % len(WORDS)]
        return word + WORDS[self.byte() % len(WORDS)] if chosen >= 128 else word
