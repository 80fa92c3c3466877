"""Modules backup and clean_database: what they decide, what they write, and what they refuse to read."""

import contextlib
import datetime
import gzip
import hashlib
import importlib.util
import io
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import types

import pytest
from airflow_runtime import backup, clean_database

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / "roles/airflow_runtime/files/run.py"
NOW = datetime.datetime(2026, 3, 31, 2, 0, tzinfo=datetime.timezone.utc)


def name(days):
    return f"airflow-{NOW - datetime.timedelta(days=days):%Y%m%dT%H%M%SZ}.tar"


@pytest.mark.parametrize(("ages", "keep_days", "keep_at_least", "gone"), [
    ([0, 1, 13, 14, 15, 40], 14, 3, [15, 40]),
    ([20, 21, 22, 23], 14, 3, [23]),
    ([20, 21], 14, 3, []),
    ([0, 1, 2], 1, 1, [2]),
    ([], 14, 3, []),
])
def test_what_is_too_old_goes_but_never_the_last_ones(ages, keep_days, keep_at_least, gone):
    others = ["airflow-.tar", "notes.txt", f"{name(400)}.sha256", f"{name(400)}.new", "airflow-20260101T000000Z.tar.gz"]
    assert backup.surplus([name(age) for age in ages] + others, NOW, keep_days,
                          keep_at_least) == sorted(name(age) for age in gone)


@pytest.fixture
def made(tmp_path):
    """A backup with two members and its checksum."""
    path = tmp_path / name(0)
    with open(path, "w+b") as file:
        archive = backup.Archive(file)
        archive.add("database.dump", [b"x" * 700, b"y" * 100_000])
        archive.add("empty", [])
        archive.add("manifest.json",
                    [json.dumps({"airflow_version": "3.3.2", "files": dict(archive.members)}).encode()])
        archive.close()
    path.with_name(f"{path.name}.sha256").write_text(f"{backup.checksum(path)}  {path.name}\n", encoding="utf-8")
    return path


def test_tar_reads_what_was_written_as_it_came(made):
    listed = subprocess.run(["tar", "-tvf", made], capture_output=True, text=True, check=True).stdout
    assert "-rw-------" in listed and "100700" in listed
    content = subprocess.run(["tar", "-xOf", made, "database.dump"], capture_output=True, check=True).stdout
    assert content == b"x" * 700 + b"y" * 100_000
    assert backup.inspect(made)["files"]["database.dump"] == {
        "bytes": 100_700, "sha256": hashlib.sha256(content).hexdigest()
    }


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("place", ["member", "header", "end"])
def test_a_damaged_backup_is_refused_with_and_without_its_checksum(made, beside, place):
    content = bytearray(made.read_bytes())
    if place == "end":
        content = content[:60_000]
    else:
        content[{"member": 5000, "header": 3}[place]] ^= 1
    made.write_bytes(content)
    if not beside:
        made.with_name(f"{made.name}.sha256").unlink()
    with pytest.raises(backup.Problem, match="damaged|no whole backup"):
        backup.inspect(made)


def test_what_is_no_backup_at_all_is_refused_without_a_traceback(tmp_path):
    (tmp_path / "x.tar").write_text("hello", encoding="utf-8")
    done = subprocess.run(["python3", RUN, "backup", "inspect", tmp_path / "x.tar"],
                          capture_output=True,
                          text=True,
                          check=False)
    assert done.returncode == 1 and "is no whole backup" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def release(tmp_path):
    """A DAG release as it lies on a host."""
    root = tmp_path / "releases/1"
    for folder in ("dags/sub/__pycache__", "plugins", "include"):
        (root / folder).mkdir(parents=True)
    (root / "dags/a.py").write_text("a", encoding="utf-8")
    (root / "dags/sub/run.sh").write_text("b", encoding="utf-8")
    (root / "dags/sub/run.sh").chmod(0o750)
    (root / "dags/sub/__pycache__/a.pyc").write_text("c", encoding="utf-8")
    (root / "dags/link.py").symlink_to("a.py")
    (root / "include/sql.txt").write_text("d", encoding="utf-8")
    (root / "dags/include").symlink_to("../include")
    for added in ("REVISION", "PLUGINS"):
        (root / added).write_text("{}", encoding="utf-8")
    return root


