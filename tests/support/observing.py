"""An observer that keeps what it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_provider_eeops.api.observing import METRICS, SPANS, Metric, Span, SpanKind

__all__ = ["Recorder"]


class Recorder:
    """Keeps all it is told, and checks that it is what was defined."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, dict[str, str]]] = []
        self.spans: list[Span] = []

    def count(self, metric: Metric, number: int = 1, /, **tags: str) -> None:
        assert metric.kind == "counter"
        self._take(metric, number, tags)

    def time(self, metric: Metric, seconds: float, /, **tags: str) -> None:
        assert metric.kind == "timing"
        self._take(metric, round(seconds, 3), tags)  # of the clock, which has begun in 1970

    def span(self, kind: SpanKind, names: Sequence[str], *, now: Callable[[], float]) -> Span:
        assert kind in SPANS
        return Span(kind, names, now=now, then=self.spans.append)

    def of(self, metric: Metric) -> list[tuple[float, dict[str, str]]]:
        """What was told of one metric: the value and the tags."""
        return [(value, tags) for name, value, tags in self.told if name == metric.name]

    def _take(self, metric: Metric, value: float, tags: dict[str, str]) -> None:
        assert metric in METRICS
        assert tuple(sorted(tags)) == metric.tags
        self.told.append((metric.name, value, tags))
