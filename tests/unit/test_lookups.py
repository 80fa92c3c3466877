"""Lookups: where the controller has what it reads and writes, and what a role reads of another one."""

import os
import pathlib

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = pathlib.Path(__file__).resolve().parents[2]


def answer(expression, **variables):
    return Templar(loader=DataLoader(),
                   variables=variables).template(trust_as_template("{{ lookup('windsock.airflow.%s') }}" % expression))


def test_a_file_of_the_collection_is_in_this_clone():
    """Not below the link by which the clone finds itself."""
    assert answer("collection_path', 'files/dags") == str(ROOT / "files/dags")


@pytest.mark.parametrize(
    ("site", "below"),
    [("5a1e", "inventory"), ("{{ id_of_another_file }}", "inventory"), ("", "started"), (None, "started")],
)
def test_a_report_is_kept_in_the_site_or_where_the_command_was_started(tmp_path, monkeypatch, site, below):
    for name in ("inventory", "started"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "started")
    variables = {"inventory_dir": str(tmp_path / "inventory"), "id_of_another_file": "5a1e"}
    if site is not None:
        variables["airflow_site_id"] = trust_as_template(site)
    assert answer("artifacts_path', 'health.html", **variables) == str(tmp_path / below / "artifacts/health.html")
    assert answer("artifacts_path', '", **variables) == str(tmp_path / below / "artifacts")
    assert os.listdir(tmp_path / below) == []


def test_a_setting_is_the_value_of_the_inventory_or_the_default_of_its_role():
    assert answer("setting', 'reverse_proxy_https_port") == 443
    assert answer("setting', 'reverse_proxy_https_port", reverse_proxy_https_port=8443) == 8443
    assert answer("setting', 'airflow_services_heartbeat_timeout") == 30
    # The name of a variable need not begin with that of its role.
    assert answer("setting', 'airflow_pools") == {}
    # Defaults may name other variables.
    given = {"airflow_admin_user": "ann", "airflow_services_heartbeat_timeout": trust_as_template("{{ 4 * 5 }}")}
    assert answer("setting', 'airflow_services_heartbeat_timeout", **given) == 20


def test_a_setting_that_no_role_owns_is_refused():
    with pytest.raises(AnsibleError, match="no role of this collection has a variable reverse_proxy_htps_port"):
        answer("setting', 'reverse_proxy_htps_port")
