"""Back up Airflow's metadata database, with what a restore needs besides, and put such a backup in place.

backup run CONFIG              make a backup, read it back, remove those that are too old
backup inspect FILE            prove that a backup is whole, and print its manifest
backup now CONFIG MAJOR        print what the database holds, and why it can't take a backup of this major version of
PostgreSQL backup restore CONFIG FILE FATE   replace the database's content in one transaction. FATE of the tasks that
ran when the backup was made: fail, rerun

A backup is one tar: database.dump (pg_dump's custom format), configuration.gpg (all of the configuration directory,
with the keys and passwords, sealed for the holders of other keys), dags.tar.gz (the DAG release in place) and, at its
end, manifest.json with versions and checksums. Each answer is JSON on standard output. `inspect` needs nothing but
Python, so it runs on the controller too.
"""

from __future__ import annotations

import configparser
import contextlib
import datetime
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Callable

from airflow_runtime import metadata
from airflow_runtime.disk import flush

NAME = re.compile(r"airflow-(\d{8}T\d{6}Z)\.tar")
COUNTED = ("dag", "dag_run", "task_instance", "connection", "variable")
# Those that a person or a scheduler fills. With a row in one of them, the database that a restore replaces is kept.
DATA = ("dag_run", "connection", "variable")
# A database that was replaced is kept in a schema of such a name, which is no part of a backup.
REPLACED = "replaced_"
MB = 2**20
# Bytes of what a backup holds, with its indexes: a restore writes as many.
SIZE = f"""
    SELECT current_database(), pg_database_size(current_database()) - coalesce((
               SELECT sum(pg_total_relation_size(t.oid)) FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
               WHERE t.relkind = 'r' AND starts_with(n.nspname, '{REPLACED}')), 0)::bigint,
           current_setting('server_version')"""


class Problem(Exception):
    """What is wrong, as an instruction."""


# ---- files -----------------------------------------------------------------------------------------------------------


class Archive:
    """A tar whose members are written as they come, so that none of them has to lie on the disk first."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.members: dict[str, dict[str, Any]] = {}

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write one member. Its size and checksum are known in the end, so its header is written then."""
        info, digest, header = tarfile.TarInfo(name), hashlib.sha256(), self.file.tell()
        info.mode, info.mtime = 0o600, int(time.time())
        self.file.write(bytes(tarfile.BLOCKSIZE))
        for chunk in chunks:
            digest.update(chunk)
            info.size += self.file.write(chunk)
        self.file.write(bytes(-info.size % tarfile.BLOCKSIZE))
        end = self.file.tell()
        self.file.seek(header)
        self.file.write(info.tobuf(tarfile.GNU_FORMAT))
        self.file.seek(end)
        self.members[name] = {"bytes": info.size, "sha256": digest.hexdigest()}

    def close(self) -> None:
        """End the tar and have it on the disk."""
        self.file.write(bytes(2 * tarfile.BLOCKSIZE))
        self.file.flush()
        os.fsync(self.file.fileno())


def write_whole(path: Path, text: str) -> None:
    """Replace a file by a whole one, for good. Half of a file, after a loss of power, would fail every later backup."""
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    flush(path.parent)


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what a stream holds."""
    while chunk := stream.read(MB):
        yield chunk


def checksum(path: str | Path) -> str:
    """Return a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in chunks_of(file):
            digest.update(chunk)
    return digest.hexdigest()


def member_of(tar: tarfile.TarFile, name: str | tarfile.TarInfo) -> IO[bytes]:
    """Return the content of a file in a backup."""
    file = tar.extractfile(name)
    if file is None:
        raise tarfile.ReadError(f"{getattr(name, 'name', name)} is no file")
    return file


def inspect(path: str | Path) -> dict[str, Any]:
    """Return the manifest of a backup, once every part of it was proven to be what it was."""
    path = Path(path)
    beside = path.with_name(f"{path.name}.sha256")
    if beside.exists() and beside.read_text().split()[0] != checksum(path):
        raise Problem(
            f"{path} is not the file that {beside.name} was written for: it was damaged or changed. Take another "
            "backup, or fetch it again."
        )
    try:
        with tarfile.open(path) as tar:
            found = {}
            for info in tar:
                digest, member = hashlib.sha256(), member_of(tar, info)
                for chunk in chunks_of(member):
                    digest.update(chunk)
                found[info.name] = {"bytes": info.size, "sha256": digest.hexdigest()}
            manifest: dict[str, Any] = json.load(member_of(tar, "manifest.json"))
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise Problem(f"{path} is no whole backup ({error}). Take another one, or fetch it again.") from None
    wrong = sorted(name for name, member in manifest["files"].items() if found.get(name) != member)
    if wrong:
        raise Problem(
            f"{path} is damaged: {', '.join(wrong)} is not what manifest.json says. Take another backup, or fetch it "
            "again."
        )
    return manifest


