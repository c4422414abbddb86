from __future__ import annotations

from airflow_provider_eeops.api.progress import Progress


def test_it_speaks_every_ten_seconds_and_not_of_the_end() -> None:
    progress = Progress(3000, now=100.0)
    said = {second: progress.count(now=100.0 + second / 100) for second in range(1, 3001)}
    assert {second: text for second, text in said.items() if text} == {
        1000: "1000 of 3000, 100.0 a second, about 20 s left",
        2000: "2000 of 3000, 100.0 a second, about 10 s left",
    }
