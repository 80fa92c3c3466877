"""Shared fixtures: a real PostgreSQL, where the machine has its programs, and a record of how files come into being."""

import fcntl
import functools
import glob
import multiprocessing
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import time
import types

import pytest
from botocore.loaders import JSONFileLoader

# Each session of boto3 reads the description of its service anew, which is most of the work of a test that asks AWS's
# emulator.
load_description = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
JSONFileLoader.load_file = lambda self, path: load_description(path)


@pytest.fixture(scope="session")
def postgresql_server():
    """Start an empty PostgreSQL that listens on a socket only, and return its URL as Airflow writes it."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb") + glob.glob("/usr/pgsql-*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed here; other tests prove the same with a stand-in")
    programs = pathlib.Path(programs[-1]).parent
    # PostgreSQL refuses to run as root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # The path of a socket has at most 107 characters, so pytest's own directory is too deep.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="airflow-pg-"))
    if as_user:
        shutil.chown(directory, "postgres")

    def run(program, *arguments):
        # A server that starts keeps its output open, so the output goes to a file and not to a pipe.
        with (directory.parent / f"{directory.name}.log").open("a") as log:
            subprocess.run([*as_user, programs / program, *arguments], cwd="/", check=True, stdout=log, stderr=log)

    try:
        run("initdb", "--pgdata", directory / "data", "--username=airflow", "--auth=trust", "--encoding=UTF8",
            "--no-sync")
        options = f"-k {directory} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "--pgdata", directory / "data", "--wait", "-o", options, "start")
        yield f"postgresql+psycopg2://airflow@/postgres?host={directory}"
    finally:
        if (directory / "data/postmaster.pid").exists():
            run("pg_ctl", "--pgdata", directory / "data", "--mode=immediate", "stop")
        shutil.rmtree(directory)
        (directory.parent / f"{directory.name}.log").unlink(missing_ok=True)


# Each statement of its second column is run in the database of the tests.
LEFT_BEHIND = """
    SELECT 1, format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname NOT IN ('postgres',
        'template0', 'template1')
    UNION ALL SELECT 2, format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace WHERE nspname !~
        '^(pg_|information_schema$)'
    UNION ALL SELECT 3, 'CREATE SCHEMA public'
    UNION ALL SELECT 4, format('DROP OWNED BY %I CASCADE', rolname) FROM pg_roles WHERE rolname !~ '^(pg_|airflow$)'
    UNION ALL SELECT 5, format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname !~ '^(pg_|airflow$)'
    ORDER BY 1"""


@pytest.fixture
def postgresql(postgresql_server):
    """The URL of the server. It is empty again after the test, because the next test may ask what a server holds."""
    # Before the test, which may hide the module.
    psycopg2 = pytest.importorskip("psycopg2")
    yield postgresql_server
    connection = psycopg2.connect(postgresql_server.replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(LEFT_BEHIND)
        for _order, statement in cursor.fetchall():
            cursor.execute(statement)
    connection.close()


@pytest.fixture
def files_seen(monkeypatch):
    """Record how files come into being: created is {name: mode at its creation}, named is {name: (mode, whether it was
    synced) at its rename}.

    unflushed has the names that a loss of power could still take: their directory was not synced since.
    """
    seen, synced = types.SimpleNamespace(created={}, named={}, unflushed=set()), set()
    system = types.SimpleNamespace(open=os.open, mkdir=os.mkdir, fsync=os.fsync, rename=os.rename, replace=os.replace)

    def create(path, flags, mode=0o777, **options):
        new = flags & os.O_CREAT and not os.path.lexists(path)
        handle = system.open(path, flags, mode, **options)
        if new:
            seen.created[os.path.basename(path)] = stat.S_IMODE(os.fstat(handle).st_mode)
        return handle

    def mkdir(path, mode=0o777, **options):
        system.mkdir(path, mode, **options)
        seen.created[os.path.basename(path)] = stat.S_IMODE(os.lstat(path).st_mode)

    def fsync(handle):
        system.fsync(handle)
        synced.add(os.fstat(handle).st_ino)
        directory = os.readlink(f"/proc/self/fd/{handle}")
        seen.unflushed = {path for path in seen.unflushed if os.path.dirname(path) != directory}

    def name_with(function):
        def name(source, target, **options):
            state = os.lstat(source)
            seen.named[os.path.basename(target)] = (stat.S_IMODE(state.st_mode), state.st_ino in synced)
            function(source, target, **options)
            seen.unflushed.add(os.path.realpath(os.path.dirname(target)) + "/" + os.path.basename(target))

        return name

    monkeypatch.setattr(os, "open", create)
    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "fsync", fsync)
    for function in ("rename", "replace"):
        monkeypatch.setattr(os, function, name_with(getattr(system, function)))
    return seen


@pytest.fixture
def waits_for_lock():
    """waits_for_lock(path, function): prove that the function, in a process of its own, begins its work only when
    nobody else holds the file's lock.
    """

    def prove(path, function):
        with open(path, "a", encoding="utf-8") as file:
            # A shared lock, so that a function that takes only a shared one does not wait.
            fcntl.flock(file, fcntl.LOCK_SH)
            process = multiprocessing.get_context("fork").Process(target=function)
            process.start()
            waiter = re.compile(rf"-> FLOCK +ADVISORY +WRITE {process.pid} \S+:{os.fstat(file.fileno()).st_ino} ")
            end = time.monotonic() + 60
            try:
                # On a slow machine, a process that is alive may not have begun.
                while not waiter.search(pathlib.Path("/proc/locks").read_text(encoding="utf-8")):
                    assert process.is_alive() and time.monotonic() < end, f"nothing waited for the lock of {path}"
                    time.sleep(0.02)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
                process.join(60)
        assert process.exitcode == 0

    return prove


@pytest.fixture
def two_a_page():
    """two_a_page("s3.ListObjectsV2", "MaxKeys"): AWS's emulator, which a test has started, answers this question in
    pages of two.
    """

    def limit(operation, parameter):
        import boto3

        # moto forgets the default session when it starts.
        boto3.setup_default_session()
        boto3.DEFAULT_SESSION.events.register(f"provide-client-params.{operation}",
                                              lambda params, **_other: {**params, parameter: 2})

    return limit
