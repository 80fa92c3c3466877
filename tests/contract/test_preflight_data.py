"""The data that the validation judges by fits the rest of the repository."""

import re

from ansible_collections.windsock.airflow.plugins.module_utils.validation import owners
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import (
    airflow_backup,
    airflow_secrets,
    host,
    inventory,
    settings,
)
from ansible_collections.windsock.airflow.plugins.module_utils.validation.types import range_problem
from repository import ROLES, ROOT, load
from shared_variables import VERSIONS, of_major

SUPPORTED = load(ROOT / "roles/preflight/vars/main.yml")["__preflight_supported"]
SPECS = {
    name: spec
    for role in ROLES
    for name, spec in (load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {}).items()
}


def test_every_variable_it_names_exists():
    data = owners.DATA
    named = {
        *data["RANGES"], *data["PATTERNS"], *data["SECRETS"], *data["FILES"],
        *(name for names in data["EXCLUSIVE"] for name in names)
    }
    named |= {rule["variable"] for rule in host.PORTS if "variable" in rule} | {*host.TIMES, *airflow_backup.APART}
    named |= {name for names in host.FOREIGN.values() for name in names}
    named |= {rule["new"] for rule in settings.RENAMED.values() if rule.get("new")}
    assert named <= set(SPECS), sorted(named - set(SPECS))


def test_no_renamed_variable_lives_on():
    assert not set(settings.RENAMED) & set(SPECS)


def test_defaults_are_in_range():
    wrong = []
    for name in owners.DATA["RANGES"]:
        default = SPECS[name].get("default")
        if isinstance(default, int) and range_problem(name, default, owners.DATA["RANGES"]):
            wrong.append(name)
    assert not wrong


def test_every_locked_version_has_its_pythons():
    for path in (ROOT / "locks").glob("airflow-*-py*.txt"):
        version = path.name.split("-")[1]
        assert ".".join(version.split(".")[:2]) in SUPPORTED["airflow_python"], path.name


def test_one_page_says_for_how_long_each_release_is_supported():
    text = (ROOT / "docs/releases.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| Airflow ([\d., ]+) \|", text, re.MULTILINE)
    assert sorted(version for row in rows for version in row.split(", ")) == sorted(SUPPORTED["airflow_python"])


def test_every_group_of_a_component_is_known():
    for data in map(of_major, VERSIONS):
        groups = {
            component["group"]
            for component in [*data["components"].values(), *data["components_optional"].values()]
        }
        assert groups <= set(inventory.GROUPS)
        assert not groups & set(inventory.GROUPS_OF_NOTHING), "a component runs there now"


def test_sources_of_secrets_are_those_of_the_roles():
    assert {"generated", "ansible_vault",
            *airflow_secrets.SECRETS_NAMES} == set(SPECS["airflow_secrets_source"]["choices"])
