"""One harness under the fuzzer: ``python -m tests.fuzz.target HARNESS [libFuzzer's own arguments]``."""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["airflow_provider_eeops"]):
    from tests.fuzz.harnesses import HARNESSES

if __name__ == "__main__":
    logging.disable()
    harness = HARNESSES[sys.argv.pop(1)]
    atheris.Setup(sys.argv, harness)
    atheris.Fuzz()
