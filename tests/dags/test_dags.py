"""The DAGs that come with the repository, loaded by a real Airflow.

Airflow is not in the controller's environment. Name the interpreters to use, separated by colons:

    AIRFLOW_PYTHON=/opt/airflow/venv/bin/python pytest tests/dags

Without one (and without Airflow beside pytest) only the syntax is checked here; the Molecule scenarios run the DAGs.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

DAG_DIR = pathlib.Path(__file__).resolve().parents[2] / "files/dags"
DAG_FILES = sorted(DAG_DIR.glob("*.py"))

EXPECTED = {
    "example_dag.py": {
        "dag_id": "example_dag",
        "edges": {"print_hello": ["show_host"], "show_host": []},
        "types": {"print_hello": "PythonOperator", "show_host": "BashOperator"},
    },
    "tutorial.py": {
        "dag_id": "tutorial",
        "edges": {"print_date": ["sleep", "templated"], "sleep": [], "templated": []},
        "types": {"print_date": "BashOperator", "sleep": "BashOperator", "templated": "BashOperator"},
    },
    "taskflow.py": {
        "dag_id": "tutorial_taskflow",
        "edges": {"extract": ["transform"], "transform": ["load"], "load": []},
        "types": {name: "_PythonDecoratedOperator" for name in ("extract", "transform", "load")},
    },
}

# Runs inside Airflow's own interpreter: executes the DAG files and prints what each made, and the warnings on the way.
PROBE = """
import gc, json, os, runpy, sys, warnings
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
seen = {}
known = set()
for path in sys.argv[1:]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = runpy.run_path(path, run_name="dag_file")
    # type(), because isinstance() would wake the lazy modules that Airflow keeps.
    dags = [o for o in gc.get_objects() if issubclass(type(o), DAG) and id(o) not in known]
    known.update(map(id, dags))
    seen[os.path.basename(path)] = {
        # Warnings about our own lines, and Airflow's own about what we use.
        "warnings": [f"{w.category.__name__}: {w.message}" for w in caught
                     if w.filename == path or "airflow" in w.category.__module__],
        "dags": [{
            "dag_id": d.dag_id,
            "edges": {t.task_id: sorted(t.downstream_task_ids) for t in d.tasks},
            "types": {t.task_id: type(t).__name__ for t in d.tasks},
            "owners": sorted({t.owner for t in d.tasks}),
            "tags": sorted(d.tags), "doc": bool(d.doc_md), "catchup": d.catchup,
        } for d in dags],
    }
    globals()["keep_" + os.path.basename(path)] = (module, dags)
print("PROBE" + json.dumps(seen))
"""


def interpreters():
    named = [path for path in os.environ.get("AIRFLOW_PYTHON", "").split(":") if path]
    return named or ([sys.executable] if importlib.util.find_spec("airflow") else [])


@pytest.fixture(scope="module", params=interpreters() or [None])
def loaded(request, tmp_path_factory):
    """What each DAG file made, by file name. One start of Airflow for all files: it takes seconds."""
    if request.param is None:
        pytest.skip(
            "no Airflow here: set AIRFLOW_PYTHON to the python of an Airflow virtualenv; Molecule runs the DAGs for "
            "real"
        )
    run = subprocess.run(
        [request.param, "-c", PROBE, *map(str, DAG_FILES)], text=True, capture_output=True, check=False, timeout=300,
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow_home")),
             "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"})
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.rpartition("PROBE")[2])


def test_every_dag_file_is_expected():
    assert {path.name for path in DAG_FILES} == set(EXPECTED)


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.name)
def test_syntax(path):
    # The oldest Python of a supported system is 3.10; compile() here uses the controller's.
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.name)
def test_airflow_loads_it_without_a_warning(path, loaded):
    seen = loaded[path.name]
    assert seen["warnings"] == []
    assert len(seen["dags"]) == 1
    dag = seen["dags"][0]
    for key, value in EXPECTED[path.name].items():
        assert dag[key] == value
    assert dag["owners"] == ["airflow"]
    assert dag["tags"] == ["example"]
    assert dag["doc"] and dag["catchup"] is False
