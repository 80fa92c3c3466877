"""Power is lost just after a build of the virtualenv or a DAG release: after the next run, every file is complete.
bin/test --long power.
"""

import hashlib
import json
import random

import power
import pytest
from conftest import ROOT, host_name
from dag_project import Project
from playbook import play, prepared
from slow_tasks import wait_until_healthy

pytestmark = pytest.mark.long("power")

# Losses of power in a run, of each kind, and the most seconds between the mark and the loss: what nobody writes to the
# disk stays unwritten for 30 s.
LOSSES, SECONDS = 10, 10
# Files of a release, so that it is not written in a moment.
FILES = 200


@pytest.fixture(scope="module", autouse=True)
def _var_is_a_file_system_of_its_own(host):
    """uv's cache is written to the disk right after a build. On this host that would write the build too, which is on
    the same file system.
    """
    host.check_output(
        "cat > /usr/local/bin/sync <<'PROGRAM' && chmod 755 /usr/local/bin/sync && /usr/bin/sync --file-system /\n"
        '#!/bin/sh\ncase $2 in /var/*) ;; *) exec /usr/bin/sync "$@" ;; esac\nPROGRAM'
    )


@pytest.fixture
def lose(host, seed, request):
    """lose(command, directory, mark): run the command, and lose the power at a moment of the seed after it has made the
    mark.
    """

    def run(command, directory, mark, **options):
        delay = random.Random(f"{seed} {request.node.name}").uniform(0, SECONDS)
        lost = power.lose_after(host_name(host), command, directory, mark, delay, **options)
        print(f"{delay:.1f} s after the mark, with {len(lost)} unwritten files")
        return lost

    return run


@pytest.mark.parametrize("number", range(LOSSES))
def test_a_virtualenv_is_complete(host, airflow_version, lose, tmp_path, number):
    # Another content is another virtualenv.
    lock = tmp_path / "lock.txt"
    lock.write_text(
        (ROOT / f"locks/airflow-{airflow_version}-py3.11.txt").read_text(encoding="utf-8") + f"# {number}\n",
        encoding="utf-8")
    with prepared("../site", (), {"airflow_lock": str(lock)}) as (command, options):
        lost = lose(command, "/opt/airflow/venvs", "release.json", **options)
    done = play("../site", airflow_lock=str(lock))
    assert not done.failed, (lost[:20], done.output)
    found = power.ask(host_name(host), "damaged_files.py", "/opt/airflow/venv")
    assert found["recorded"] > 10000 and found["damaged"] == []


@pytest.fixture(scope="module")
def project(tmp_path_factory, host):
    made = Project(tmp_path_factory.mktemp("project"), host, "/opt/airflow/dags")
    made.dag("steady")
    return made


@pytest.mark.parametrize("number", range(LOSSES))
def test_a_dag_release_is_complete(host, setting, project, lose, number):
    for name in ("lib", *(f"part_{part}" for part in range(FILES))):
        project.write(f"include/{name}.py", f"VERSION = {number}\n")
    command = project.command("deploy_dags", "-e", "airflow_dags_validation=false")
    lost = lose(command, f"{project.root}/releases", "REVISION", cwd=ROOT, env=project.environment())
    wait_until_healthy(host, setting)
    project.deploy("-e", "airflow_dags_validation=false")
    release = f"{project.root}/releases/{project.current()}"
    hashes = host.check_output(
        f"cd {release} && find dags include -name '*.py' -type f -exec sha256sum {{}} +").splitlines()
    expected = {
        str(path.relative_to(project.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in project.path.rglob("*.py")
    }
    assert dict(line.split("  ")[::-1] for line in hashes) == expected, lost[:20]
    assert json.loads(host.file(f"{release}/REVISION").content_string)["id"] == project.current()
