"""Every plugin of the collection tells ansible-doc what it is for."""

import importlib
import json
import pathlib
import subprocess
import sys

import pytest
from repository import ROOT

FILES = {"module": "plugins/modules/*.py", "lookup": "plugins/lookup/*.py", "filter": "plugins/filter/*.yml"}


@pytest.mark.parametrize("kind", FILES)
def test_each_plugin_is_documented(kind):
    names = [f"windsock.airflow.{path.stem}" for path in ROOT.glob(FILES[kind])]
    program = pathlib.Path(sys.executable).parent / "ansible-doc"
    done = subprocess.run([program, "--type", kind, "--json", *names], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = json.loads(done.stdout)
    assert documents.keys() == set(names)
    assert [name for name, text in documents.items() if not text.get("doc", {}).get("short_description") or not text.get("examples")] == []
    # antsibull-docs makes no page without them: bin/docs.
    attributes = {name: text["doc"].get("attributes", {}) for name, text in documents.items()}
    assert [(name, key) for name, found in attributes.items() for key, value in found.items() if not value.get("description")] == []


def test_each_filter_has_a_file_with_its_documentation():
    """Ansible looks for it beside the Python file, under the name of the filter."""
    modules = [importlib.import_module(f"ansible_collections.windsock.airflow.plugins.filter.{path.stem}") for path in ROOT.glob("plugins/filter/*.py")]
    assert {name for module in modules for name in module.FilterModule().filters()} == {path.stem for path in ROOT.glob("plugins/filter/*.yml")}
