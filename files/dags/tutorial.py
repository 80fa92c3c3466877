"""### Templates and dependencies

Three Bash tasks. The first runs alone; the other two follow it side by side.

* `print_date` says when it ran.
* `sleep` shows a retry policy of its own.
* `templated` has its command written by Jinja: a loop, a parameter of the DAG, the run's id and a macro.
"""

from datetime import datetime, timedelta
from textwrap import dedent

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

with DAG(
    dag_id="tutorial",
    description="Templated Bash tasks and their dependencies",
    doc_md=__doc__,
    schedule=timedelta(days=1),
    start_date=datetime(2024, 1, 1),
    # Days that passed before the DAG was switched on are not made up for.
    catchup=False,
    tags=["example"],
    params={"greeting": "Good morning"},
    # Every task gets these; a task may set its own, as `sleep` does.
    default_args={"owner": "airflow", "retries": 1, "retry_delay": timedelta(minutes=5)},
) as dag:
    print_date = BashOperator(
        task_id="print_date",
        bash_command="date --iso-8601=seconds",
        doc_md="Shown in the UI under *Task details*: what a task is for belongs beside its code.",
    )

    sleep = BashOperator(
        task_id="sleep",
        bash_command="sleep 2",
        retries=3,
    )

    templated = BashOperator(
        task_id="templated",
        # The run's id and not its date: a run that was triggered by hand may have no date in Airflow 3.
        bash_command=dedent(
            """
            echo "{{ params.greeting }} from {{ run_id }}"
            {% for days in range(3) %}
            echo "2024-01-01 and {{ days }} days is {{ macros.ds_add('2024-01-01', days) }}"
            {% endfor %}
            """
        ),
    )

    print_date >> [sleep, templated]
