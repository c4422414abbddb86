"""A local Earth Engine operations server, for demos and tests.

It needs the extra `emulator`. Started from a shell: `python -m airflow_provider_eeops.emulator --help`.
"""

try:
    from airflow_provider_eeops.emulator.faults import Fault
    from airflow_provider_eeops.emulator.requests_log import RequestRecord
    from airflow_provider_eeops.emulator.server import EmulatorServer
    from airflow_provider_eeops.emulator.service import Emulator
except ModuleNotFoundError as error:
    if error.name not in {"aiohttp", "cryptography"}:
        raise
    raise ModuleNotFoundError(
        f"the emulator needs {error.name}: pip install 'airflow-provider-eeops[emulator]'", name=error.name
    ) from None

__all__ = ["Emulator", "EmulatorServer", "Fault", "RequestRecord"]
