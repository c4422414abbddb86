from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A slow machine is no finding. `make test` tries the same few examples each time and leaves no files behind;
# HYPOTHESIS_PROFILE=thorough, with --timeout=0, searches at random and for long.
_COMMON = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("fast", _COMMON, max_examples=60, derandomize=True)
settings.register_profile("thorough", _COMMON, max_examples=1500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
