"""What DAG releases never do: lose a running task, restart a service for DAG code, leave a host half way. Airflow 3,
after test_deploy_dags.py.
"""

import json
import os
import random
import re
import subprocess

import pytest
from airflow_api import Api
from dag_project import Project
from killed import read_until, start

# What the scenario's other tests validate already.
UNVALIDATED = ("-e", "airflow_dags_validation=false")
MAPPED = '''
import time
from datetime import datetime
from airflow.sdk import DAG, task

with DAG("mapped", start_date=datetime(2024, 1, 1), schedule=None, catchup=False, tags=["tested"],
    default_args={"owner": "team", "retries": 0}):

    @task
    def work(number):
        # Lengths from one second to the whole of the deploys, in no order.
        time.sleep(1 + number * 7 % TASKS * LONGEST / TASKS)
        from include import lib
        return lib.VERSION

    @task
    def collect(seen):
        from include.later import VERSION
        return [*seen, VERSION]

    collect(work.expand(number=list(range(TASKS))))
'''


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def project(tmp_path_factory, host, setting):
    made = Project(tmp_path_factory.mktemp("project"), host, f"{setting('airflow_install_dir')}/dags")
    made.dag("steady")
    return made


def version(project, number):
    """Change every module that tasks import."""
    for name in ("lib", "later"):
        project.write(f"include/{name}.py", f"VERSION = {number}\n")


def units(host):
    """Return what tells a restart of any component."""
    names = "airflow-api-server airflow-dag-processor airflow-scheduler airflow-triggerer"
    return host.check_output(
        f"systemctl show {names} --property=NRestarts --property=MainPID --property=ActiveEnterTimestampMonotonic")


POLL = """
import json, sys, time, urllib.request
from pathlib import Path
asked, errors = 0, []
while not Path(sys.argv[2]).exists():
    begin = time.monotonic()
    for path in ("monitor/health", "version"):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v2/{path}", timeout=60).read()
        except OSError as error:
            errors.append(str(error))
        asked += 1
    time.sleep(max(0, 0.2 - (time.monotonic() - begin)))
Path(sys.argv[2] + ".answer").write_text(json.dumps([asked, errors]))
"""


@pytest.mark.parametrize(("deploys", "running"), [(2, 6), pytest.param(20, 40, marks=pytest.mark.long("deploys"))])
def test_running_tasks_keep_their_release_while_others_come_and_go(project, api, host, setting, deploys, running):
    project.write("dags/mapped.py", MAPPED.replace("LONGEST", str(deploys * 12)).replace("TASKS", str(running)))
    version(project, 0)
    release = project.deploy()
    before = units(host)
    host.run("rm -f /tmp/poll*")
    poll = subprocess.Popen(
        ["docker", "exec", "-i", host.backend.host, "python3", "-",
         str(setting("airflow_api_port")), "/tmp/poll"],
        stdin=subprocess.PIPE,
        text=True)
    poll.stdin.write(POLL)
    poll.stdin.close()

    runs = {api.start_run("mapped"): (0, release)}
    for number in range(1, deploys + 1):
        version(project, number)
        newest = project.deploy(*UNVALIDATED)
        if number == deploys // 2:
            runs[api.start_run("mapped")] = (number, newest)
    for run, (number, pinned) in runs.items():
        assert api.wait("mapped", run, 600) == "success"
        path = f"/dags/mapped/dagRuns/{run.replace('+', '%2B')}"
        assert api.get(path)["bundle_version"] == pinned
        tasks = api.get(f"{path}/taskInstances?limit=100")["task_instances"]
        assert len(tasks) == running + 1
        assert {(task["state"], task["try_number"]) for task in tasks} == {("success", 1)}
        seen = api.get(f"{path}/taskInstances/collect/xcomEntries/return_value?deserialize=false")["value"]
        assert json.loads(seen if isinstance(seen, str) else json.dumps(seen)) == [number] * (running + 1)

    host.check_output("touch /tmp/poll")
    assert poll.wait(30) == 0
    asked, errors = json.loads(host.file("/tmp/poll.answer").content_string)
    assert asked > deploys * 40
    assert errors == []
    assert units(host) == before
    # While it ran, its release was the oldest by far: airflow_dags_keep is 2. Now nobody needs it.
    version(project, "'last'")
    project.deploy(*UNVALIDATED)
    assert release not in project.releases()
    assert len(project.releases()) == 2


