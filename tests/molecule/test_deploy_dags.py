"""The life of DAG releases, on both majors: deployed, refused, switched back, rolled back. The tests build on each
other.
"""

import json
import re

import pytest
from airflow_api import Api
from conftest import ROOT
from dag_project import Project


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def project(tmp_path_factory, host, setting):
    made = Project(tmp_path_factory.mktemp("project"), host, f"{setting('airflow_install_dir')}/dags")
    made.write("include/lib.py",
               f"# Other content than in a run of these tests before this one: {made.path}\nVERSION = 1\n")
    made.dag("stays")
    made.dag("goes")
    yield made
    # Back to the DAGs that other tests run.
    code, output, _changed = made.run("deploy_dags", "-e", f"airflow_dags_source={ROOT}/files/dags", "-e",
                                      "airflow_dags_validation=false")
    assert code == 0, output


def known(api):
    """Return the DAGs that Airflow holds for there."""
    only = "exclude_stale=true" if api.major == 3 else "only_active=true"
    return {dag["dag_id"]: dag for dag in api.get(f"/dags?{only}")["dags"]}


def answer(api, dag):
    """Run a DAG and return what its task imported."""
    run = api.start_run(dag)
    assert api.wait(dag, run) == "success"
    path = f"/dags/{dag}/dagRuns/{run.replace('+', '%2B')}"
    return int(api.get(f"{path}/taskInstances/answer/xcomEntries/return_value")["value"]), api.get(path)


# The long part has all tests on both majors: they build on each other.
BOTH = pytest.mark.long("deploys", ordinary=True)
# What differs between the majors is in the tests before.
ON_3 = pytest.mark.long("deploys", ordinary=3)


@BOTH
def test_first_deploy(project, api):
    before = project.current()
    code, output, changed = project.run("deploy_dags")
    assert code == 0, output
    assert changed
    text = " ".join(output.split())
    assert f"{project.path} deployed as release {project.current()} (begin" in text
    assert project.current() != before
    assert set(known(api)) == {"stays", "goes"}


@BOTH
def test_the_release_says_where_it_comes_from(project, host):
    revision = host.file(f"{project.root}/current/REVISION").content_string
    for text in (f'"id": "{project.current()}"', f'"source": "{project.path}"', '"files": 3', '"goes"'):
        assert text in revision
    release = host.file(f"{project.root}/releases/{project.current()}")
    assert (release.user, release.mode) == ("root", 0o750)


@ON_3
def test_a_new_version(project, api):
    assert answer(api, "stays")[0] == 1
    project.write("include/lib.py", "VERSION = 2\n")
    (project.path / "dags/goes.py").unlink()
    project.dag("comes")
    release = project.deploy()
    assert set(known(api)) == {"stays", "comes"}
    value, run = answer(api, "comes")
    assert value == 2
    if api.major == 3:
        assert run["bundle_version"] == release
        version = api.get("/dags/comes/dagVersions")["dag_versions"][-1]
        assert version["bundle_version"] == release


HOOK = """
- name: Note what is in place
  ansible.builtin.shell: |-
    release="{{{{ airflow_deploy.previous }}}} to {{{{ airflow_deploy.release }}}}"
    echo "{name} $release: $(readlink {root}/current)" >> /run/deploys
- name: Refuse
  ansible.builtin.fail:
    msg: The site says no
  when: fails | default('') == '{name}'
"""
BROKEN = {
    "syntax.py": ("from airflow import DAG\nx = (\n", r"dags/syntax\.py:2: SyntaxError"),
    "missing.py": ("from airflow import DAG\nimport no_such_module\n",
                   r"dags/missing\.py:2: ModuleNotFoundError: No module named 'no_such_module'"),
    "deep.py": ("from airflow import DAG\nimport include.bad\n",
                r"include/bad\.py:3: ValueError: bad \(imported by dags/deep\.py\)"),
    "hangs.py": ("from airflow import DAG\nimport time\ntime.sleep(60)\n",
                 r"dags/hangs\.py:3: still not imported after 4 s"),
    "exits.py": ("from airflow import DAG\nimport sys\nsys.exit(0)\n", r"dags/exits\.py:3: SystemExit"),
}
CYCLE = '''
from datetime import datetime
from airflow import DAG
try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:
    from airflow.operators.empty import EmptyOperator
with DAG("turns", start_date=datetime(2024, 1, 1), schedule=None, catchup=False, tags=["tested"],
    default_args={"owner": "team"}):
    first, second = EmptyOperator(task_id="first"), EmptyOperator(task_id="second")
    first >> second >> first
'''


