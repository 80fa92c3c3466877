"""A backup as a site may want it: at another time, in another place and in S3, and for somebody whose key only that
somebody has.
"""

import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile

import boto3
import pytest
from playbook import play
from test_alternative import ask_database

TIMER = "/etc/systemd/system/airflow-backup.timer"
LAST = "/var/lib/airflow-backup/last_success.json"


@pytest.fixture(scope="module")
def backup(host, setting):
    """(the file's name, its content in S3, what S3 says of it)."""
    host.check_output("systemctl start airflow-backup.service")
    name = pathlib.Path(json.loads(host.file(LAST).content_string)["file"]).name
    store = boto3.client("s3", region_name=setting("airflow_backup_s3_region"))
    found = store.get_object(Bucket=setting("airflow_backup_s3_bucket"), Key=setting("airflow_backup_s3_prefix") + name)
    return name, found.pop("Body").read(), found


def test_it_is_in_its_directory_and_in_s3_encrypted_there(host, setting, backup):
    name, content, said = backup
    assert host.file(f"{setting('airflow_backup_dir')}/{name}").sha256sum == hashlib.sha256(content).hexdigest()
    assert (said["ServerSideEncryption"], said["SSEKMSKeyId"]) == ("aws:kms", setting("airflow_backup_s3_kms_key_id"))


def test_who_was_named_can_open_the_keys_in_it(setting, backup):
    with tarfile.open(fileobj=io.BytesIO(backup[1])) as tar:
        sealed = tar.extractfile("configuration.gpg").read()
    home = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "gnupg")
    environment = {**os.environ, "GNUPGHOME": str(home)}
    try:
        opened = subprocess.run(["gpg", "--batch", "--quiet", "--decrypt"],
                                input=sealed,
                                env=environment,
                                check=True,
                                capture_output=True).stdout
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)
    assert json.loads(opened)["secrets/api_secret_key"] == setting("airflow_api_secret_key")
    # Nobody else was: no pair was made for a site that has one.
    assert not pathlib.Path(setting("airflow_secrets_copy_dir")).exists()


def test_it_is_made_and_the_database_cleaned_when_it_was_said(host, setting):
    for timer, schedule in (
        ("airflow-backup", "airflow_backup_schedule"),
        ("airflow-clean-database", "airflow_clean_database_schedule"),
    ):
        assert f"OnCalendar={setting(schedule)} ;" in host.check_output(
            "systemctl show --property TimersCalendar --value %s.timer", timer)


def test_a_time_that_systemd_does_not_know_is_refused_before_the_timer_is_replaced(host):
    before = host.file(TIMER).sha256sum
    done = play("backup", airflow_backup_schedule="soon")
    assert (
        done.failed and f"{TIMER} was left as it is" in done.text
        and "Failed to parse calendar specification, ignoring: soon" in done.text
    )
    assert host.file(TIMER).sha256sum == before


def test_what_is_older_than_it_was_said_goes_without_a_file(host, setting):
    days = setting("airflow_clean_database_keep_days")
    kept, old = (
        f"INSERT INTO log (dttm, event) SELECT now() - interval '{age} days', 'flow-{age}' FROM generate_series(1, 10)"
        for age in (days - 1, days + 1))
    count = "SELECT event, count(*) FROM log WHERE event LIKE 'flow-%' GROUP BY 1 ORDER BY 1"
    assert ask_database(host, setting, kept, old, count) == [[f"flow-{days - 1}", 10], [f"flow-{days + 1}", 10]]
    host.check_output("systemctl start airflow-clean-database.service")
    assert ask_database(host, setting, count) == [[f"flow-{days - 1}", 10]]
    assert not host.run("ls -A /var/lib/airflow-archive").stdout
