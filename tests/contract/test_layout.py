"""Variables of a site lie in one layout: group_vars/<group>/<name>.yml. Ansible ignores group_vars/<group>.yml beside such a directory."""

import re

import pytest
from repository import ROOT, source_files

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
            named += [f"{path.relative_to(ROOT)}: {match[0]}" for match in re.finditer(r"group_vars/[\w<>-]+\.(yml|yaml|json)", text)]
    assert not named


def test_python_lies_in_python_files():
    """Neither ruff nor an editor reads it elsewhere."""
    python = re.compile(r"^#!.*python|^(?:import|def|class) \w|^from [\w.]+ import ", re.MULTILINE)
    assert not [str(path.relative_to(ROOT)) for path in ROOT.glob("roles/*/templates/**/*.j2") if python.search(path.read_text(encoding="utf-8"))]
    assert not [str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/**/*.py") if "getsource(" in path.read_text(encoding="utf-8")]


def test_one_place_connects_to_the_database():
    files = [path for folder in ("roles", "plugins", "playbooks") for path in (ROOT / folder).rglob("*.py") if not path.is_symlink()]
    programs = [path for path in files if "psycopg2.connect(" in path.read_text(encoding="utf-8")]
    assert programs == [ROOT / "roles/airflow_runtime/files/airflow_runtime/database_connection.py"]
