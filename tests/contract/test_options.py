"""What preflight knows of Airflow's options fits the locks and what the roles themselves write into airflow.cfg."""

import pytest
from repository import ROOT, load
from shared_variables import of_major

VERSIONS = sorted({path.name.split("-")[1] for path in (ROOT / "locks").glob("airflow-*-py*.txt")})


def known(version):
    return load(ROOT / f"roles/preflight/files/airflow_options/{version}.yml")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_locked_version_has_its_options(version):
    data = known(version)
    assert len(data["sections"]) > 15 and data["sections"]["core"]["parallelism"]
    assert {"aws", "celery", "fab"} & set(data["sections_of_providers"])
    assert {"string", "integer", "float",
            "boolean"} <= {kind
                           for options in data["sections"].values()
                           for kind in options.values()}


def test_there_are_no_options_of_other_versions():
    assert sorted(path.stem for path in (ROOT / "roles/preflight/files/airflow_options").iterdir()) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_the_roles_write_only_options_that_airflow_has(version):
    data, roles = known(version), of_major(version[0])
    unknown = []
    for name in ("config_defaults", "config_behind_proxy"):
        for section, options in roles[name].items():
            if isinstance(options, str):
                # A template.
                continue
            there = {**data["sections_of_providers"].get(section, {}), **data["sections"].get(section, {})}
            # An option that only some versions have is none, which leaves it out, in the others.
            unknown += [
                f"{section}.{option}" for option, value in options.items() if "else none }}" not in str(value)
                if not {option, option.removesuffix("_cmd")} & set(there) or f"{section}.{option}" in data["renamed"]
            ]
    assert not unknown
