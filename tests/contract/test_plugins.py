"""Every plugin of the collection tells ansible-doc what it is for."""

import importlib
import json

import forks
import pytest
from repository import ROOT, load, module_of, task_files, tasks_of

FILES = {"module": "plugins/modules/*.py", "lookup": "plugins/lookup/*.py", "filter": "plugins/filter/*.yml"}


@pytest.mark.parametrize("kind", FILES)
def test_each_plugin_is_documented(kind):
    names = [f"windsock.airflow.{path.stem}" for path in ROOT.glob(FILES[kind])]
    done = forks.run(["ansible-doc", "--type", kind, "--json", *names], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    documents = json.loads(done.stdout)
    assert documents.keys() == set(names)
    assert [
        name for name, text in documents.items()
        if not text.get("doc", {}).get("short_description") or not text.get("examples")
    ] == []
    # antsibull-docs makes no page without them: bin/docs.
    attributes = {name: text["doc"].get("attributes", {}) for name, text in documents.items()}
    assert [(name, key) for name, found in attributes.items() for key, value in found.items()
            if not value.get("description")] == []


def test_each_filter_has_a_file_with_its_documentation():
    """Ansible looks for it beside the Python file, under the name of the filter."""
    modules = [
        importlib.import_module(f"ansible_collections.windsock.airflow.plugins.filter.{path.stem}")
        for path in ROOT.glob("plugins/filter/*.py")
    ]
    assert {name for module in modules for name in module.FilterModule().filters()} == {
        path.stem for path in ROOT.glob("plugins/filter/*.yml")
    }


def test_a_condition_is_refused_by_a_rule_or_by_an_assertion():
    """fail only ends a run that failed before, so it has no condition of its own."""
    assert not [
        f"{path.relative_to(ROOT)}: {task['name']}" for path in task_files()
        for task in tasks_of(load(path) or []) if "ansible.builtin.fail" in task and "when" in task
    ]


def test_no_argument_list_of_a_module_of_ours_is_one_template():
    """Ansible warns of it unless ansible.cfg says otherwise, and a site needs no ansible.cfg of ours."""
    whole = [
        f"{path}: {task['name']}" for path in task_files() for task in tasks_of(load(path))
        for module, arguments in [module_of(task)]
        if module.startswith("windsock.airflow.") and isinstance(arguments, str)
    ]
    assert whole == []


def test_yaml_holds_no_programs():
    """A loop that computes a value is a filter, whose test needs no play. Loops over lines of a text are fine."""
    files = [path for folder in ("roles", "playbooks", "group_vars") for path in (ROOT / folder).rglob("*.yml")]
    lines = [(path, line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    wrong = [f"{path.relative_to(ROOT)}: {line.strip()}" for path, line in lines if "{%-" in line or "{% set" in line]
    assert wrong == []
