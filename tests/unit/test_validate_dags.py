"""Module validate_dags, with stand-ins for the parts of Airflow that it uses: what it finds, where, and what a bad file
cannot do to it.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from xml.etree import ElementTree

import pytest

RUN = pathlib.Path(__file__).resolve().parents[2] / "roles/airflow_runtime/files/run.py"
BAG = """
import os, sys, traceback
from airflow.sdk import DAG
class Bag:
    def __init__(self, dag_folder, safe_mode, **options):
        # Only the files that were listed are read, and those whatever they hold.
        assert safe_mode is False
        self.dags, self.import_errors = {}, {}
        sys.path[:0] = [str(options["bundle_path"])] if "bundle_path" in options else []
        found = {}
        try:
            with open(dag_folder, encoding="utf-8") as file:
                exec(compile(file.read(), dag_folder, "exec"), found)
        except Exception:
            depth = int(os.environ["AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH"])
            self.import_errors[dag_folder] = traceback.format_exc(limit=-depth)
        for dag in found.values():
            if isinstance(dag, DAG):
                self.dags[dag.dag_id] = dag
"""
BOTH = {
    "airflow/__init__.py": "",
    "airflow/configuration.py": """
        class Conf:
            def get(self, section, key):
                return {"default_owner": "airflow"}[key]
            def getfloat(self, section, key):
                return {"dagbag_import_timeout": 20.0}[key]
            def getboolean(self, section, key):
                return {"dag_discovery_safe_mode": True}[key]
        conf = Conf()
        """,
    "airflow/settings.py": """
        import types
        engine = types.SimpleNamespace(dispose=lambda: None)
        """,
    "airflow/models/__init__.py": """
        class Connection:
            __table__ = "connection"
        class Variable:
            __table__ = "variable"
        """,
    "airflow/models/base.py": """
        import json, os, types
        def create_all(engine, tables):
            with open(os.path.join(os.environ["AIRFLOW_HOME"], "tables.json"), "w", encoding="utf-8") as file:
                json.dump(tables, file)
        Base = types.SimpleNamespace(metadata=types.SimpleNamespace(create_all=create_all))
        """,
    "airflow/sdk.py": """
        import types
        class DAG:
            def __init__(self, dag_id, tags=(), catchup=None, default_args=None, tasks=1, storable=True):
                self.dag_id, self.tags, self.default_args, self.storable = dag_id, tags, default_args or {}, storable
                owner, retries = self.default_args.get("owner", "airflow"), self.default_args.get("retries", 0)
                self.tasks = [types.SimpleNamespace(owner=owner, retries=retries) for _number in range(tasks)]
        """,
    "airflow/providers/__init__.py": "",
    "airflow/providers/there.py": "import os\nIMPORTED_BY = os.getpid()\n",
    "airflow/serialization/__init__.py": "",
    "airflow/utils/__init__.py": "",
}
STORE = """
class {name}:
    @staticmethod
    def to_dict(dag):
        if not dag.storable:
            raise TypeError("a lambda has no JSON")
        return {{"dag_id": dag.dag_id}}
"""
FILES = """
import glob, os
def list_py_file_paths(directory, safe_mode{more}):
    assert safe_mode is True{check}
    return glob.glob(os.path.join(directory, "*.py"))
def iter_airflow_imports(path):
    yield "airflow.providers.there"
    yield "airflow.providers.gone"
"""
PLUGINS = """
errors = {}
def ensure_plugins_loaded():
    folder = os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"]
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        try:
            with open(path, encoding="utf-8") as file:
                exec(compile(file.read(), path, "exec"), {})
        except Exception as error:
            errors[path] = f"Traceback:\\n{type(error).__name__}: {error}\\n"
