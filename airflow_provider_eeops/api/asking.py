"""How google-auth asks servers: it logs nothing of what is sent, and cannot be copied to ask behind our back.

Loaded on first use, as :mod:`.transport` is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import google.auth.transport

__all__ = ["Answer", "Asking"]


@dataclass(frozen=True)
class Answer:
    """What google-auth reads of an answer.

    :param status: the HTTP status.
    :param headers: its headers.
    :param data: its body.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


class Asking(google.auth.transport.Request):
    """Asks a server. That of google-auth logs the whole request at DEBUG, with what a token is given for.

    :param ask: makes the request.
    """

    def __init__(self, ask: Callable[..., Answer]) -> None:
        self._ask = ask

    def __call__(self, *args: Any, **kwargs: Any) -> Answer:
        """Ask, as google-auth has it."""
        return self._ask(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        """Refuse."""
        # google-auth 2.50 and later would copy it to take the token to iamcredentials.googleapis.com behind our back,
        # past the proxies and the loopback; it does without if it cannot.
        raise TypeError("it is not to be copied")
