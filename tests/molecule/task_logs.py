"""Where Airflow keeps task logs, as the scenario says: on the host, or in AWS as the emulator has it."""

import time

import boto3


def once_it_is_there(client, ask):
    """Airflow uploads a log after it has said how the task ended."""
    end = time.monotonic() + 30
    while True:
        try:
            return ask()
        except client.exceptions.ClientError as error:
            assert time.monotonic() < end, f"no log after 30 s: {error}"
            time.sleep(0.5)


def task_log(host, setting, path):
    """Return the log of an attempt: dag_id=.../run_id=.../task_id=.../attempt=1.log."""
    folder = setting("airflow_remote_base_log_folder")
    if not folder:
        return host.check_output("cat %s", f"{setting('airflow_log_dir')}/{path}")
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    client = boto3.client("s3", region_name="eu-central-1")
    return once_it_is_there(client,
                            lambda: client.get_object(Bucket=bucket, Key=f"{prefix}/{path}")["Body"].read().decode())


def cloudwatch_log(group, stream):
    """Return the messages of a stream, a line each."""
    client = boto3.client("logs", region_name="eu-central-1")
    events = once_it_is_there(client, lambda: client.get_log_events(logGroupName=group, logStreamName=stream)["events"])
    return "\n".join(event["message"] for event in events)
