"""Earth Engine operations without Airflow: nothing in here imports airflow."""
