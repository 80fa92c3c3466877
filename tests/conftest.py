"""Lets plugins be imported by their full names, and found by them in templates: this clone is the collection. And the
package of the hosts by its name.
"""

import json
import pathlib
import sys

import forks
import pytest
from ansible.plugins.loader import init_plugin_loader

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "roles/airflow_runtime/files"))
init_plugin_loader([str(ROOT / "collections")])

forks.compile_templates_once({})


@pytest.fixture
def host_settings(tmp_path, monkeypatch):
    """A host whose directories of Airflow are `config` and `home` in tmp_path, as airflow_runtime sees it."""
    from airflow_runtime import settings

    (tmp_path / "config/secrets").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "airflow_runtime.json").write_text(
        json.dumps({"config_dir": str(tmp_path / "config"), "home": str(tmp_path / "home")}), encoding="utf-8"
    )
    monkeypatch.setattr(settings, "FILE", tmp_path / "airflow_runtime.json")
    monkeypatch.delenv("AIRFLOW_CONFIG", raising=False)
    monkeypatch.delenv("AIRFLOW_HOME", raising=False)
    return tmp_path
