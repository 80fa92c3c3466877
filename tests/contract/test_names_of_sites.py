"""Parameters of operations: no playbook and no role reads a name that a site may have in its group_vars."""

import re
import warnings

import jinja2
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import parameters
from jinja2 import meta
from repository import ROOT, load

FORMER = {parameters.former(name, spec) for specs in parameters.PLAYBOOKS.values() for name, spec in specs.items()}
CONDITIONS = ("when", "that", "until", "failed_when", "changed_when")


class Any(dict):
    """Filters or tests of every name: Ansible's are of no matter here."""

    def get(self, key, default=None):
        return str


ENVIRONMENT = jinja2.Environment()
ENVIRONMENT.filters, ENVIRONMENT.tests = Any(), Any()
PATTERNS = ("playbooks/**/*.yml", "roles/*/*/**/*.yml", "group_vars/*/*.yml")
FILES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern) if path.parent.name != "meta")
# What a task gives to a file that it renders.
GIVEN = {"component"}


def read(text):
    """Return the variables that a template reads from outside of it."""
    if not any(re.search(rf"\b{name}\b", text) for name in FORMER):
        return set()
    with warnings.catch_warnings():
        # Of patterns in texts.
        warnings.simplefilter("ignore", DeprecationWarning)
        return meta.find_undeclared_variables(ENVIRONMENT.parse(text)) & FORMER


def templates(data, condition=False):
    """Yield the templates of a file of YAML."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from templates(value, key in CONDITIONS)
    elif isinstance(data, list):
        for value in data:
            yield from templates(value, condition)
    elif isinstance(data, str):
        if condition or "{{" in data or "{%" in data:
            yield "{{ %s }}" % data if condition else data


def test_none_of_the_former_names_is_read():
    """A site may use them for itself. A rollback must not go to what the site has in its variable release."""
    found = {f"{path.relative_to(ROOT)}: {name}" for path in FILES for text in templates(load(path))
             for name in read(text)}
    found |= {f"{path.relative_to(ROOT)}: {name}" for path in ROOT.glob("roles/*/templates/*")
              for name in read(path.read_text(encoding="utf-8")) - GIVEN}
    assert not found


def test_a_playbook_reads_its_own_parameters():
    """And each playbook with parameters exists."""
    asked = {}
    for path in ROOT.glob("playbooks/**/*.yml"):
        name = str(path.relative_to(ROOT / "playbooks").with_suffix(""))
        asked[name] = set(re.findall(r"windsock\.airflow\.parameters', '([\w/]+)'", path.read_text(encoding="utf-8")))
    assert {name: found for name, found in asked.items() if found} == {name: {name} for name in parameters.PLAYBOOKS}


def test_no_parameter_is_a_variable_of_a_role():
    variables = {name for path in ROOT.glob("roles/*/defaults/main.yml") for name in load(path) or {}}
    assert not variables & parameters.NAMES


def test_the_page_of_renamed_names_has_each_parameter():
    page = (ROOT / "docs/renamed.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(airflow_\w+)` \| ([^|]+) \|$", page, re.M)
    wanted = {}
    for playbook, specs in parameters.PLAYBOOKS.items():
        for name, spec in specs.items():
            wanted.setdefault((parameters.former(name, spec), name), []).append(f"`{playbook}`")
    assert rows == [(*names, ", ".join(wanted[names])) for names in sorted(wanted)]
