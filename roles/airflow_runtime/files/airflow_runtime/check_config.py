"""Refuse an airflow.cfg with an option that this Airflow does not know, has renamed, or cannot read.

check_config FILE
"""

from __future__ import annotations

import configparser
import difflib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Some types of the reference are looser than what Airflow does with the value, so only these three are checked.
READERS: dict[str | None, Callable[[str], Any]] = {
    "integer": int, "float": float,
    "boolean": lambda text: {"true": 1, "t": 1, "1": 1, "false": 0, "f": 0, "0": 0}[text.lower()],
}


def near(name: str, names: Iterable[str]) -> str:
    """Return the end of a message with the name that was probably meant."""
    found = difflib.get_close_matches(name, names, 1, 0.8)
    return f"; did you mean {found[0]}?" if found else ""


def known_options(conf: Any) -> dict[str, dict[str, Any]]:
    """Return {section: {option: its description}} of Airflow and of its providers."""
    known = {section: dict(body["options"]) for section, body in conf.configuration_description.items()}
    try:
        from airflow.providers_manager import ProvidersManager

        for _provider, sections in ProvidersManager().provider_configs:
            for section, body in sections.items():
                known.setdefault(section, {}).update(body["options"])
    except ImportError:
        pass
    return known


def options(file: configparser.ConfigParser, conf: Any) -> Iterator[str]:
    """Yield what is wrong with the options."""
    known = known_options(conf)
    for section in file.sections():
        if section not in known:
            yield f"airflow_config.{section}: no section of this Airflow{near(section, known)}"
            continue
        for key, value in file[section].items():
            name = key[:-4] if key.endswith(
                "_cmd") else key[:-7] if key.endswith("_secret") and key not in known[section] else key
            renamed = conf.inversed_deprecated_options.get((section, key))
            if renamed:
                yield f"airflow_config.{section}.{key}: now called {renamed[0]}.{renamed[1]}"
            elif name not in known[section]:
                yield f"airflow_config.{section}.{key}: no option of this Airflow{near(key, known[section])}"
            elif name == key:
                kind = known[section][key].get("type")
                try:
                    READERS.get(kind, str)(value.strip())
                except (KeyError, ValueError):
                    yield f"airflow_config.{section}.{key}: {value!r} is not of type {kind}"


def import_executors() -> None:
    """Import what AIRFLOW__CORE__EXECUTOR names."""
    from airflow.executors.executor_loader import ExecutorLoader

    for name in ExecutorLoader._get_executor_names():
        ExecutorLoader.import_executor_cls(name)


def use_executor(executor: str) -> None:
    """Set what Airflow reads before it is imported. No connection is made: Airflow 2 refuses most executors with
    SQLite, its default.
    """
    os.environ["AIRFLOW__CORE__EXECUTOR"] = executor
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "postgresql+psycopg2://nobody@localhost/nothing"


def wrong_executor(executor: str, error: Exception) -> str:
    """Return what there is to say of an executor that cannot be imported."""
    return (
        f"airflow_executor: {executor}: {error}. Valid are a name that this Airflow knows and the import path of a "
        "class, one or several with "
        "commas between them; where the lock lacks its package, that goes into airflow_extra_packages.")


def problems(path: str) -> Iterator[str]:
    """Yield what is wrong with the file."""
    file = configparser.ConfigParser(interpolation=None)
    file.optionxform = str  # type: ignore[assignment, method-assign]
    file.read(path)
    executor = file.get("core", "executor", fallback="")
    if executor:
        use_executor(executor)
    from airflow.configuration import conf

    yield from options(file, conf)
    try:
        if executor:
            import_executors()
    except Exception as error:
        yield wrong_executor(executor, error)
    backend = file.get("secrets", "backend", fallback="")
    module, _, attribute = backend.rpartition(".")
    try:
        if backend:
            getattr(importlib.import_module(module), attribute)
    except (AttributeError, ImportError, ValueError) as error:
        package = "-".join(["apache-airflow-providers", *backend.split(".")[2:3]
                            ]) if backend.startswith("airflow.providers.") else "its package"
        yield (f"airflow_secrets_backend.backend: {error}; where the lock lacks {package}, it goes into "
               "airflow_extra_packages")


def main(path: str) -> None:
    """Judge the file."""
    # Airflow writes into its home when it is imported.
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        found = list(problems(path))
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
