"""The command line: ``airflow earthengine`` from Airflow 3.2 on, ``python -m airflow_provider_eeops`` everywhere."""
