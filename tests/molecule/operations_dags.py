"""DAGs that fail, hang and are late, for test_operations.py. Put beside the host's own DAGs for the length of the
tests; both majors read it.
"""

import time
from datetime import datetime, timedelta

try:
    from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task

    DeadlineAlert = None


def dag(name, **more):
    return DAG(name, schedule=None, start_date=datetime(2026, 1, 1), tags=["operations"], **more)


@task
def fail(number):
    print("before the failure")
    raise RuntimeError(f"on purpose, {number}")


@task
def hang(ti=None):
    # Its first try is never heard of again.
    time.sleep(600 if ti.try_number == 1 else 0)


@task
def sleep(seconds):
    time.sleep(seconds)


with dag("operations_fail"):
    for number in range(4):
        fail.override(task_id=f"fail_{number}", retries=0)(number)

with dag("operations_retry"):
    fail.override(retries=1, retry_delay=timedelta(minutes=30))(0)

with dag("operations_hang"):
    hang.override(retries=0)()

with dag("operations_well"):
    sleep(0)

if DeadlineAlert:
    from airflow_alerts import deadline_missed

    late = DeadlineAlert(reference=DeadlineReference.DAGRUN_QUEUED_AT,
                         interval=timedelta(seconds=1),
                         callback=AsyncCallback(deadline_missed))
    with dag("operations_late", deadline=late):
        sleep(8)
