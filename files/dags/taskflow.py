"""### TaskFlow

Extract, transform, load as three plain functions. What one returns is handed to the next by Airflow (XCom),
and the calls in the last line are the dependencies.
"""

import json
from datetime import datetime

try:  # Airflow 3
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(
    dag_id="tutorial_taskflow",
    description="Extract, transform, load with the TaskFlow API",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    tags=["example"],
    default_args={"owner": "airflow"},
)
def tutorial_taskflow():
    """Sum up the orders of a day."""

    @task
    def extract():
        """Read the orders; here from a string, so that the example needs no other system."""
        return json.loads('{"1001": 301.27, "1002": 433.21, "1003": 502.22}')

    @task(multiple_outputs=True)
    def transform(orders):
        """With multiple_outputs each key of the result can be passed on by itself."""
        return {"order_count": len(orders), "total_value": round(sum(orders.values()), 2)}

    @task
    def load(order_count, total_value):
        """Deliver the result; here into the task's log."""
        print(f"{order_count} orders are worth {total_value:.2f}")

    summary = transform(extract())
    load(summary["order_count"], summary["total_value"])


tutorial_taskflow()
