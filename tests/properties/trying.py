"""How many examples a test tries."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["fewer"]


def fewer(*, one_in: int, steps: int | None = None, shared: bool = False) -> settings:
    """Settings with a share of the profile's examples, for what takes longer than the others.

    :param one_in: the share.
    :param steps: rules that a stateful test runs, at most.
    :param shared: whether all examples share a fixture, which is right if it remembers nothing.
    """
    parent = settings.default or settings()
    checks = [*parent.suppress_health_check, *([HealthCheck.function_scoped_fixture] if shared else [])]
    return settings(
        parent,
        max_examples=max(parent.max_examples // one_in, 5),
        stateful_step_count=steps or parent.stateful_step_count,
        suppress_health_check=checks,
    )
