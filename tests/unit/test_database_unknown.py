"""database.py unknown: an older Airflow does not know the revision of a newer one."""

import os
import pathlib
import subprocess
import sys
import textwrap

import airflow_stand_ins
import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "roles/airflow/files/database.py"
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
            def execute(self, question, *_):
                there = os.environ["REVISION"]
                self[:] = [("alembic_version" if there else None,)] if "to_regclass" in question else [(there,)]
            def fetchone(self):
                return self[0]
        class Connection:
            __enter__ = lambda self: self
            __exit__ = lambda *_: None
            cursor = lambda _self: Cursor()
        def connect(*_args, **_options):
            return Connection()
        """,
    "alembic/script.py": """
        import os, types
        class ScriptDirectory:
            @staticmethod
            def from_config(_config):
                # The configuration of the Airflow before is not this Airflow's.
                assert os.environ["AIRFLOW_CONFIG"] == os.devnull
                return ScriptDirectory()
            def walk_revisions(self):
                return [types.SimpleNamespace(revision=name) for name in ("newest", "older", "oldest")]
        """,
}


@pytest.mark.parametrize(("revision", "said"), [("older", ""), ("newest", ""), ("of-a-newer-airflow", "of-a-newer-airflow"), ("", "")])
def test_it_names_the_revision_that_this_airflow_does_not_know(tmp_path, revision, said):
    for name, text in STAND_INS.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/sql_alchemy_conn").write_text("postgresql+psycopg2://x", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, PROGRAM, "unknown"], text=True, capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "lib"), "AIRFLOW_HOME": str(tmp_path), "REVISION": revision,
             "AIRFLOW_CONFIG": str(tmp_path / "airflow.cfg")})
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
