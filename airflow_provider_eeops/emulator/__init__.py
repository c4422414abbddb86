"""A local Earth Engine operations server, for demos and tests.

It needs the extra `emulator`. Started from a shell: `python -m airflow_provider_eeops.emulator --help`.
"""

from airflow_provider_eeops.emulator.faults import Fault
from airflow_provider_eeops.emulator.requests_log import RequestRecord
from airflow_provider_eeops.emulator.server import EmulatorServer
from airflow_provider_eeops.emulator.service import Emulator

__all__ = ["Emulator", "EmulatorServer", "Fault", "RequestRecord"]
