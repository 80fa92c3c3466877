"""Module database, unknown: an older Airflow does not know the revision of a newer one."""

import os
import pathlib
import subprocess
import sys
import textwrap

import airflow_stand_ins
import pytest

RUN = pathlib.Path(__file__).resolve().parents[2] / "roles/airflow_runtime/files/run.py"
STAND_INS = {
    **airflow_stand_ins.AIRFLOW,
    "psycopg2.py": """
        import os
        OperationalError = OSError
        class Cursor(list):
            def __enter__(self):
                return self
            def __exit__(self, *_):
                pass
            def execute(self, question, values=()):
                table = values[0] if "to_regclass" in question else question.split()[-1]
                there = os.environ.get(table)
                self[:] = [(table if there else None,)] if "to_regclass" in question else [(there,)]
            def fetchone(self):
                return self[0]
        class Connection:
            __enter__ = lambda self: self
            __exit__ = lambda *_: None
            cursor = lambda _self: Cursor()
        def connect(*_args, **_options):
            return Connection()
        """,
    "airflow/exceptions.py": """
        class AirflowOptionalProviderFeatureException(Exception):
            pass
        """,
    "alembic/script.py": """
        import os, types
        # As Airflow 2 does.
        print("INFO - setup plugin alembic.autogenerate.schemas")
        class ScriptDirectory:
            @staticmethod
            def from_config(_config):
                # The configuration of the Airflow before is not this Airflow's.
                assert os.environ["AIRFLOW_CONFIG"] == os.devnull
                return ScriptDirectory("newest", "older", "oldest")
            def __init__(self, *names):
                self.names = names
            def walk_revisions(self):
                return [types.SimpleNamespace(revision=name) for name in self.names]
        """,
}
# The schema of users of Airflow 3; the provider on Airflow 2; none.
OF_USERS = {"none": {}, "of 2": {
    "airflow/providers/fab/auth_manager/models/db.py": """
        from airflow.exceptions import AirflowOptionalProviderFeatureException
        raise AirflowOptionalProviderFeatureException()
        """,
}, "of 3": {
    "airflow/providers/fab/auth_manager/models/db.py": """
        from alembic.script import ScriptDirectory
        class FABDBManager:
            version_table_name = "alembic_version_fab"
            def __init__(self, session):
                pass
            def get_script_object(self):
                return ScriptDirectory("of-users")
        """,
}}


@pytest.mark.parametrize(("revision", "of_users", "provider", "said"), [
    ("older", "", "of 3", ""), ("newest", "of-users", "of 3", ""),
    ("of-a-newer-airflow", "", "of 3", "of-a-newer-airflow"), ("", "", "of 3", ""),
    # The migration has changed the users, and the rest not yet.
    ("older", "of-newer-users", "of 3", "of-newer-users"), ("older", "of-users", "none", "of-users"),
    ("older", "of-users", "of 2", "of-users"),
    ("older", "", "of 2", ""),
])
def test_it_names_the_revision_that_this_airflow_does_not_know(tmp_path, revision, of_users, provider, said):
    for name, text in {**STAND_INS, **OF_USERS[provider]}.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/sql_alchemy_conn").write_text("postgresql+psycopg2://x", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, RUN, "database", "unknown"],
        text=True,
        capture_output=True,
        check=False,
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "lib"), "AIRFLOW_HOME": str(tmp_path),
            "alembic_version": revision, "alembic_version_fab": of_users,
            "AIRFLOW_CONFIG": str(tmp_path / "airflow.cfg")
        })
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
