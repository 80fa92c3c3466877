"""The data that preflight judges by fits the rest of the repository."""

import re

from repository import ROLES, ROOT, load

RULES = load(ROOT / "roles/preflight/vars/main.yml")["__preflight_rules"]
SPECS = {name: spec for role in ROLES for name, spec in (load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {}).items()}


def test_every_variable_it_names_exists():
    named = {*RULES["ranges"], *RULES["secrets"], *RULES["secrets_with_source"], *RULES["files"], *(name for names in RULES["exclusive"] for name in names)}
    named |= {rule["variable"] for rule in RULES["ports"] if "variable" in rule} | set(RULES["apart_from_backups"]["variables"])
    named |= {rule["new"] for rule in RULES["renamed"].values() if rule.get("new")}
    assert named <= set(SPECS), sorted(named - set(SPECS))


def test_no_renamed_variable_lives_on():
    assert not set(RULES["renamed"]) & set(SPECS)


def test_defaults_are_in_range():
    wrong = []
    for name, (low, high) in RULES["ranges"].items():
        default = SPECS[name].get("default")
        if isinstance(default, int) and not low <= default <= high:
            wrong.append(name)
    assert not wrong


def test_every_locked_version_has_its_pythons():
    for path in (ROOT / "locks").glob("airflow-*-py*.txt"):
        version = path.name.split("-")[1]
        assert ".".join(version.split(".")[:2]) in RULES["airflow_python"], path.name


def test_one_page_says_for_how_long_each_release_is_supported():
    text = (ROOT / "docs/releases.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| Airflow ([\d., ]+) \|", text, re.MULTILINE)
    assert sorted(version for row in rows for version in row.split(", ")) == sorted(RULES["airflow_python"])


def test_every_group_of_a_component_is_known():
    for path in (ROOT / "roles/airflow_common/vars").glob("airflow_[0-9].yml"):
        data = load(path)
        groups = {component["group"] for component in [*data["__airflow_components"].values(), *data["__airflow_components_optional"].values()]}
        assert groups <= set(RULES["groups"])
        assert not groups & set(RULES["groups_of_nothing"]), "a component runs there now"


def test_sources_and_backends_of_secrets_are_those_of_the_roles():
    assert {"generated", "ansible_vault", *RULES["secrets_names"]} == set(SPECS["airflow_secrets_source"]["choices"])
    assert RULES["secrets_backends"] == list(load(ROOT / "roles/airflow_common/vars/main.yml")["__airflow_secrets_backends"])


def test_what_a_rotation_refuses_preflight_refuses_too():
    assert RULES["secrets_elsewhere"] == load(ROOT / "roles/airflow_secrets/vars/main.yml")["__airflow_secrets_elsewhere_pattern"]
