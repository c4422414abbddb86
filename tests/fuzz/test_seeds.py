from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz import seeds
from tests.fuzz.harnesses import HARNESSES


@pytest.mark.parametrize("harness", HARNESSES)
def test_what_the_fuzzer_found_is_met_as_it_should_be(harness: str) -> None:
    inputs = [seed.data for seed in seeds.read() if seed.harness == harness]
    assert inputs
    for data in (b"", *inputs):
        try:
            HARNESSES[harness](data)
        except Exception as error:
            error.add_note(f"{harness}: {data!r}")
            raise


def test_seeds_are_few_and_small() -> None:
    kept = seeds.read()
    assert all(len(seed.data) <= 512 for seed in kept)
    assert max(Counter(seed.harness for seed in kept).values()) <= 50
