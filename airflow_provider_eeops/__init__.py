"""Apache Airflow provider for Google Earth Engine's long-running operations."""

__all__ = ["__version__"]

__version__ = "0.1.0"
