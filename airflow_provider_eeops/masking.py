"""Tells Airflow's secrets masker what no log may show."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import NoReturn

from airflow_provider_eeops.api.secrecy import ConcealedText, forget_passage

__all__ = ["Masking", "mask"]

_MOST_KEPT = 100


def mask(secrets: Iterable[str]) -> None:
    """Have Airflow take these out of all logs.

    In a task of Airflow 3 its supervisor does that, so this asks it: only where a connection could be asked for too.

    :param secrets: the secrets.
    """
    from airflow.providers.common.compat.sdk import mask_secret

    known = [ConcealedText(secret) for secret in secrets]
    if known:
        try:
            mask_secret(list(map(str, known)))  # all in one message
        except BaseException as error:
            forget_passage(error)
            raise


class Masking:
    """Has masked, by the thread that made it, what all threads learn.

    A task of Airflow 3 has one line to its supervisor, and before 3.2 no lock on it: other threads must not use it,
    and one that a kill needs must not wait for it. What they learn is kept until the thread that made this comes by.
    """

    def __init__(self) -> None:
        self._thread = threading.current_thread()
        self._process = os.getpid()
        self._kept: deque[str] = deque(maxlen=_MOST_KEPT)

    def __reduce__(self) -> NoReturn:
        raise TypeError("it holds secrets, and is not to be stored")

    def learn(self, secret: str) -> None:
        """Have it masked, now or when the thread that may do so comes by.

        :param secret: the secret.
        """
        if os.getpid() == self._process:  # a forked one has no line to the supervisor: it shares its parent's
            self._kept.append(ConcealedText(secret))
            self.come_by()

    def come_by(self) -> None:
        """Have masked what was kept, if this is the thread that may do so."""
        if threading.current_thread() is not self._thread or os.getpid() != self._process:
            return
        told: list[str] = []
        while self._kept:
            told.append(self._kept.popleft())
        mask(told)