def test_dags_are_packed_as_the_module_that_unpacks_them_expects(release):
    archive_of = importlib.util.spec_from_file_location("archive", ROOT / "plugins/modules/airflow_dag_archive.py")
    archive = importlib.util.module_from_spec(archive_of)
    archive_of.loader.exec_module(archive)
    packed = io.BytesIO()
    found = backup.pack_dags(release, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        assert sorted(tar.getnames()) == ["dags/a.py", "dags/link.py", "dags/sub/run.sh", "include/sql.txt"]
        entries = {
            info.name: archive.Entry(bool(info.mode & 0o100), b"" if info.issym() else tar.extractfile(info).read(),
                                     info.linkname if info.issym() else "")
            for info in tar
        }
    assert found == archive.digest(entries)


@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not installed here; the scenario seals and unseals with it")
def test_what_is_sealed_is_opened_by_each_recipient_and_by_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    homes, keys = [], []
    for number in range(3):
        home = tmp_path / str(number)
        home.mkdir(mode=0o700)
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-generate-key", f"somebody {number}", "default", "default", "never"],
                       check=True,
                       capture_output=True)
        keys.append(subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True, text=True).stdout)
        homes.append(gpg)
    try:
        sealed = backup.seal(b"the keys", keys[:2])
        opened = [
            subprocess.run([*gpg, "--decrypt"], input=sealed, capture_output=True, check=False).stdout for gpg in homes
        ]
        assert opened == [b"the keys", b"the keys", b""] and b"the keys" not in sealed
        with pytest.raises(backup.Problem, match="could not be sealed, so nothing was kept"):
            backup.seal(b"the keys", ["no key"])
    finally:
        for gpg in homes:
            subprocess.run(["gpgconf", "--homedir", gpg[2], "--kill", "all"], check=False)


def test_a_full_disk_is_seen_before(tmp_path, monkeypatch):
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(0, 0, 1000 * backup.MB))
    backup.refuse_without_room(tmp_path, 300 * backup.MB, 10**12, 500)
    backup.refuse_without_room(tmp_path, 0, 400 * backup.MB, 500)
    with pytest.raises(backup.Problem, match="1000 MB free and 1125 are needed"):
        backup.refuse_without_room(tmp_path, 500 * backup.MB, 0, 500)
    with pytest.raises(backup.Problem, match="1000 MB free and 1100 are needed"):
        backup.refuse_without_room(tmp_path, 0, 600 * backup.MB, 500)


MANIFEST = {"time": "2026-03-31T02:00:00+00:00", "database": {"rows": {"dag_run": 7}}}


@pytest.mark.parametrize("fate", ["fail", "rerun"])
@pytest.mark.parametrize("keep", ["", "replaced_x"])
def test_all_of_a_restore_is_one_transaction_that_ends_only_where_the_numbers_are_right(fate, keep):
    before, after = (part.decode().splitlines() for part in backup.statements(MANIFEST, fate, keep))
    assert before[0] == "BEGIN;" and after[-1] == "COMMIT;" and not [
        line for line in before[1:] + after[:-1] if "COMMIT" in line
    ]
    assert ("ALTER SCHEMA public RENAME TO replaced_x;" in before) is bool(keep) and (
        "DROP SCHEMA public CASCADE;" in before
    ) is not bool(keep)
    assert [line for line in after if "dag_run) <> 7" in line and "RAISE EXCEPTION" in line]
    assert bool([line for line in after if "task_instance" in line]) is (fate == "fail")


@pytest.fixture
def pg_dump(tmp_path, monkeypatch):
    """pg_dump("15.4", "17.1"): programs of these versions, the last of which is in the PATH; gives the function that
    chooses.
    """

    def make(*versions):
        paths = []
        for version in versions:
            path = tmp_path / version / "bin/pg_dump"
            path.parent.mkdir(parents=True)
            path.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version} (Debian)'\n", encoding="utf-8")
            path.chmod(0o755)
            paths.append(str(path))
        monkeypatch.setattr(backup.glob, "glob", lambda pattern: paths[:-1] if "/lib/" in pattern else [])
        monkeypatch.setattr(backup.shutil, "which", lambda _name: paths[-1] if paths else None)
        return lambda major: backup.client("pg_dump", major)[1]

    return make


def test_the_program_is_as_new_as_the_server_and_no_newer_than_it_has_to_be(pg_dump):
    choose = pg_dump("17.1", "15.4", "16.2")
    assert [choose(major) for major in (14, 15, 16, 17)] == [15, 15, 16, 17]
    with pytest.raises(
            backup.Problem,
            match=r"PostgreSQL 18 or later is needed, as new as the server; the host has 15, 16, 17\. Name its package"
    ):
        choose(18)


def test_a_host_without_the_program_is_told_so(pg_dump):
    with pytest.raises(backup.Problem, match="the host has none"):
        pg_dump()(15)


