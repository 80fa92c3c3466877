"""A process that goes on after its Ansible task leaves the directory of the task: Ansible removes it, and another user may not enter it."""

import re

from repository import ROOT, source_files

DIRECTORIES = ("roles", "plugins", "callback_plugins", "vars_plugins", "playbooks", "molecule", "bin")
BEGINS = re.compile(r"\bsetsid [^\s(]|\bnohup\b|\bdisown\b|os\.fork\(|start_new_session=True|poll: 0\b")
LEAVES = re.compile(r"""\bcd /(?![\w"{$])|os\.chdir\("/"\)|chdir: /$""", re.MULTILINE)
# Lines around the command in which the directory must be left.
NEAR = 12
STAYS = {
    "roles/airflow_dags/files/validate.py": "its processes end with it",
    "plugins/action/airflow_environment_lock.py": "it runs on the controller, where ssh reads relative paths in the site's SSH options",
    "playbooks/runbooks/open_ui.yml": "it runs on the controller, where ssh reads relative paths in the site's SSH options from this directory",
}


def begun():
    """(file, number of the line, whether the process leaves its directory) of every process that goes on in the background."""
    for path in source_files():
        name = str(path.relative_to(ROOT))
        if not name.startswith(tuple(f"{directory}/" for directory in DIRECTORIES)) or name.endswith(".md"):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if BEGINS.search(line) and not line.lstrip().startswith("#"):
                yield name, number + 1, bool(LEAVES.search("\n".join(lines[max(0, number - NEAR):number + NEAR])))


def test_background_processes_leave_their_directory():
    found = list(begun())
    assert {"roles/airflow/tasks/begin.yml", "roles/airflow/files/database.py", *STAYS} <= {name for name, _line, _leaves in found}
    assert [f"{name}:{line}" for name, line, leaves in found if not leaves and name not in STAYS] == []