@ON_3
def test_a_broken_version_is_refused_with_file_and_line(project, tmp_path):
    before = project.current(), project.releases()
    for name, (text, _said) in BROKEN.items():
        project.write(f"dags/{name}", text)
    project.write("include/bad.py", "\n\nraise ValueError('bad')\n")
    project.write("dags/cycle.py", CYCLE)
    project.write("dags/twin.py", (project.path / "dags/stays.py").read_text(encoding="utf-8"))
    project.write(
        "dags/lax.py",
        CYCLE.replace(" >> first\n", "\n").replace("turns", "lax").replace(", catchup=False, tags=[\"tested\"]", ""))
    project.write("dags/.airflowignore", "^ignored[.]py$\nignored.py\n")
    project.write("dags/ignored.py", "from airflow import DAG\nraise SystemError\n")
    project.write("requirements.txt", "no-such-package>=2\n")
    report = tmp_path / "report.xml"
    code, output, _changed = project.run("deploy_dags", "-e", f"airflow_dags_junit={report}", "-e",
                                         "airflow_dags_parse_limit=4")
    for path in [*project.path.glob("dags/*"), project.path / "include/bad.py", project.path / "requirements.txt"]:
        if path.stem not in ("stays", "comes"):
            path.unlink()
    assert code != 0
    text = " ".join(output.split())
    for said in [
            *(said for _text, said in BROKEN.values()),
            r"dags/cycle\.py:8: AirflowDagCycleException",
            r"dags/twin\.py:\d+: dag_id stays is also in dags/stays\.py:10",
            r"requirements\.txt: asks for no-such-package>=2, the virtualenv has none\. Put it into "
            r"airflow_extra_packages and run playbooks/airflow\.yml",
    ]:
        assert re.search(said, text), said + "\n" + output
    assert "dags/ignored.py" not in text
    assert (project.current(), project.releases()) == before
    assert '<testcase classname="dags" name="dags/syntax.py"' in report.read_text(encoding="utf-8")


@ON_3
def test_a_release_that_airflow_does_not_take_is_switched_back_by_itself(project, api):
    before = project.current()
    late = project.late()
    code, output, _changed = project.run("deploy_dags")
    late.unlink()
    text = " ".join(output.split())
    assert code != 0
    assert re.search(r"late\.py: RuntimeError: not as a service", text), output
    assert f"All hosts are back on release {before}" in text, output
    assert project.current() == before
    assert set(known(api)) == {"stays", "comes"}
    assert " failed " in project.run("list_dag_releases")[1]


@ON_3
def test_rollback(project, api):
    here = project.current()
    code, output, _changed = project.run("rollback_dags")
    assert code == 0, output
    there = project.current()
    assert f"Rolled back from release {here} to release {there}" in " ".join(output.split())
    assert set(known(api)) == {"stays", "goes"}
    assert answer(api, "stays")[0] == 1
    code, output, _changed = project.run("rollback_dags", "-e", f"airflow_release={here}")
    assert code == 0, output
    assert project.current() == here


@ON_3
def test_tasks_of_the_site_run_before_and_after_a_deploy(project, host, tmp_path):
    """If one fails, the hosts keep or get back the release that they had."""
    before = project.current()
    host.check_output("rm -f /run/deploys")
    for name in ("before", "after"):
        (tmp_path / f"{name}.yml").write_text(HOOK.format(name=name, root=project.root), encoding="utf-8")
    files = {
        "airflow_dags_deploy_before": [f"{tmp_path}/before.yml"],
        "airflow_dags_deploy_after": [f"{tmp_path}/after.yml"]
    }
    hooks = ["-e", json.dumps(files)]
    project.dag("comes", task="other")
    release = project.deploy(*hooks)
    assert host.file("/run/deploys").content_string.splitlines() == [
        f"before {before} to {release}: releases/{before}", f"after {before} to {release}: releases/{release}"]
    project.dag("comes", task="third")
    code, output, _changed = project.run("deploy_dags", *hooks, "-e", "fails=after")
    text = " ".join(output.split())
    assert code != 0 and "The site says no" in text and f"All hosts are back on release {release}" in text, output
    assert project.current() == release
    code, output, _changed = project.run("deploy_dags", *hooks, "-e", "fails=before")
    text = " ".join(output.split())
    assert code != 0 and "The site says no" in text and "No host was changed." in text, output
    assert project.current() == release
    project.dag("comes")
    assert project.deploy() == before
