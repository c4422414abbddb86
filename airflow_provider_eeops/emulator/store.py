"""Where the operations are kept: by name, and by project in the order of creation."""

import base64
import binascii
import bisect
import secrets
import string
from collections.abc import Iterable, Iterator, Sequence

from airflow_provider_eeops.emulator.errors import ApiError
from airflow_provider_eeops.emulator.operations import Operation

__all__ = ["OperationStore", "new_operation_id"]

_ID_ALPHABET = string.ascii_uppercase + string.digits
_ID_LENGTH = 24


def new_operation_id() -> str:
    """Operation id of the form that Earth Engine makes."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


class OperationStore:
    """Operations of some projects; look-ups take the same time however many there are."""

    def __init__(self, projects: Iterable[str]) -> None:
        self._in_project: dict[str, list[Operation]] = {project: [] for project in projects}
        self._by_name: dict[str, Operation] = {}

    @property
    def projects(self) -> tuple[str, ...]:
        """Projects in the order they were given."""
        return tuple(self._in_project)

    def add(self, operation: Operation) -> None:
        """Keep an operation, the newest of its project."""
        if operation.name in self._by_name:
            raise ValueError(f"operation exists: {operation.name}")
        self._by_name[operation.name] = operation
        self._in_project[operation.project].append(operation)

    def remove(self, name: str) -> None:
        """Forget an operation."""
        operation = self._by_name.pop(name)
        siblings = self._in_project[operation.project]
        del siblings[bisect.bisect_left(siblings, operation.sequence, key=_sequence)]

    def clear(self) -> None:
        """Forget all operations."""
        self._by_name.clear()
        for siblings in self._in_project.values():
            siblings.clear()

    def get(self, name: str) -> Operation | None:
        """Operation of that name, if there is one."""
        return self._by_name.get(name)

    def newest_first(self, project: str) -> Iterator[Operation]:
        """All operations of a project."""
        return reversed(self._in_project[project])

    def count(self, project: str) -> int:
        """How many operations a project has."""
        return len(self._in_project[project])

    def page(self, project: str, size: int, token: str) -> tuple[Sequence[Operation], str | None]:
        """One page of a project's operations, newest first, and the token of the next page if there is one.

        :param token: token of this page; empty for the first
        :raises ApiError: if the token is not one that was given out for this project
        """
        operations = self._in_project[project]
        end = len(operations)
        if token:
            end = bisect.bisect_left(operations, _decode_token(token, project), key=_sequence)
        start = max(0, end - size)
        page = operations[start:end][::-1]
        return page, _encode_token(page[-1].sequence, project) if start else None


def _sequence(operation: Operation) -> int:
    return operation.sequence


# A token holds where the page before it ended, so operations added meanwhile do not shift the pages.
def _encode_token(sequence: int, project: str) -> str:
    return base64.urlsafe_b64encode(f"{sequence}:{project}".encode()).decode()


def _decode_token(token: str, project: str) -> int:
    try:
        sequence, _, owner = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(":")
        if owner == project:
            return int(sequence)
    except (binascii.Error, ValueError):
        pass
    raise ApiError(400, f"Invalid page token: {token!r}.")
