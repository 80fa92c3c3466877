"""A real PostgreSQL for the tests that need one, where the machine has its programs."""

import glob
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest


@pytest.fixture(scope="session")
def postgresql():
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
        run("initdb", "--pgdata", directory / "data", "--username=airflow", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-k {directory} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "--pgdata", directory / "data", "--wait", "-o", options, "start")
        yield f"postgresql+psycopg2://airflow@/postgres?host={directory}"
    finally:
        if (directory / "data/postmaster.pid").exists():
            run("pg_ctl", "--pgdata", directory / "data", "--mode=immediate", "stop")
        shutil.rmtree(directory)
        (directory.parent / f"{directory.name}.log").unlink(missing_ok=True)