# In each phase of a deploy: a kill point, and the seconds after it.
KILLED = [
    ("kill_point: pack_release", 0.2),
    ("kill_point: unpack_release", 0.2),
    ("kill_point: parse_files", 1),
    ("kill_point: place_release", 0),
    ("kill_point: activate_release", 0.3),
    ("kill_point: wait_for_parsing", 0.5),
    ("kill_point: prune_releases", 0.1),
]


# An ordinary run has the kill after which most is left to do: the release is in place and not known to be good.
ONE = [phase for phase in KILLED if phase[0] == "kill_point: wait_for_parsing"]


@pytest.mark.parametrize("phases", [ONE, pytest.param(KILLED, marks=pytest.mark.long("deploys"))], ids=["one", "all"])
def test_after_kills_the_next_deploy_converges(project, host, seed, delay, phases):
    """Each killed deploy comes to its kill point, so it has made good what the one before it had left."""
    if seed:
        phases = random.Random(seed).sample(phases, len(phases))
    for point, seconds in phases:
        version(project, f"'{point}'")
        said = project.kill(point, delay(seconds), *(() if point == "kill_point: parse_files" else UNVALIDATED))
        # It gets the lock: of a killed run nobody keeps it.
        assert "is at work on" not in " ".join(said.split()), said
        assert host.file(f"{project.root}/current/REVISION").exists
    code, output, _changed = project.run("deploy_dags", *UNVALIDATED)
    assert code == 0, output
    assert f"'{point}'" in host.file(f"{project.root}/current/include/lib.py").content_string
    assert not host.file(f"{project.root}/incoming").exists
    assert set(host.check_output(f"ls -A {project.root}").split()) <= {".changing", "current", "history", "releases"}


@pytest.mark.long("deploys")
def test_two_deploys_at_once(project, host):
    before = project.current()
    version(project, "'second'")
    options = {"cwd": os.environ["MOLECULE_PROJECT_DIRECTORY"], "env": project.environment()}
    first = start(project.command("deploy_dags"), options)
    reached, said = read_until(first, "kill_point: pack_release")
    assert reached, said
    code, output, changed = project.run("deploy_dags")
    first.stdout.read()
    assert (code, changed) == (2, 0), output
    assert "is at work on this environment since" in " ".join(output.split())
    assert f"process {first.pid} on" in " ".join(output.split())
    assert first.wait() == 0
    assert project.current() != before


@pytest.fixture
def fleet(project, host, tmp_path, monkeypatch):
    """A second host that only runs tasks: the same container, with releases of its own below /opt/second."""
    name = host.backend.host
    here = {"ansible_connection": "community.docker.docker", "ansible_host": name}
    groups = ["airflow_webserver", "airflow_scheduler", "airflow_dag_processor", "airflow_triggerer"]
    inventory = {
        "all": {
            "hosts": {name: here, "second": {**here, "airflow_install_dir": "/opt/second"}},
            "children": {
                "airflow": {
                    "children": {group: {"hosts": {name: {}}}
                                 for group in groups} | {"airflow_worker": {"hosts": {"second": {}}}}
                }
            },
        }
    }
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(inventory), encoding="utf-8")
    monkeypatch.setenv("MOLECULE_INVENTORY_FILE", str(path))
    host.check_output(
        "mkdir -p /opt/second/dags && ln -sfn /opt/airflow/venv /opt/second/venv && ln -sfn /opt/airflow/libexec "
        "/opt/second/libexec"
    )
    yield Project(project.path, host, "/opt/second/dags")
    host.check_output("rm -rf /opt/second")


