"""Variables of a site lie in one layout: group_vars/<group>/<name>.yml. Ansible ignores group_vars/<group>.yml beside
such a directory.
"""

import re

import pytest
from repository import OLD_PLAYBOOKS, ROLES, ROOT, load, module_of, offenders, source_files, task_files, tasks_of

# Says how to leave the other layout.
ALLOWED = {"docs/update.md"}
READ_BY_PEOPLE = ["README.md", "CONTRIBUTING.md", "docs", "roles", "playbooks", "inventories", "bin", "plugins"]


@pytest.mark.parametrize("kind", ["group_vars", "host_vars"])
def test_inventories_have_directories_only(kind):
    assert not [path for path in ROOT.glob(f"inventories/*/{kind}/*") if path.is_file()]


def test_no_document_and_no_message_names_the_other_layout():
    named = []
    for path in source_files():
        if path.relative_to(ROOT).parts[0] in READ_BY_PEOPLE and str(path.relative_to(ROOT)) not in ALLOWED:
            text = path.read_text(encoding="utf-8", errors="replace")
            named += [
                f"{path.relative_to(ROOT)}: {match[0]}"
                for match in re.finditer(r"group_vars/[\w<>-]+\.(yml|yaml|json)", text)
            ]
    assert not named


def test_python_lies_in_python_files():
    """Neither ruff nor an editor reads it elsewhere."""
    python = re.compile(r"^#!.*python|^(?:import|def|class) \w|^from [\w.]+ import ", re.MULTILINE)
    assert not [
        str(path.relative_to(ROOT))
        for path in ROOT.glob("roles/*/templates/**/*.j2") if python.search(path.read_text(encoding="utf-8"))
    ]
    assert not [
        str(path.relative_to(ROOT))
        for path in ROOT.glob("roles/**/*.yml") if re.search(r"python3? -c\b", path.read_text(encoding="utf-8"))
    ]
    assert not [
        str(path.relative_to(ROOT))
        for path in ROOT.glob("plugins/**/*.py") if "getsource(" in path.read_text(encoding="utf-8")
    ]
    arguments = [(path, task["name"], made["argv"]) for path in task_files() for task in tasks_of(load(path))
                 for made in [module_of(task)[1]] if isinstance(made, dict) and isinstance(made.get("argv"), list)]
    assert not [(path.name, name) for path, name, argv in arguments for program, option in zip(argv, argv[1:])
                if "python" in str(program) and option == "-c"]
    assert not [path.name for path in ROOT.glob("plugins/**/*.py")
                if re.search(r"""["']python3?["'], ["']-c["']""", path.read_text(encoding="utf-8"))]


def test_one_place_connects_to_the_database():
    files = [path for folder in ("roles", "plugins", "playbooks") for path in (ROOT / folder).rglob("*.py")]
    programs = [
        path for path in files if "psycopg2.connect(" in path.read_text(encoding="utf-8") and not path.is_symlink()
    ]
    assert programs == [ROOT / "roles/airflow_runtime/files/airflow_runtime/database_connection.py"]


VERBS = {"main.yml", "validate.yml", "install.yml", "configure.yml", "service.yml", "verify.yml"}


def test_each_role_has_the_same_anatomy():
    """The verbs of a role; operations that a person runs; steps, which are parts of both. AWS roles provision instead.
    """
    def judge(role):
        names = {str(path.relative_to(role / "tasks")) for path in role.glob("tasks/**/*.yml")}
        verbs = VERBS | ({"provision.yml"} if role.name.startswith("aws_") else set())
        return sorted(name for name in names if name not in verbs and name.split("/")[0] not in ("operations", "steps"))

    assert not offenders(judge, ROLES)


@pytest.mark.parametrize(("old", "new"), OLD_PLAYBOOKS.items())
def test_an_old_playbook_prints_the_new_path(old, new):
    (play,) = load(ROOT / old)
    (task,) = play["tasks"]
    assert (ROOT / new).exists() and (play["hosts"], play["tags"]) == ("localhost", ["always"])
    message = task["ansible.builtin.fail"]["msg"]
    assert message.startswith(f"{old} is now {new}. Nothing was changed.") and f"'{new}') }}}}" in message
