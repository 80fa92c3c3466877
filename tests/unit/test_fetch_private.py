"""What playbooks bring to the controller is for its user alone, whatever the umask of the shell."""

import os
import pathlib
import stat

import forks
import pytest
import yaml

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tasks_of(node):
    """All tasks below a list of plays or tasks."""
    for item in node or []:
        if isinstance(item, dict):
            yield item
            for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
                yield from tasks_of(item.get(key))


def the_task(path, name):
    return next(task for task in tasks_of(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))
                if task.get("name") == name)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def run(tmp_path):
    """run(task, variable=value): one task of a playbook on this machine, under the usual umask."""
    def playbook(task, **variables):
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": [task]}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
        before = os.umask(0o022)
        try:
            done = forks.run(["ansible-playbook", "-i", "localhost,", tmp_path / "play.yml"], cwd=ROOT)
        finally:
            os.umask(before)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return playbook


def test_a_fetched_backup(run, tmp_path):
    made = tmp_path / "airflow-1.tar"
    for path in (made, tmp_path / "airflow-1.tar.sha256"):
        path.write_text("x", encoding="utf-8")
        path.chmod(0o644)
    task = the_task("roles/airflow_backup/tasks/operations/back_up.yml", "back_up | Fetch it")
    run(task, __airflow_backup_fetch=str(tmp_path / "new/backups"), __airflow_backup_made=str(made))
    assert [
        mode(tmp_path / name)
        for name in ("new", "new/backups", "new/backups/airflow-1.tar", "new/backups/airflow-1.tar.sha256")
    ] == [0o700, 0o700, 0o600, 0o600]
    # A copy that an older version fetched is closed. The mode of a directory that was there is its owner's business.
    (tmp_path / "new/backups/airflow-1.tar").chmod(0o644)
    (tmp_path / "new/backups").chmod(0o755)
    assert "changed=1" in run(task,
                              __airflow_backup_fetch=str(tmp_path / "new/backups"),
                              __airflow_backup_made=str(made))
    assert mode(tmp_path / "new/backups/airflow-1.tar") == 0o600 and mode(tmp_path / "new/backups") == 0o755


def test_a_support_bundle(run, tmp_path):
    (tmp_path / "bundle.tar.gz").write_text("x", encoding="utf-8")
    task = the_task("playbooks/runbooks/collect_support_bundle.yml", "Bring it")
    run(task, __bundle={"path": str(tmp_path / "bundle.tar.gz")}, __bundle_file=str(tmp_path / "support/main.tar.gz"))
    assert mode(tmp_path / "support") == 0o700 and mode(tmp_path / "support/main.tar.gz") == 0o600