"""
MAJORS = {
    2: {
        "airflow/models/__init__.py": BOTH["airflow/models/__init__.py"] + """
        def DagBag(dag_folder, include_examples, safe_mode):
            from bag import Bag
            assert include_examples is False
            return Bag(dag_folder, safe_mode)
        """,
        "airflow/serialization/serialized_objects.py": STORE.format(name="SerializedDAG"),
        "airflow/utils/file.py": FILES.format(more=", include_examples=True", check=" and include_examples is False"),
        "airflow/plugins_manager.py": "import os\n" + PLUGINS.replace("errors", "import_errors"),
        "bag.py": BAG,
    },
    3: {
        "airflow/dag_processing/__init__.py": "",
        "airflow/dag_processing/dagbag.py": BAG + "class BundleDagBag(Bag):\n    pass\n",
        "airflow/serialization/serialized_objects.py": STORE.format(name="DagSerialization"),
        "airflow/utils/file.py": FILES.format(more="", check=""),
        "airflow/plugins_manager.py": "import os\n" + PLUGINS + "def get_import_errors():\n    return errors\n",
    },
}


@pytest.fixture(params=MAJORS)
def major(request):
    return request.param


@pytest.fixture
def validate(tmp_path, major):
    """validate({path: text}, **request): the report on a release of these files."""
    for name, text in {**BOTH, **MAJORS[major]}.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "temporary").mkdir()

    def run(files, **request):
        for name, text in files.items():
            path = tmp_path / "release" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        request = {
            "release": str(tmp_path / "release"), "jobs": 2, "limit": 20, "required_tags": [], "rules": [],
            "rules_source": "", "requirements": [], "environment": {}, **request
        }
        env = {
            "PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path}/lib:{tmp_path}/release",
            "TMPDIR": str(tmp_path / "temporary")
        }
        # As the role does it. In a session of its own, so that a failed test leaves none of its children at work.
        process = subprocess.Popen([sys.executable, RUN, "validate_dags"],
                                   stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   env=env,
                                   cwd=tmp_path,
                                   text=True,
                                   start_new_session=True)
        try:
            out, error = process.communicate(json.dumps(request), timeout=100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        # What a file prints goes nowhere: it may be a secret.
        assert (process.returncode, error) == (0, "")
        # Nothing is left in the release or in the directory for temporary files, and nothing but the answer is printed.
        assert not list((tmp_path / "release").rglob("__pycache__")) and not list((tmp_path / "temporary").iterdir())
        assert len(out.splitlines()) == 1
        return json.loads(out)

    return run


def dag(name, **options):
    return (
        "from airflow.sdk import DAG\ndag = "
        f"DAG({', '.join([repr(name), *(f'{key}={value!r}' for key, value in options.items())])})\n"
    )


def test_a_sound_release_has_no_problems(validate):
    report = validate({
        "dags/a.py": dag("one", tasks=3), "dags/b.py": "print('hello')\n" + dag("two"),
        "dags/c.py": "import os\nos.write(1, b'noise')\n"
    })
    assert (report["problems"], report["dags"], report["files"]) == ([], ["one", "two"], 3)
    assert [line.split()[:3] for line in report["table"]] == [
        ["file", "DAGs", "tasks"], ["dags/a.py", "1", "3"], ["dags/b.py", "1", "1"], ["dags/c.py", "0", "0"]]


# What a file holds, and the problem with it.
BAD = {
    "a syntax error": ("x = 1\nif x\n", "dags/bad.py:2: SyntaxError: expected ':'"),
    "an error on import": ("x = 1\n\nraise ValueError('no such table')\n", "dags/bad.py:3: ValueError: no such table"),
    "a module that is not there": ("import os\nimport pandaz\n",
                                   "dags/bad.py:2: ModuleNotFoundError: No module named 'pandaz'"),
    "an error in an included file": ("import include.lib\n",
                                     "include/lib.py:2: ZeroDivisionError: division by zero (imported by dags/bad.py)"),
    "sys.exit": ("import sys\nsys.exit(3)\n", "dags/bad.py:2: SystemExit: 3"),
    "the end of the process": ("import os\nos._exit(0)\n", "dags/bad.py:1: the process that imported it died"),
    "a crash": ("import os, signal\n\nos.kill(os.getpid(), signal.SIGKILL)\n",
                "dags/bad.py:1: the process that imported it died"),
    "a DAG that cannot be stored": ("x = 1\n" + dag("bad", storable=False),
                                    "dags/bad.py:3: DAG bad can't be stored: a lambda has no JSON"),
    "a cycle": (dag("round") + "raise ValueError('Cycle detected in DAG: round. Faulty task: a')\n",
                "dags/bad.py:2: ValueError: Cycle detected in DAG: round. Faulty task: a"),
    "a DAG of another file": ("\n" + dag("one"), "dags/bad.py:3: dag_id one is also in dags/a.py:2"),
}


def test_each_bad_file_is_named_with_its_line_and_the_others_are_parsed(validate):
    files = {f"dags/bad{number}.py": text for number, (text, _problem) in enumerate(BAD.values())}
    report = validate({"dags/a.py": dag("one"), **files, "dags/c.py": dag("three"), "include/lib.py": "\n1 / 0\n"})
    expected = [
        problem.replace("dags/bad.py", f"dags/bad{number}.py") for number, (_text, problem) in enumerate(BAD.values())
    ]
    assert dict(zip(BAD, report["problems"], strict=True)) == dict(zip(BAD, expected))
    assert {"one", "three"} <= set(report["dags"]) and report["files"] == len(BAD) + 2


@pytest.mark.parametrize(("text", "line"), [
    ("import time\n\ntime.sleep(100)\n", 3),
    # One that hears no signal but the last.
    ("import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))\nwhile True:\n    "
     "time.sleep(1)\n", 3),
])
def test_a_file_that_never_ends_is_killed_and_the_place_is_told(validate, text, line):
    begin = time.monotonic()
    report = validate({"dags/a.py": text, "dags/b.py": dag("two")}, limit=1, jobs=1)
    (problem,) = report["problems"]
    assert problem in [
        f"dags/a.py:{number}: still not imported after 1 s (airflow_dags_parse_limit)" for number in (line, line + 1)
    ]
    assert report["dags"] == ["two"] and time.monotonic() - begin < 60


def test_a_file_may_take_as_long_as_airflow_allows(validate, tmp_path):
    configuration = tmp_path / "lib/airflow/configuration.py"
    configuration.write_text(configuration.read_text(encoding="utf-8").replace("20.0", "1.0"), encoding="utf-8")
    assert validate({"dags/a.py": "import time\ntime.sleep(60)\n"}, limit=50)["problems"] == [
        "dags/a.py:2: still not imported after 1 s (airflow_dags_parse_limit)"]


@pytest.mark.parametrize(("jobs", "together"), [(1, 1), (2, 2)])
def test_as_many_files_at_a_time_as_there_are_jobs(validate, tmp_path, jobs, together):
    text = f"""
        import os, time
        open(f"{tmp_path}/{{os.getpid()}}.at-work", "w").close()
        time.sleep(0.5)
        count = len([name for name in os.listdir("{tmp_path}") if name.endswith(".at-work")])
        open(f"{tmp_path}/counts", "a").write(f"{{count}}\\n")
        time.sleep(0.3)
        os.unlink(f"{tmp_path}/{{os.getpid()}}.at-work")
        """
    assert validate({f"dags/{name}.py": text for name in "abcd"}, jobs=jobs)["problems"] == []
    assert max(map(int, (tmp_path / "counts").read_text(encoding="utf-8").split())) == together


RULES = {
    "a missing tag": (dag("a", tags=["etl"]), {"required_tags": ["etl", "team", "tier"]},
                      ["lacks the tags team, tier (airflow_dags_required_tags)."]),
    "all tags": (dag("a", tags=["etl"]), {"required_tags": ["etl"]}, []),
    "no owner": (dag("a"), {"rules": ["owner"]}, ["has no owner. Set it in default_args or on every task."]),
    "an owner": (dag("a", default_args={"owner": "jane"}), {"rules": ["owner"]}, []),
    "no catchup": (dag("a"), {"rules": ["catchup"]},
                   ["does not say whether it catches up. Write catchup=False or catchup=True."]),
    "a catchup": (dag("a", catchup=False), {"rules": ["catchup"]}, []),
    "a catchup among options": ("from airflow.sdk import DAG\nit = {'catchup': True}\ndag = DAG('a', **it)\n",
                                {"rules": ["catchup"]}, []),
    "no retries": (dag("a"), {"rules": ["retries"]}, ["has no retries. Set retries in default_args or on its tasks."]),
    "retries": (dag("a", default_args={"retries": 1}), {"rules": ["retries"]}, []),
    "no task to retry": (dag("a", tasks=0), {"rules": ["retries"]}, []),
    "no rules": (dag("a"), {}, []),
    "the site's own": (dag("a"), {"rules_source": "def rule_name(dag):\n    yield f'has {len(dag.dag_id)} letters.'\n"},
                       ["has 1 letters."]),
    "the site's own without an answer": (dag("a"), {
        "rules_source": "def rule_name(dag):\n    return None\ndef helper(dag):\n    yield 'no rule.'\n"
    }, []),
}


@pytest.mark.parametrize("major", [3], indirect=True)
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_the_site(validate, rule):
    text, request, said = RULES[rule]
    line = text.count("\n")
    assert validate({"dags/a.py": text},
                    **request)["problems"] == [f"dags/a.py:{line}: DAG a {sentence}" for sentence in said]


def test_what_holds_for_the_whole_release_comes_first_and_counts_as_no_file(validate):
    report = validate(
        {"dags/a.py": "1 / 0\n", "plugins/broken.py": "raise KeyError('x')\n"},
        requirements=["pytest", "no-such-package>=2", "pytest<1  # old", "other; python_version < '3'", "???"])
    table = [line.split()[0] for line in report["table"]]
    assert table == ["file", "(release)", "dags/a.py"] and report["files"] == 1
    installed = report["problems"][1].split("the virtualenv has ")[1].split(".")[0]
    assert report["problems"][0].startswith(
        "requirements.txt: asks for no-such-package>=2, the virtualenv has none. Put it into airflow_extra_packages")
    assert report["problems"][1].startswith("requirements.txt: asks for pytest<1, the virtualenv has ") and int(
        installed) > 1
    assert report["problems"][2].startswith("requirements.txt: '???' can't be read: ")
    assert report["problems"][3:] == [
        "plugins/broken.py: KeyError: 'x'", "dags/a.py:1: ZeroDivisionError: division by zero"
    ]


def test_a_file_runs_with_a_home_and_a_database_of_its_own_whatever_the_site_sets(validate, tmp_path):
    text = f"""
        import json, os
        tables = os.path.join(os.environ["AIRFLOW_HOME"], "tables.json")
        with open(tables) as tables, open("{tmp_path}/seen", "w") as seen:
            json.dump([dict(os.environ), json.load(tables), os.getcwd()], seen)
        """
    validate({"dags/a.py": text},
             environment={
                 "AIRFLOW_HOME": "/var/lib/airflow", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://real",
                 "LEVEL": 7, "AIRFLOW__CORE__FERNET_KEY": "the real one",
                 "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "postgresql://real"
             })
    seen, tables, directory = json.loads((tmp_path / "seen").read_text(encoding="utf-8"))
    # The program begins in the home of the login, which its user may not enter.
    assert directory == "/"
    home = seen["AIRFLOW_HOME"]
    assert home.startswith(str(tmp_path / "temporary")) and not os.path.exists(home)
    assert seen["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{home}/airflow.db"
    assert seen["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] == f"sqlite+aiosqlite:///{home}/airflow.db"
    assert (seen["AIRFLOW__CORE__FERNET_KEY"], seen["LEVEL"]) == ("", "7")
    assert seen["AIRFLOW__CORE__DAGS_FOLDER"] == str(tmp_path / "release/dags")
    # Code that asks for a variable or a connection finds none, instead of no table.
    assert tables == ["connection", "variable"]


def test_what_files_import_of_airflow_is_imported_once_for_all(validate, tmp_path):
    text = f"""
        from airflow.providers import there
        with open("{tmp_path}/imported", "a") as file:
            file.write(f"{{there.IMPORTED_BY}} ")
        """
    assert validate({"dags/a.py": text, "dags/b.py": text})["problems"] == []
    first, second = (tmp_path / "imported").read_text(encoding="utf-8").split()
    assert first == second


@pytest.mark.parametrize("major", [3], indirect=True)
def test_the_report_of_ci_has_a_case_for_each_file(validate):
    report = validate({"dags/a.py": dag("one"), "dags/b.py": "raise ValueError('<&>')\n"})
    suite = ElementTree.fromstring(report["junit"])
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert {case.get("name"): [failure.get("message") for failure in case] for case in suite} == {
        "dags/a.py": [], "dags/b.py": ["dags/b.py:1: ValueError: <&>"]}


def test_a_module_of_the_site_may_have_the_name_of_our_program(validate):
    report = validate(
        {"dags/a.py": "from run import OF_THE_SITE\n" + dag(name="one"), "run.py": "OF_THE_SITE = True\n"})
    assert report["problems"] == []
