"""Where Airflow keeps task logs, as the scenario says: on the host, or in an S3 bucket of the emulator."""

import time

import boto3


def task_log(host, setting, path):
    """Return the log of an attempt: dag_id=.../run_id=.../task_id=.../attempt=1.log."""
    folder = setting("airflow_remote_base_log_folder")
    if not folder:
        return host.check_output("cat %s", f"{setting('airflow_log_dir')}/{path}")
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    client = boto3.client("s3", region_name="eu-central-1")
    end = time.monotonic() + 30
    while True:
        # Airflow uploads a log after it has said how the task ended.
        try:
            return client.get_object(Bucket=bucket, Key=f"{prefix}/{path}")["Body"].read().decode()
        except client.exceptions.NoSuchKey:
            assert time.monotonic() < end, f"no {path} in {folder} after 30 s"
            time.sleep(0.5)