def test_success_is_counted_where_airflow_sends_its_metrics(tmp_path):
    import socket

    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        config = (
            "[metrics]\nstatsd_on = True\nstatsd_host = 127.0.0.1\nstatsd_port = "
            f"{server.getsockname()[1]}\nstatsd_prefix = prod\n[x]\ny = 100%\n"
        )
        (tmp_path / "airflow.cfg").write_text(config, encoding="utf-8")
        backup.count_success({"config_dir": tmp_path})
        assert server.recv(100) == b"prod.backup.success:1|c"


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of an emulator in this process, and the configuration that names it."""
    import boto3
    import moto

    for key, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
                       "AWS_DEFAULT_REGION": "eu-central-1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="backups", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        settings = {"bucket": "backups", "prefix": "prod/", "region": "eu-central-1", "kms_key_id": "alias/backups"}
        yield client, {"s3": settings, "keep_days": 14, "keep_at_least": 1}


def test_s3_gets_the_file_with_its_checksum(bucket, made):
    client, config = bucket
    assert backup.upload(config, made, backup.checksum(made)) == f"s3://backups/prod/{made.name}"
    found = client.get_object(Bucket="backups", Key=f"prod/{made.name}", ChecksumMode="ENABLED")
    assert found["Body"].read() == made.read_bytes() and found["ChecksumSHA256"]
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/backups")


def test_a_bucket_that_says_no_is_named_with_what_it_said(bucket, made):
    _client, config = bucket
    config["s3"]["bucket"] = "elsewhere"
    with pytest.raises(backup.Problem,
                       match=r"bucket elsewhere \(airflow_backup_s3_bucket\): .*NoSuchBucket.* is whole, and stays"):
        backup.upload(config, made, backup.checksum(made))


def test_what_is_too_old_goes_from_the_host_and_from_below_the_prefix(bucket, tmp_path):
    client, config = bucket
    now = datetime.datetime.now(datetime.timezone.utc)
    old, older, young = (f"airflow-{now - datetime.timedelta(days=days):%Y%m%dT%H%M%SZ}.tar" for days in (20, 30, 1))
    for file in (old, f"{old}.sha256", young, "notes.txt"):
        (tmp_path / file).write_text("x", encoding="utf-8")
    for key in (f"prod/{old}", f"prod/{young}", f"test/{older}", "prod/notes.txt"):
        client.put_object(Bucket="backups", Key=key, Body=b"x")
    assert backup.prune({**config, "directory": str(tmp_path)}) == [old, f"s3://backups/prod/{old}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [young, "notes.txt"]
    left = [item["Key"] for item in client.list_objects_v2(Bucket="backups")["Contents"]]
    assert left == [f"prod/{young}", "prod/notes.txt", f"test/{older}"]


def test_old_backups_on_every_page_of_the_bucket_go(bucket, two_a_page, tmp_path):
    client, config = bucket
    two_a_page("s3.ListObjectsV2", "MaxKeys")
    now = datetime.datetime.now(datetime.timezone.utc)
    times = [f"airflow-{now - datetime.timedelta(days=days):%Y%m%dT%H%M%SZ}.tar" for days in (19, 18, 17, 16, 15, 1)]
    for name in times:
        client.put_object(Bucket="backups", Key=f"prod/{name}", Body=b"x")
    assert backup.prune({**config, "directory": str(tmp_path)}) == [f"s3://backups/prod/{name}" for name in times[:-1]]
    assert [item["Key"] for item in client.list_objects_v2(Bucket="backups")["Contents"]] == [f"prod/{times[-1]}"]


@pytest.mark.parametrize("stored", ["half of it", "another checksum"])
def test_an_object_that_differs_from_the_file_is_no_upload(bucket, made, monkeypatch, stored):
    """S3 is asked what it holds. Its answer counts, whatever the upload said."""
    client, config = bucket

    class Client:
        head_object = client.head_object

        @staticmethod
        def upload_file(path, bucket, key, ExtraArgs):
            content = pathlib.Path(path).read_bytes()
            content = content[: len(content) // 2] if stored == "half of it" else content
            metadata = {"sha256": "0" * 64} if stored == "another checksum" else ExtraArgs["Metadata"]
            client.put_object(Bucket=bucket, Key=key, Body=content, Metadata=metadata)

    monkeypatch.setattr(backup, "s3", lambda _config: contextlib.nullcontext(Client))
    with pytest.raises(backup.Problem, match=f"s3://backups/prod/{made.name} is not what was uploaded"):
        backup.upload(config, made, backup.checksum(made))


# ---- run, with stand-ins for the database and for PostgreSQL's programs


class Connection:
    """A connection that notes what is asked, and answers as much as a backup needs."""

    version = 170002

    def __init__(self, events, number):
        self.events, self.number, self.open = events, number, True
        self.server_version, self.rows, self.description = self.version, [], True

    def __setattr__(self, name, value):
        if name == "autocommit":
            self.note(f"autocommit {value}")
        super().__setattr__(name, value)

    def note(self, what):
        self.events.append((self.number, what))

    def set_session(self, **options):
        self.note(" ".join(f"{key}={value}" for key, value in options.items()))

    def cursor(self):
        return contextlib.nullcontext(self)

    def execute(self, statement, values=()):
        self.note(statement)
        answers = {
            "pg_export_snapshot": [("snapshot-7", )],
            "current_database(), pg_database_size": [("airflow", 1000, "17.2")], "to_regclass": [(True, )],
            "count(*)": [(3, )]
        }
        self.rows = next((rows for words, rows in answers.items() if words in statement), [(1,)])

    def fetchall(self):
        return self.rows

    def close(self):
        self.open = False
        self.note("close")


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that can be backed up. host.program(name, script) sets what a program of PostgreSQL does, host.run() makes
    a backup.
    """
    for path, text in {
            "config/secrets/fernet_key": "the key",
            "config/secrets/sql_alchemy_conn": "postgresql+psycopg2://airflow:geheim@db/airflow",
            "config/airflow.cfg": "",
            "releases/1/dags/a.py": "a",
            "venvs/3.3.2/x": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    for path in ("backups", "state", "bin", "run"):
        (tmp_path / path).mkdir()
    (tmp_path / "current").symlink_to("releases/1")
    revision = {"id": "1", "hash": backup.pack_dags(tmp_path / "releases/1", io.BytesIO())}
    (tmp_path / "releases/1/REVISION").write_text(json.dumps(revision), encoding="utf-8")
    config = {
        "config_dir": f"{tmp_path}/config",
        "dags_dir": str(tmp_path),
        "venv": f"{tmp_path}/venvs/3.3.2",
        "directory": f"{tmp_path}/backups",
        "state_dir": f"{tmp_path}/state",
        "host": "db1",
        "airflow_version": "3.3.2",
        "recipients": ["the key of a person"],
        "min_free_mb": 0,
        "keep_days": 14,
        "keep_at_least": 3,
        "s3": None,
    }
    here = types.SimpleNamespace(path=tmp_path, config=config, events=[], connections=[], backups=tmp_path / "backups")

    def connect(_config):
        here.connections.append(Connection(here.events, len(here.connections)))
        return here.connections[-1]

    def program(name, script):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(**settings):
        (tmp_path / "backup.json").write_text(json.dumps({**config, **settings}), encoding="utf-8")
        return backup.run(tmp_path / "backup.json")

    here.program, here.run = program, run
    program("pg_dump", f'echo "$*" >{tmp_path}/arguments; echo the dump')
    program("pg_restore", "cat >/dev/null; echo TABLE DATA")
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/run")
    monkeypatch.setattr(backup, "connect", connect)
    monkeypatch.setattr(backup, "client", lambda name, _major: (str(tmp_path / "bin" / name), 17))
    monkeypatch.setattr(
        backup, "seal",
        lambda content, recipients: f"sealed for {recipients}: ".encode() + hashlib.sha256(content).digest())
    return here


def left_in(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_backup_has_its_checksum_beside_it_and_is_on_the_disk_before_it_has_its_name(host, files_seen):
    done = host.run()
    path = pathlib.Path(done["file"])
    assert left_in(host.backups) == [path.name, f"{path.name}.sha256"]
    subprocess.run(["sha256sum", "--check", "--strict", f"{path.name}.sha256"],
                   cwd=host.backups,
                   check=True,
                   capture_output=True)
    assert done["sha256"] == backup.checksum(path) and json.loads(
        (host.path / "state/last_success.json").read_text(encoding="utf-8"))["file"] == str(path)
    assert files_seen.created[f"{path.name}.new"] == 0o600 and files_seen.named[path.name] == (0o600, True)
    assert files_seen.named[f"{path.name}.sha256"][1] and files_seen.named["last_success.json"][
        1] and not files_seen.unflushed
    manifest = backup.inspect(path)
    assert manifest["dag_release"]["id"] == "1" and manifest["database"]["rows"]["dag_run"] == 3


def test_a_whole_backup_under_the_name_of_another_is_refused_by_the_checksum_beside_it(host, made):
    path = pathlib.Path(host.run()["file"])
    made.replace(path)
    with pytest.raises(backup.Problem, match=rf"is not the file that {path.name}\.sha256 was written for"):
        backup.inspect(path)


def test_the_dump_and_the_numbers_are_of_one_snapshot_while_the_lock_is_held(host):
    host.run()
    lock, reader = (connection.number for connection in host.connections)
    asked = [what for number, what in host.events if number == lock]
    # Without autocommit the lock's connection would be a transaction of hours. A lock that is waited for has a limit.
    assert asked == [
        "autocommit True", "SET lock_timeout = '1h'", "SELECT pg_advisory_lock(hashtext('airflow-backup'))", "close"
    ]
    read = [what for number, what in host.events if number == reader]
    # Its transaction is idle while pg_dump works, so the server must not limit it.
    assert read[:3] == [
        "isolation_level=REPEATABLE READ readonly=True", "SET LOCAL idle_in_transaction_session_timeout = 0",
        "SELECT pg_export_snapshot()"
    ]
    assert read[-1] == "close"
    assert "--snapshot=snapshot-7" in (host.path / "arguments").read_text(encoding="utf-8").split()
    # The lock is the first to come and the last to go.
    assert host.events[0][0] == lock and host.events[-1] == (lock, "close")


def test_the_limit_of_waiting_for_the_lock_is_told(host, monkeypatch):
    import psycopg2

    def execute(self, statement, values=()):
        if "pg_advisory_lock" in statement:
            raise psycopg2.errors.LockNotAvailable

    monkeypatch.setattr(Connection, "execute", execute)
    with pytest.raises(backup.Problem, match="Another backup, a cleaning or a restore has been at work for an hour"):
        host.run()
    assert left_in(host.backups) == []


FAULTS = {
    "the keys change during the dump": ("pg_dump", "echo new >{path}/config/secrets/fernet_key; echo the dump",
                                        "changed while the database was dumped"),
    "a key is added during the dump": ("pg_dump", "echo new >{path}/config/secrets/jwt_secret; echo the dump",
                                       "changed while the database was dumped"),
    "pg_dump fails after some output": ("pg_dump", "echo half; echo no space >&2; exit 1", "pg_dump failed: no space"),
    "pg_restore cannot read the dump": ("pg_restore", "cat >/dev/null; echo TABLE DATA; echo bad magic >&2; exit 1",
                                        "can't read the dump: bad magic"),
    "the dump holds no data": ("pg_restore", "cat >/dev/null; echo nothing", "can't read the dump"),
    # pg_restore is the last to see the file before it is read back.
    "the disk returns other bytes than were written": (
        "pg_restore",
        "cat >/dev/null; printf x | dd of=$(ls {path}/backups/*.new) bs=1 seek=513 conv=notrunc 2>&-; echo TABLE DATA",
        "is damaged: database.dump"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backup_with_a_fault_is_not_kept_and_the_older_one_is(host, fault):
    older = host.backups / name(1)
    older.touch()
    program, script, said = FAULTS[fault]
    host.program(program, script.format(path=host.path))
    with pytest.raises(backup.Problem, match=said):
        host.run()
    assert left_in(host.backups) == [older.name]
    assert not (host.path / "state/last_success.json").exists()
    assert not any(connection.open for connection in host.connections)


def test_a_backup_that_has_no_room_does_not_begin(host):
    with pytest.raises(backup.Problem, match="MB free and .* are needed"):
        host.run(min_free_mb=10**9)
    assert not (host.path / "arguments").exists() and left_in(host.backups) == []


def test_what_a_killed_backup_left_goes(host):
    for left in (f"{name(1)}.new", f"{name(1)}.sha256.new"):
        (host.backups / left).touch()
    path = pathlib.Path(host.run()["file"])
    assert left_in(host.backups) == [path.name, f"{path.name}.sha256"]


def test_a_release_that_was_changed_by_hand_has_another_name_in_the_backup(host):
    (host.path / "releases/1/dags/a.py").write_text("changed", encoding="utf-8")
    release = backup.inspect(host.run()["file"])["dag_release"]
    assert release == {"id": "1-changed", "hash": backup.pack_dags(host.path / "releases/1", io.BytesIO())}


def test_a_backup_is_in_the_bucket_before_it_counts_as_made(host, bucket):
    client, config = bucket
    done = host.run(**config)
    path = next(host.backups.glob("*.tar"))
    assert done["file"] == f"s3://backups/prod/{path.name}"
    assert client.get_object(Bucket="backups", Key=f"prod/{path.name}")["Body"].read() == path.read_bytes()


def test_a_backup_that_the_bucket_refuses_stays_on_the_host_and_does_not_count(host, bucket):
    _client, config = bucket
    with pytest.raises(backup.Problem, match="NoSuchBucket"):
        host.run(**{**config, "s3": {**config["s3"], "bucket": "elsewhere"}})
    path = next(host.backups.glob("*.tar"))
    assert backup.inspect(path) and not (host.path / "state/last_success.json").exists()


@pytest.mark.parametrize(("linked", "configured", "noted"), [
    # The inventory's version was raised, and only backups were set up again.
    ("3.1.10", "3.3.2", "3.1.10"),
    # The backup before a migration: the virtualenv is that of the schema to come.
    ("3.10.0", "3.9.1", "3.9.1"),
    ("", "3.3.2", "3.3.2"),
])
def test_a_backup_notes_the_airflow_that_made_the_schema(host, linked, configured, noted):
    """A restore refuses a backup of a newer Airflow."""
    if linked:
        pathlib.Path(host.config["venv"], "release.json").write_text(json.dumps({"airflow": linked}), encoding="utf-8")
    assert host.run(airflow_version=configured)["airflow_version"] == noted


# ---- restore, with the same stand-ins


@pytest.fixture
def restore(host):
    """restore(): put a backup of this host in place. What psql reads is in the file sql."""
    path = pathlib.Path(host.run()["file"])
    host.program("psql", f"cat >{host.path}/sql")
    host.program("pg_restore", "cat >/dev/null; echo 'SELECT pg_catalog.set_config(1);'; echo 'COPY dag FROM stdin;'")
    return lambda fate="fail": backup.restore(host.path / "backup.json", path, fate)


def test_a_restore_is_one_transaction_with_the_lock_of_backups(host, restore):
    done = restore()
    assert done["rows"] == dict.fromkeys(backup.COUNTED, 3) and re.fullmatch(r"replaced_\d{8}t\d{6}z", done["kept"])
    sql = (host.path / "sql").read_text(encoding="utf-8").splitlines()
    assert sql[:3] == [
        "BEGIN;", "SET LOCAL idle_in_transaction_session_timeout = 0;",
        "SELECT pg_advisory_xact_lock(hashtext('airflow-backup'));"
    ]
    # Components wait for this one, and the first change comes after it.
    held = sql.index("SELECT pg_advisory_xact_lock_shared(hashtext('airflow-schema'));")
    assert held < min(number for number, line in enumerate(sql) if line.startswith(("ALTER", "DROP")))
    assert sql[-1] == "COMMIT;"
    assert "COPY dag FROM stdin;" in sql


@pytest.mark.parametrize(
    ("filled", "kept"), [("dag_run", True), ("connection", True), ("variable", True), ("dag", False)]
)
def test_a_database_that_holds_anything_of_worth_is_kept(restore, monkeypatch, filled, kept):
    """Those who keep only variables in it have nowhere else to take them from."""
    monkeypatch.setattr(backup, "rows", lambda _connection: {**dict.fromkeys(backup.COUNTED, 0), filled: 1})
    assert bool(restore()["kept"]) is kept


def test_a_dump_that_cannot_be_read_to_its_end_is_not_committed(host, restore):
    host.program(
        "pg_restore",
        "cat >/dev/null; echo 'SELECT pg_catalog.set_config(1);'; echo 'COPY dag FROM stdin;'; echo torn >&2; exit 1")
    with pytest.raises(backup.Problem, match="can't read the dump, and the database is what it was before: torn"):
        restore()
    sql = host.path / "sql"
    assert not sql.exists() or "COMMIT" not in sql.read_text(encoding="utf-8")


def test_what_the_database_refuses_is_told(host, restore):
    host.program("psql", "cat >/dev/null; echo 'table dag has not the 3 rows' >&2; exit 3")
    with pytest.raises(backup.Problem,
                       match="The database refused the backup and is what it was before: table dag has not"):
        restore()


def test_a_damaged_backup_is_refused_before_the_database_is_asked(host, restore):
    path = next(host.backups.glob("*.tar"))
    path.with_name(f"{path.name}.sha256").unlink()
    content = bytearray(path.read_bytes())
    content[513] ^= 1
    path.write_bytes(content)
    host.events.clear()
    with pytest.raises(backup.Problem, match="is damaged: database.dump"):
        restore()
    assert not host.events and not (host.path / "sql").exists()


def test_a_backup_of_a_newer_server_is_refused_before_anything_is_changed(host, restore, monkeypatch):
    monkeypatch.setattr(Connection, "version", 150010)
    with pytest.raises(backup.Problem, match="The backup is of PostgreSQL 17 and this server is 15"):
        restore()
    assert not (host.path / "sql").exists()


def test_what_a_database_cannot_take_is_told_before_a_restore_begins(host, monkeypatch):
    """As an answer among others: a database that does not answer is no reason to refuse a restore."""
    (host.path / "backup.json").write_text("{}", encoding="utf-8")
    found = backup.now(host.path / "backup.json", "17")
    assert found == {"rows": dict.fromkeys(backup.COUNTED, 3), "postgresql": 17, "unfit": ""}
    assert (
        "The backup is of PostgreSQL 18 and this server is 17" in backup.now(host.path / "backup.json", "18")["unfit"]
    )
    execute = Connection.execute

    def may_not(self, statement, values=()):
        execute(self, statement, values)
        if "has_database_privilege" in statement:
            self.rows = [(False,)]
        if "current_user" in statement:
            self.rows = [("airflow", "metadata")]

    monkeypatch.setattr(Connection, "execute", may_not)
    assert 'GRANT CREATE ON DATABASE "metadata" TO "airflow"' in backup.now(host.path / "backup.json", "17")["unfit"]


def test_the_size_of_a_backup_leaves_out_what_restores_have_kept(postgresql):
    """By a real server."""
    import psycopg2

    with contextlib.closing(psycopg2.connect(postgresql.replace(
            "postgresql+psycopg2", "postgresql"))) as connection, connection.cursor() as cursor:
        sizes = []
        for schema in ("public", "replaced_of_test"):
            cursor.execute(
                f"CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {schema}.of_test AS SELECT repeat('x', 900) FROM "
                "generate_series(1, 2000)"
            )
            cursor.execute(backup.SIZE)
            sizes.append(cursor.fetchone()[1])
        assert isinstance(sizes[1], int) and sizes[0] > 2 * backup.MB
        # The catalogues grow a little.
        assert abs(sizes[1] - sizes[0]) < backup.MB
        connection.rollback()


def test_a_schema_of_another_role_is_refused_before_anything_is_changed(host, restore, monkeypatch):
    execute = Connection.execute

    def not_ours(self, statement, values=()):
        execute(self, statement, values)
        if "pg_has_role" in statement:
            self.rows = [(False,)]
        if "current_user" in statement:
            self.rows = [("airflow", "airflow")]

    monkeypatch.setattr(Connection, "execute", not_ours)
    with pytest.raises(backup.Problem, match="Role airflow may not replace schema public of database airflow"):
        restore()
    assert not (host.path / "sql").exists()


# ---- clean_database


def test_steps_go_from_the_oldest_to_the_limit_and_none_takes_longer_than_a_week():
    until = NOW - datetime.timedelta(days=90)
    found = clean_database.steps(NOW - datetime.timedelta(days=120), until)
    assert found[-1] == until and found == sorted(found)
    assert max(later - earlier for earlier, later in zip(found, found[1:])) <= datetime.timedelta(days=7)
    assert clean_database.steps(until, until) == clean_database.steps(NOW, until) == [until]


SAID = """Performing dry run for db cleanup.

Performing dry run for table log
Checking table log
Found 1500 rows meeting deletion criteria.

Performing dry run for table job
Checking table job
Found 0 rows meeting deletion criteria.
"""


def test_airflows_own_dry_run_is_read():
    assert clean_database.found_rows(SAID) == {"log": 1500}


def test_only_a_table_that_could_not_be_cleaned_is_a_failure():
    failures, logger = clean_database.Failures(), logging.getLogger("tests.clean_database")
    logger.addHandler(failures)
    logger.warning("Table %s not found.  Skipping.", "celery_taskmeta")
    logger.warning("Encountered error when attempting to clean table '%s'. ", "log")
    assert failures.messages == ["Encountered error when attempting to clean table 'log'."]


def test_files_of_the_archive_go_after_archive_days(tmp_path):
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    kept, old, others = (
        tmp_path / name
        for name in ("_airflow_deleted__log__1.csv.gz", "_airflow_deleted__log__2.csv.gz", "others.csv.gz")
    )
    for path, age in ((kept, 9), (old, 11), (others, 11)):
        path.touch()
        os.utime(path, (now - age * 86400,) * 2)
    clean_database.forget(str(tmp_path), 10)
    assert set(tmp_path.iterdir()) == {kept, others}


@pytest.fixture
def cleaning(tmp_path, monkeypatch):
    """cleaning("run", failures): run the program; what it did, in its order."""
    done = []

    class Lock:
        def close(self):
            done.append("unlocked")

    def alone(_config):
        done.append("locked")
        return Lock()

    def main(question, failures=(), archive=str(tmp_path)):
        done.clear()
        config = {"clean": {"keep_days": 90, "archive_dir": archive, "archive_days": 10, "batch_size": 1000}}
        (tmp_path / "backup.json").write_text(json.dumps(config), encoding="utf-8")
        monkeypatch.setattr(
            clean_database,
            "clean",
            lambda _until, _config, dry_run=False: done.append("looked" if dry_run else "cleaned") or list(failures))
        monkeypatch.setattr(clean_database, "backup", types.SimpleNamespace(alone=alone))
        monkeypatch.setattr(clean_database, "export", lambda _directory, _config: done.append("exported") or 2)
        monkeypatch.setattr(clean_database, "forget", lambda _directory, _days: done.append("forgot"))
        return clean_database.main(question, tmp_path / "backup.json"), done

    return main


def test_nothing_is_deleted_while_a_backup_is_made(cleaning):
    answer, done = cleaning("run")
    assert done == ["locked", "looked", "cleaned", "exported", "unlocked", "forgot"] and answer["files"] == 2
    assert cleaning("run", archive="")[1] == ["locked", "looked", "cleaned", "unlocked"]
    # A report only looks, so it waits for nobody.
    assert cleaning("report")[1] == ["looked"]


def test_a_table_that_could_not_be_cleaned_fails_the_run(cleaning):
    with pytest.raises(SystemExit, match="Not all could be cleaned: table log"):
        cleaning("run", ["table log"])


@pytest.mark.parametrize(("archive", "skipped"), [("/var/lib/airflow-archive", False), ("", True)])
@pytest.mark.parametrize("batches", [True, False])
def test_airflow_keeps_what_it_deletes_where_there_is_an_archive(monkeypatch, archive, skipped, batches):
    calls = []

    def with_batches(clean_before_timestamp, confirm, skip_archive, batch_size, dry_run=False):
        calls.append((clean_before_timestamp, confirm, skip_archive, batch_size))

    def in_one_go(clean_before_timestamp, confirm, skip_archive, dry_run=False):
        calls.append((clean_before_timestamp, confirm, skip_archive, None))

    program = types.ModuleType("airflow.utils.db_cleanup")
    program.run_cleanup = with_batches if batches else in_one_go
    utils = types.ModuleType("airflow.utils")
    utils.db_cleanup = program
    for name, module in {
            "airflow": types.ModuleType("airflow"), "airflow.utils": utils, "airflow.utils.db_cleanup": program
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(clean_database, "oldest_run", lambda _config, _default: NOW - datetime.timedelta(days=10))
    monkeypatch.setattr(clean_database.time, "sleep", lambda _seconds: None)
    clean_database.clean(NOW, {"clean": {"archive_dir": archive, "batch_size": 1000}})
    times = [NOW] if batches else [NOW - datetime.timedelta(days=3), NOW]
    assert calls == [(time, False, skipped, 1000 if batches else None) for time in times]


def test_rows_are_dropped_once_their_file_is_on_the_disk(tmp_path, monkeypatch):
    """After a loss of power, either the table or a whole file is there."""
    name, done = "_airflow_deleted__log__20260301020304", []

    def exported(export_format, output_path, drop_archives, needs_confirm):
        assert (export_format, output_path, drop_archives, needs_confirm) == ("csv", str(tmp_path), False, False)
        (tmp_path / f"{name}.csv").write_text("id\n7\n", encoding="utf-8")

    program = types.ModuleType("airflow.utils.db_cleanup")
    program.export_archived_records = exported
    for module in ("airflow", "airflow.utils"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    monkeypatch.setitem(sys.modules, "airflow.utils.db_cleanup", program)
    # A file of somebody else, which is no table of the archive.
    (tmp_path / "dag_run.csv").write_text("mine", encoding="utf-8")
    fsync, unlink = os.fsync, pathlib.Path.unlink
    monkeypatch.setattr(os, "fsync",
                        lambda handle: done.append(f"flush {os.readlink(f'/proc/self/fd/{handle}')}") or fsync(handle))
    monkeypatch.setattr(pathlib.Path, "unlink", lambda path: done.append(f"remove {path}") or unlink(path))
    database = types.SimpleNamespace(connect=lambda _config: contextlib.ExitStack(),
                                     query=lambda _connection, statement: done.append(statement))
    monkeypatch.setattr(clean_database, "backup", database)
    assert clean_database.export(tmp_path, {}) == 1
    assert done == [
        f"flush {tmp_path}/{name}.csv.gz", f"flush {tmp_path}", f'DROP TABLE IF EXISTS "{name}"',
        f"remove {tmp_path}/{name}.csv"
    ]
    assert gzip.decompress((tmp_path / f"{name}.csv.gz").read_bytes()) == b"id\n7\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.csv.gz", "dag_run.csv"]
