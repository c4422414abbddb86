from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.emulation import Served


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Served.start(**settings))


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve(pending_seconds=10, run_seconds=100, cancel_seconds=5)