def surplus(names: Iterable[str], now: datetime.datetime, keep_days: int, keep_at_least: int) -> list[str]:
    """Return the backups that are older than keep_days, but never one of the newest keep_at_least."""
    times = {name: match[1] for name in names if (match := NAME.fullmatch(name))}
    oldest = (now - datetime.timedelta(days=keep_days)).strftime("%Y%m%dT%H%M%SZ")
    newest_first = sorted(times, key=times.__getitem__, reverse=True)
    return sorted(name for name in newest_first[keep_at_least:] if times[name] < oldest)


def configuration(directory: str | Path) -> dict[str, str]:
    """Return {path: content} of the configuration directory."""
    paths = (path for path in Path(directory).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8", errors="surrogateescape")
        for path in sorted(paths)
    }


def pack_dags(release: Path, file: IO[bytes]) -> str:
    """Write the release's files and return their hash, both as module airflow_dag_archive does: without what the host
    has added to them.
    """
    total = hashlib.sha256()
    paths = {
        str(path.relative_to(release)): path
        for folder in ("dags", "plugins", "include")
        for path in Path(release, folder).rglob("*")
    }
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
        for name, path in sorted(paths.items()):
            if path.is_symlink():
                kind, content = "link", os.readlink(path).encode()
                if (name, content) == ("dags/include", b"../include"):
                    continue
            elif path.is_file() and "__pycache__" not in path.parts:
                kind, content = "exec" if path.stat().st_mode & 0o100 else "file", path.read_bytes()
            else:
                continue
            tar.add(path, name, recursive=False)
            total.update(f"{kind} {hashlib.sha256(content).hexdigest()} {name}\n".encode())
    return total.hexdigest()


def seal(content: bytes, recipients: list[str]) -> bytes:
    """Return the content, encrypted with OpenPGP so that only the holders of these keys can read it."""
    with tempfile.TemporaryDirectory(dir=scratch()) as home:
        files = []
        for number, recipient in enumerate(recipients):
            files += ["--recipient-file", str(Path(home, f"{number}.asc"))]
            Path(home, f"{number}.asc").write_text(recipient)
        done = subprocess.run(
            [
                "gpg", "--homedir", home, "--batch", "--quiet", "--no-tty", "--trust-model", "always", *files,
                "--encrypt"
            ],
            input=content,
            capture_output=True,
            check=False,
        )
    if done.returncode:
        raise Problem(
            "The keys could not be sealed, so nothing was kept. gpg says: "
            f"{done.stderr.decode(errors='replace').strip()}"
        )
    return done.stdout


def scratch() -> str:
    """Return a directory that is no disk and belongs to root."""
    return os.environ.get("RUNTIME_DIRECTORY") or "/run"


# ---- the database ----------------------------------------------------------------------------------------------------


def parameters(config: dict[str, Any]) -> dict[str, str]:
    """Return what Airflow connects with, by libpq's names."""
    from psycopg2.extensions import parse_dsn

    found: dict[str, str] = parse_dsn(metadata.url(config["config_dir"]))
    return found


def connect(config: dict[str, Any]) -> Any:
    """Return a connection as Airflow's own role."""
    import psycopg2

    try:
        return metadata.connect("airflow-backup", metadata.url(config["config_dir"]), connect_timeout=10)
    except psycopg2.OperationalError as error:
        raise Problem(f"The metadata database can't be reached: {error}") from None


