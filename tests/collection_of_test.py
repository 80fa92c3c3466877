"""Make a copy of the collection in which a test replaces roles or changes plugins."""

import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[1]


def collection(directory, roles=None):
    """Make the collection below directory/collections, where a playbook in this directory finds it, and return its
    path.

    Plugins and playbooks are copies. Roles are links, unless the test gives its own: roles is the directory that holds
    them.
    """
    path = directory / "collections/ansible_collections/windsock/airflow"
    path.mkdir(parents=True)
    shutil.copytree(ROOT / "plugins", path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    # Without the links by which a clone finds itself.
    shutil.copytree(ROOT / "playbooks", path / "playbooks", symlinks=True, ignore=shutil.ignore_patterns("collections"))
    for name in ("files", "galaxy.yml", "group_vars", "locks", "meta", "requirements", "requirements.yml", "site.yml"):
        (path / name).symlink_to(ROOT / name)
    (path / "roles").symlink_to(roles or ROOT / "roles")
    return path
