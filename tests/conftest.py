"""Lets plugins be imported by their full names, and found by them in templates: this clone is the collection. And the package of the hosts by its name."""

import inspect
import json
import pathlib
import sys

import jinja2
import pytest
from ansible._internal._templating._jinja_bits import _TemplateCompileContext
from ansible.plugins.loader import init_plugin_loader

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "roles/airflow_runtime/files"))
init_plugin_loader([str(ROOT / "collections")])

# What the code of a template depends on.
OPTIONS = list(inspect.signature(jinja2.Environment).parameters)[:12]
assert OPTIONS[-1] == "keep_trailing_newline"
COMPILED = {}


def compile_once(self, source, *arguments, compile_template=jinja2.Environment.compile, **named):
    """Compile a template once. Ansible does it each time that something reads a variable, which is most of the work of the tests that render."""
    if not isinstance(source, str):
        return compile_template(self, source, *arguments, **named)
    context = _TemplateCompileContext.current(optional=True)
    key = (type(self), source, arguments, *named.items(), *(getattr(self, name) for name in OPTIONS), context and context.escape_backslashes)
    if key not in COMPILED:
        COMPILED[key] = compile_template(self, source, *arguments, **named)
    return COMPILED[key]


jinja2.Environment.compile = compile_once


@pytest.fixture
def host_settings(tmp_path, monkeypatch):
    """A host whose directories of Airflow are `config` and `home` in tmp_path, as airflow_runtime sees it."""
    from airflow_runtime import settings

    (tmp_path / "config/secrets").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "airflow_runtime.json").write_text(json.dumps({"config_dir": str(tmp_path / "config"), "home": str(tmp_path / "home")}),
                                                   encoding="utf-8")
    monkeypatch.setattr(settings, "FILE", tmp_path / "airflow_runtime.json")
    monkeypatch.delenv("AIRFLOW_CONFIG", raising=False)
    monkeypatch.delenv("AIRFLOW_HOME", raising=False)
    return tmp_path