def query(connection: Any, statement: str, *values: Any) -> Any:
    """Return the rows that the database answers."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def alone(config: dict[str, Any]) -> Any:
    """Return a connection that holds the lock of what must not meet a backup, for as long as it is open: another one,
    clean_database, a restore.
    """
    import psycopg2

    connection = connect(config)
    connection.autocommit = True
    query(connection, "SET lock_timeout = '1h'")
    try:
        query(connection, "SELECT pg_advisory_lock(hashtext('airflow-backup'))")
    except psycopg2.errors.LockNotAvailable:
        raise Problem(
            "Another backup, a cleaning or a restore has been at work for an hour. Start this again once that has "
            "ended."
        ) from None
    return connection


def rows(connection: Any) -> dict[str, int]:
    """Return how many rows the tables have that tell people whether a restore brought everything."""
    there = [table for table in COUNTED if query(connection, "SELECT to_regclass(%s)", f"public.{table}")[0][0]]
    return {table: query(connection, f"SELECT count(*) FROM public.{table}")[0][0] for table in there}


@contextlib.contextmanager
def service(config: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Give the environment by which PostgreSQL's programs connect as Airflow does. It names a file: arguments can be
    read by everybody.
    """
    with tempfile.TemporaryDirectory(dir=scratch()) as directory:
        file = Path(directory, "service.conf")
        file.write_text("[airflow]\n" + "".join(f"{key}={value}\n" for key, value in parameters(config).items()),
                        encoding="utf-8")
        yield {**os.environ, "PGSERVICEFILE": str(file), "PGSERVICE": "airflow", "PGAPPNAME": "airflow-backup"}


def client(name: str, major: int) -> tuple[str, int]:
    """Return the path and major version of a program of PostgreSQL that is as new as the server, and no newer than it
    has to be.
    """
    found: dict[int, str] = {}
    for path in [
            *glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), *glob.glob(f"/usr/pgsql-*/bin/{name}"),
            shutil.which(name)
    ]:
        if path and (match := re.search(
                r"PostgreSQL\) (\d+)",
                subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout)):
            found.setdefault(int(match[1]), path)
    fit = sorted(version for version in found if version >= major)
    if not fit:
        there = f"the host has {', '.join(map(str, sorted(found)))}" if found else "the host has none"
        raise Problem(
            f"{name} of PostgreSQL {major} or later is needed, as new as the server; {there}. "
            f"Name its package in airflow_backup_packages, such as [gpg, postgresql-client-{major}], which the "
            "PostgreSQL project's repository has, "
            "and run playbooks/backup.yml.")
    return found[fit[0]], fit[0]


def server_major(connection: Any) -> int:
    """Return the server's major version."""
    return int(connection.server_version) // 10000


# ---- run -------------------------------------------------------------------------------------------------------------


def dump(program: str, snapshot: str, environment: dict[str, str]) -> Iterator[bytes]:
    """Yield the dump of what the snapshot sees."""
    arguments = [
        program, "--format=custom", f"--snapshot={snapshot}", f"--exclude-schema={REPLACED}*",
        "--lock-wait-timeout=60s", "--dbname=service=airflow"
    ]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=said, env=environment) as process:
            assert process.stdout is not None
            yield from chunks_of(process.stdout)
            if process.wait():
                said.seek(0)
                raise Problem(f"pg_dump failed: {said.read().decode(errors='replace').strip()}")