@pytest.mark.long("deploys")
def test_a_fleet_has_one_release_or_keeps_the_one_it_had(project, host, fleet):
    version(project, "'fleet'")
    release = project.deploy(*UNVALIDATED)
    assert (project.current(), fleet.current()) == (release, release)

    # A host that can't take the release: nobody switches.
    version(project, "'fleet without room'")
    host.check_output(f"touch {fleet.root}/incoming")
    code, output, _changed = project.run("deploy_dags", *UNVALIDATED)
    assert code != 0
    assert (project.current(), fleet.current()) == (release, release), output
    assert "No host was changed" in output
    host.check_output(f"rm {fleet.root}/incoming")

    # The host that parses can't switch: the other one, which was switched before, goes back.
    host.check_output(f"mkdir -p {project.root}/.current.new/x")
    code, output, _changed = project.run("deploy_dags", *UNVALIDATED)
    host.check_output(f"rm -r {project.root}/.current.new")
    assert code != 0
    assert (project.current(), fleet.current()) == (release, release), output
    assert "changed: [second]" in output.partition("Put the release in place, batch by batch")[2], output

    # A host that a killed run left behind: the next run says so and brings it along.
    newest = project.deploy(*UNVALIDATED)
    host.check_output(f"ln -sfn releases/{release} {fleet.root}/current")
    code, output, _changed = project.run("deploy_dags", *UNVALIDATED)
    assert code == 0, output
    assert "The hosts have different releases in place" in " ".join(output.split())
    assert (project.current(), fleet.current()) == (newest, newest)

    code, output, changed = project.run("deploy_dags", "--limit", "second")
    assert (code, changed) == (2, 0)
    assert f"--limit leaves out {host.backend.host}" in " ".join(output.split())


@pytest.mark.long("deploys")
def test_a_fleet_goes_back_from_a_release_that_airflow_does_not_take(project, fleet):
    version(project, "'fleet before'")
    release = project.deploy(*UNVALIDATED)
    late = project.late()
    code, output, _changed = project.run("deploy_dags", *UNVALIDATED)
    late.unlink()
    assert code != 0
    assert (project.current(), fleet.current()) == (release, release), output


@pytest.mark.long("deploys")
def test_changed_plugins_restart_the_components_once(project, host):
    before = units(host)
    project.write(
        "plugins/shout.py",
        "from airflow.plugins_manager import AirflowPlugin\nclass Shout(AirflowPlugin):\n    name = 'shout'\n")
    project.deploy()
    after = units(host)
    assert before != after
    assert "shout" in host.check_output("airflow plugins -o plain")
    version(project, "'after plugins'")
    project.deploy(*UNVALIDATED)
    assert units(host) == after


# ---- what changes nothing, and does not depend on the version of Airflow


def test_the_same_again_changes_nothing(project):
    code, output, changed = project.run("deploy_dags", *UNVALIDATED)
    assert (code, changed) == (0, 0), output
    assert "is in place on all hosts already" in " ".join(output.split())


def test_its_step_in_site_yml_is_short_and_does_not_undo_a_deploy(project):
    before = project.current()
    code, output, changed = project.run("dags")
    assert (code, changed) == (0, 0), output
    assert "Collect and pack" not in output
    assert project.current() == before


@pytest.mark.parametrize(("release", "said"), [
    ("nothing", "There is no release nothing on this host"),
    pytest.param("", "is in place already", marks=pytest.mark.long("deploys"))])
def test_rollback_is_refused(project, release, said):
    before = project.current()
    code, output, changed = project.run("rollback_dags", "-e", f"airflow_release={release or before}")
    assert (code, changed, project.current()) == (2, 0, before), output
    assert said in " ".join(output.split())
    assert "Valid for -e airflow_release= are" in " ".join(output.split())


def test_the_list_changes_nothing(project):
    code, output, changed = project.run("list_dag_releases")
    assert (code, changed) == (0, 0), output
    assert re.search(rf"\* {project.current()} +verified", output), output
