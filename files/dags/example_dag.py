"""A first DAG: one task in Python, one in Bash. It proves that an installation runs tasks at all."""

import platform
from datetime import datetime, timedelta

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator
    from airflow.operators.python import PythonOperator


def print_hello(name):
    """Greet from the worker's Python; what is returned becomes the task's XCom."""
    greeting = f"Hello {name} from Python {platform.python_version()} on {platform.node()}"
    print(greeting)
    return greeting


with DAG(
    dag_id="example_dag",
    description="One Python task and one Bash task",
    doc_md=__doc__,
    # No schedule: it runs when someone triggers it.
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    tags=["example"],
    default_args={"owner": "airflow", "retries": 1, "retry_delay": timedelta(seconds=30)},
) as dag:
    hello = PythonOperator(
        task_id="print_hello",
        python_callable=print_hello,
        op_kwargs={"name": "Airflow"},
    )

    show_host = BashOperator(
        task_id="show_host",
        bash_command="uname -srm && uptime",
    )

    hello >> show_host