def refuse_without_room(directory: Path, last: int, database_bytes: int, min_free_mb: int) -> None:
    """Stop where the disk has no room for what this backup will take, by the last one or, before there is one, by the
    database.
    """
    needed = (last * 5 // 4 if last else database_bytes) + min_free_mb * MB
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise Problem(
            f"{directory} has {free // MB} MB free and {needed // MB} are needed: the backup, and "
            "airflow_backup_min_free_mb. Free some, lower "
            "airflow_backup_keep_days, or put airflow_backup_dir on another file system. The older backups are still "
            "there."
        )


def release_in_place(dags_dir: str) -> tuple[Path | None, Any]:
    """Return the DAG release in place and its REVISION, or nothing."""
    release = Path(dags_dir, "current").resolve()
    revision = release / "REVISION"
    return (release, json.loads(revision.read_text(encoding="utf-8"))) if revision.is_file() else (None, None)


def prove_dump(path: Path, program: str) -> None:
    """Have pg_restore read the dump's table of contents."""
    with tarfile.open(path) as tar, tempfile.TemporaryFile() as said:
        with subprocess.Popen([program, "--list"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=said) as process:
            assert process.stdout is not None
            # It reads the beginning only.
            feeder = threading.Thread(target=feed, args=(member_of(tar, "database.dump"), process.stdin), daemon=True)
            feeder.start()
            listed = process.stdout.read()
            feeder.join()
        said.seek(0)
        why = said.read().decode(errors="replace").strip()
    if process.returncode or b"TABLE DATA" not in listed:
        raise Problem(f"{path}: pg_restore can't read the dump: {why}")


def write(path: Path, config: dict[str, Any], last: int) -> dict[str, Any]:
    """Write a backup and return its manifest."""
    sealed = configuration(config["config_dir"])
    release, revision = release_in_place(config["dags_dir"])
    with contextlib.closing(alone(config)), contextlib.closing(
            connect(config)) as connection, service(config) as environment:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        # This transaction is idle while pg_dump reads its snapshot, for as long as that takes.
        query(connection, "SET LOCAL idle_in_transaction_session_timeout = 0")
        # The numbers in the manifest are those of the dump: both see one snapshot.
        snapshot = query(connection, "SELECT pg_export_snapshot()")[0][0]
        name, size, version = query(connection, SIZE)[0]
        refuse_without_room(path.parent, last, size, config["min_free_mb"])
        program, major = client("pg_dump", server_major(connection))
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            archive = Archive(file)
            archive.add("database.dump", dump(program, snapshot, environment))
            if configuration(config["config_dir"]) != sealed:
                raise Problem(
                    f"{config['config_dir']} changed while the database was dumped, so its keys may not be those of "
                    "the dump. Run this again."
                )
            archive.add("configuration.gpg", [seal(json.dumps(sealed).encode(), config["recipients"])])
            if release:
                with tempfile.TemporaryFile(dir=path.parent) as dags:
                    found = pack_dags(release, dags)
                    dags.seek(0)
                    archive.add("dags.tar.gz", chunks_of(dags))
                if found != revision["hash"]:
                    # Somebody has changed files by hand. A restore brings what there was, and doesn't give it the name
                    # of what there should be.
                    revision.update(hash=found, id=f"{revision['id']}-changed")
            manifest = {
                "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "host": config["host"],
                "airflow_version": version_of_schema(config),
                "virtualenv": Path(config["venv"]).resolve().name,
                "postgresql": version,
                "pg_dump": major,
                "database": {"name": name, "bytes": size, "rows": rows(connection)},
                "dag_release": revision,
                "sealed": sorted(sealed),
                "files": dict(archive.members),
            }
            archive.add("manifest.json", [json.dumps(manifest, indent=1).encode()])
            archive.close()
    prove_dump(path, client("pg_restore", major)[0])
    return manifest


def version_of_schema(config: dict[str, Any]) -> str:
    """Return the Airflow that made the schema: the older one of the virtualenv's and the configuration's.

    A migration makes its backup with the new virtualenv and the configuration of before. If airflow_version was raised
    in the inventory, and only backups were set up again, the configuration is ahead of the virtualenv.
    """
    configured: str = config["airflow_version"]
    try:
        linked: str = json.loads(Path(config["venv"], "release.json").read_text(encoding="utf-8"))["airflow"]
    except (OSError, ValueError, KeyError):
        return configured
    return min(linked, configured, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])


def upload(config: dict[str, Any], path: Path, sha256: str) -> str:
    """Bring a backup to S3. S3 compares each part with the checksum that was computed here, and refuses what differs.
    """
    key = config["s3"]["prefix"] + path.name
    extra = {"ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": sha256}}
    if config["s3"]["kms_key_id"]:
        extra.update(ServerSideEncryption="aws:kms", SSEKMSKeyId=config["s3"]["kms_key_id"])
    with s3(config) as store:
        store.upload_file(str(path), config["s3"]["bucket"], key, ExtraArgs=extra)
        found = store.head_object(Bucket=config["s3"]["bucket"], Key=key)
    if (found["ContentLength"], found["Metadata"].get("sha256")) != (path.stat().st_size, sha256):
        raise Problem(f"s3://{config['s3']['bucket']}/{key} is not what was uploaded.")
    return f"s3://{config['s3']['bucket']}/{key}"


