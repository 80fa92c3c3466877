"""Refuse an airflow.cfg with an option that this Airflow does not know, has renamed, or cannot read: FILE.

Passed to the interpreter in single quotes, so there are none here, and no percent sign.
"""

import configparser
import difflib
import importlib
import os
import sys
import tempfile

# Airflow writes into its home when it is imported.
home = tempfile.TemporaryDirectory()
os.environ["AIRFLOW_HOME"] = home.name
file = configparser.ConfigParser(interpolation=None)
file.optionxform = str
file.read(sys.argv[1])
executor = file.get("core", "executor", fallback="")
if executor:
    # No connection is made. Airflow 2 refuses most executors with SQLite, which is its default.
    os.environ |= {"AIRFLOW__CORE__EXECUTOR": executor, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://nobody@localhost/nothing"}

from airflow.configuration import conf  # noqa: E402

# Some types of the reference are looser than what Airflow does with the value, so only these three are checked.
READERS = {"integer": int, "float": float, "boolean": lambda text: {"true": 1, "t": 1, "1": 1, "false": 0, "f": 0, "0": 0}[text.lower()]}

known = {section: dict(body["options"]) for section, body in conf.configuration_description.items()}
try:
    from airflow.providers_manager import ProvidersManager

    for _provider, sections in ProvidersManager().provider_configs:
        for section, body in sections.items():
            known.setdefault(section, {}).update(body["options"])
except ImportError:
    pass

problems = []
for section in file.sections():
    if section not in known:
        near = difflib.get_close_matches(section, known, 1, 0.8)
        problems.append(f"airflow_config.{section}: no section of this Airflow" + (f"; did you mean {near[0]}?" if near else ""))
        continue
    for key, value in file[section].items():
        name = key[:-4] if key.endswith("_cmd") else key[:-7] if key.endswith("_secret") and key not in known[section] else key
        renamed = conf.inversed_deprecated_options.get((section, key))
        if renamed:
            problems.append(f"airflow_config.{section}.{key}: now called {renamed[0]}.{renamed[1]}")
        elif name not in known[section]:
            near = difflib.get_close_matches(key, known[section], 1, 0.8)
            problems.append(f"airflow_config.{section}.{key}: no option of this Airflow" + (f"; did you mean {near[0]}?" if near else ""))
        elif name == key:
            kind = known[section][key].get("type")
            try:
                READERS.get(kind, str)(value.strip())
            except (KeyError, ValueError):
                problems.append(f"airflow_config.{section}.{key}: {value!r} is not of type {kind}")
try:
    if executor:
        from airflow.executors.executor_loader import ExecutorLoader

        for name in ExecutorLoader._get_executor_names():
            ExecutorLoader.import_executor_cls(name)
except Exception as error:
    problems.append(f"airflow_executor: {executor}: {error}. Valid are a name that this Airflow knows and the import path of a class, one or several "
                    "with commas between them; where the lock lacks its package, that goes into airflow_extra_packages.")
backend = file.get("secrets", "backend", fallback="")
module, _, attribute = backend.rpartition(".")
try:
    if backend:
        getattr(importlib.import_module(module), attribute)
except (AttributeError, ImportError, ValueError) as error:
    package = "-".join(["apache-airflow-providers", *backend.split(".")[2:3]]) if backend.startswith("airflow.providers.") else "its package"
    problems.append(f"airflow_secrets_backend.backend: {error}; where the lock lacks {package}, it goes into airflow_extra_packages")
if problems:
    sys.exit("\n".join(problems))