@contextlib.contextmanager
def s3(config: dict[str, Any]) -> Iterator[Any]:
    """Give a client that finds its credentials as boto3 does: on EC2 those of the instance's role."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield boto3.client("s3", region_name=config["s3"]["region"] or None)
    except (BotoCoreError, ClientError, boto3.exceptions.S3UploadFailedError) as error:
        raise Problem(
            f"S3, bucket {config['s3']['bucket']} (airflow_backup_s3_bucket): {error}. The backup on this host is "
            "whole, and stays."
        ) from None


def prune(config: dict[str, Any]) -> list[str]:
    """Remove what is too old, here and in S3; return what was removed."""
    now, limits = datetime.datetime.now(datetime.timezone.utc), (config["keep_days"], config["keep_at_least"])
    directory = Path(config["directory"])
    gone = surplus(os.listdir(directory), now, *limits)
    for name in gone:
        (directory / name).unlink()
        (directory / f"{name}.sha256").unlink(missing_ok=True)
    if config["s3"]:
        bucket, prefix = config["s3"]["bucket"], config["s3"]["prefix"]
        with s3(config) as store:
            pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            there = [item["Key"][len(prefix) :] for page in pages for item in page.get("Contents", [])]
            for name in surplus(there, now, *limits):
                store.delete_object(Bucket=bucket, Key=prefix + name)
                gone.append(f"s3://{bucket}/{prefix}{name}")
    return gone


def count_success(config: dict[str, Any]) -> None:
    """Send the counter where Airflow's own metrics go."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(config["config_dir"], "airflow.cfg"), encoding="utf-8")
    if parser.getboolean("metrics", "statsd_on", fallback=False):
        address = (
            parser.get("metrics", "statsd_host", fallback="localhost"),
            parser.getint("metrics", "statsd_port", fallback=8125),
        )
        family, kind, protocol, _name, where = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sender:
            sender.sendto(f"{parser.get('metrics', 'statsd_prefix', fallback='airflow')}.backup.success:1|c".encode(),
                          where)


def run(path_of_config: str) -> dict[str, Any]:
    """Make a backup."""
    config = json.loads(Path(path_of_config).read_text(encoding="utf-8"))
    directory, state = Path(config["directory"]), Path(config["state_dir"], "last_success.json")
    for left in directory.glob("airflow-*.new"):
        # Of a run that was killed.
        left.unlink()
    last = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {}
    path = directory / f"airflow-{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}.tar"
    new = path.with_name(f"{path.name}.new")
    try:
        write(new, config, last.get("bytes", 0))
        # What is on the disk is read once more.
        manifest = inspect(new)
        sha256 = checksum(new)
        write_whole(path.with_name(f"{path.name}.sha256"), f"{sha256}  {path.name}\n")
        new.rename(path)
        # Before older backups are removed.
        flush(directory)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    where = upload(config, path, sha256) if config["s3"] else str(path)
    done = {
        "time": manifest["time"],
        "file": where,
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "airflow_version": manifest["airflow_version"],
    }
    write_whole(state, json.dumps(done) + "\n")
    count_success(config)
    return {**done, "removed": prune(config)}


# ---- restore ---------------------------------------------------------------------------------------------------------


def now(path_of_config: str, made_with: str) -> dict[str, Any]:
    """Return what the database holds, and why it can't take a backup."""
    config, unfit = json.loads(Path(path_of_config).read_text(encoding="utf-8")), ""
    with contextlib.closing(connect(config)) as connection:
        try:
            refuse_unfit(connection, int(made_with))
        except Problem as problem:
            unfit = str(problem)
        return {"rows": rows(connection), "postgresql": server_major(connection), "unfit": unfit}


def statements(manifest: dict[str, Any], fate: str, keep: str) -> tuple[bytes, bytes]:
    """Return the SQL before and after the dump's own. All of it is one transaction."""
    # psql may wait long for the next lines of the dump, which pg_restore reads and unpacks.
    before = ["BEGIN;", "SET LOCAL idle_in_transaction_session_timeout = 0;"]
    before.append("SELECT pg_advisory_xact_lock(hashtext('airflow-backup'));")
    # No component starts meanwhile (`components reach`), also if the run that began this is gone. Without keepalives,
    # the server would hold both locks for two hours if this host loses its power.
    before += ["SET LOCAL tcp_keepalives_idle = 30;", "SET LOCAL tcp_keepalives_interval = 10;"]
    before.append("SET LOCAL tcp_keepalives_count = 3;")
    before.append("SELECT pg_advisory_xact_lock_shared(hashtext('airflow-schema'));")
    before.append(f"ALTER SCHEMA public RENAME TO {keep};" if keep else "DROP SCHEMA public CASCADE;")
    before += ["CREATE SCHEMA public;", "GRANT USAGE ON SCHEMA public TO PUBLIC;"]
    after = []
    for table, count in manifest["database"]["rows"].items():
        after.append(
            f"DO $$ BEGIN IF (SELECT count(*) FROM public.{table}) <> {int(count)} THEN"
            f" RAISE EXCEPTION 'table {table} has not the {int(count)} rows of the backup'; END IF; END $$;"
        )
    # The processes of then are gone. Airflow resets what these have queued, and runs it, when its scheduler starts.
    after.append("UPDATE public.job SET state = 'failed', end_date = latest_heartbeat WHERE state = 'running';")
    if fate == "fail":
        # Nobody knows what became of them: they may have ended after the backup was made.
        after.append(
            "UPDATE public.task_instance SET state = 'failed', end_date = coalesce(end_date, now()) WHERE state IN "
            "('running', 'restarting');"
        )
    after.append("COMMIT;\n")
    return "\n".join([*before, ""]).encode(), "\n".join(after).encode()


def refuse_unfit(connection: Any, made_with: int) -> None:
    """Stop where this server can't take a backup of a server of this major version, before anything is changed."""
    major = server_major(connection)
    if made_with > major:
        raise Problem(
            f"The backup is of PostgreSQL {made_with} and this server is {major}, which can't read it. Set "
            "postgresql_version: "
            f'"{made_with}" (an external server: take one of {made_with} or later), run site.yml, and run this again.')
    if not query(connection, "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public'")[0][0]:
        role, name = query(connection, "SELECT current_user, current_database()")[0]
        raise Problem(
            f"Role {role} may not replace schema public of database {name}, which is another role's. Have a superuser "
            "run, in that database: "
            f'ALTER SCHEMA public OWNER TO "{role}"')
    if not query(connection, "SELECT has_database_privilege(current_database(), 'CREATE')")[0][0]:
        role, name = query(connection, "SELECT current_user, current_database()")[0]
        raise Problem(
            f'Role {role} may make no schema in database {name}. Have a superuser run: GRANT CREATE ON DATABASE '
            f'"{name}" TO "{role}"'
        )


def restore(path_of_config: str, path: str, fate: str) -> dict[str, Any]:
    """Replace the content of the database by that of a backup."""
    config, manifest = json.loads(Path(path_of_config).read_text(encoding="utf-8")), inspect(path)
    with contextlib.closing(connect(config)) as connection:
        # pg_dump is never older than its server.
        refuse_unfit(connection, int(str(manifest.get("postgresql") or manifest.get("pg_dump") or 0).split(".")[0]))
        there = rows(connection)
        keep = f"{REPLACED}{time.strftime('%Y%m%dt%H%M%Sz', time.gmtime())}" if any(map(there.get, DATA)) else ""
    before, after = statements(manifest, fate, keep)
    with service(config) as environment, tempfile.TemporaryFile() as said:
        reader, _major = client("pg_restore", manifest.get("pg_dump") or 0)
        put = [
            str(Path(reader).with_name("psql")), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1",
            "--output=/dev/null", "--file=-"
        ]
        with subprocess.Popen(put, stdin=subprocess.PIPE, stderr=said, env=environment) as database:
            assert database.stdin is not None
            try:
                database.stdin.write(before)
                for chunk in script_of(path, reader):
                    database.stdin.write(chunk)
                # Without the last statement, COMMIT, all was for nothing.
                database.stdin.write(after)
                database.stdin.close()
            except BrokenPipeError:
                # psql has stopped at an error, which it has told.
                pass
            except BaseException:
                database.kill()
                raise
        if database.returncode:
            said.seek(0)
            raise Problem(
                "The database refused the backup and is what it was before: "
                f"{said.read().decode(errors='replace').strip()}"
            )
    return {"rows": manifest["database"]["rows"], "kept": keep}


def script_of(path: str, reader: str) -> Iterator[bytes]:
    """Yield the dump as SQL. Owners and grants of roles that this server may not have are left out; all belongs to
    Airflow's role.
    """
    read = [reader, "--file=-", "--no-owner", "--no-privileges", "--no-comments", "--schema=public"]
    with tarfile.open(path) as tar, tempfile.TemporaryFile() as said:
        with subprocess.Popen(read, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as process:
            assert process.stdout is not None
            feeder = threading.Thread(target=feed, args=(member_of(tar, "database.dump"), process.stdin), daemon=True)
            feeder.start()
            for line in process.stdout:
                # Of a pg_dump that is newer than the server, which does not know it. It is in the first lines.
                if line.startswith(b"SELECT pg_catalog.set_config"):
                    yield line
                    break
                if not line.startswith(b"SET transaction_timeout"):
                    yield line
            yield from chunks_of(process.stdout)
            feeder.join()
        if process.returncode:
            said.seek(0)
            raise Problem(
                "pg_restore can't read the dump, and the database is what it was before: "
                f"{said.read().decode(errors='replace').strip()}"
            )


def feed(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy until the reader has enough."""
    with contextlib.suppress(BrokenPipeError), target:
        shutil.copyfileobj(source, target, MB)


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {"run": run, "inspect": inspect, "now": now, "restore": restore}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    try:
        print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
    except Problem as problem:
        sys.exit(str(problem))
