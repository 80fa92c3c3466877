"""Backups: who can read them, and where they lie."""

from __future__ import annotations

import re

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Problems, Site, Values

RANGES = {
    "airflow_backup_keep_days": (1, 3650),
    "airflow_backup_keep_at_least": (1, 1000),
    "airflow_backup_min_free_mb": (0, 1000000),
    "airflow_clean_database_keep_days": (1, 3650),
    "airflow_clean_database_batch_size": (100, 10000000),
    "airflow_clean_database_archive_days": (1, 3650),
}
# Directories that are removed without the backups, so that none of the two may lie in the other.
APART = ("airflow_install_dir", "airflow_config_dir", "airflow_home", "airflow_log_dir", "airflow_cache_dir")
POSTGRESQL = ("/etc/postgresql", "/var/lib/postgresql", "/var/lib/pgsql")


def check_backup(values: Values, site: Site) -> Problems:
    directory, recipients = values.get("airflow_backup_dir"), values.get("airflow_backup_recipients")
    if directory is not None and not re.fullmatch(r"(/[^/\s]+){2,}", directory):
        yield "airflow_backup_dir", (" is {0}; valid is an absolute path of two levels or more, without spaces, such "
                                     "as /var/backups/airflow.").format(
            directory)
    for number, recipient in enumerate(recipients or []):
        if "PRIVATE KEY" in str(recipient) or "BEGIN PGP PUBLIC KEY BLOCK" not in str(recipient):
            yield "airflow_backup_recipients[{0}]".format(number), (
                " is no armored OpenPGP public key. Make one with: gpg --armor --export <address>")
    if recipients == [] and not site.has_backup_key(values.get("airflow_secrets_copy_dir")):
        if values.get("airflow_secrets_copy_dir") == "":
            yield "airflow_backup_recipients", (
                " is empty and airflow_secrets_copy_dir ({0}) too, so there is nobody that keys in a backup could be "
                "sealed "
                "for. Set one of them: docs/backup.md.").format(site.where("airflow_secrets_copy_dir"))
        elif not site.has_gpg:
            yield "airflow_backup_recipients", (
                " is empty, and the controller lacks gpg, which makes the keys that backups are sealed for. Install it "
                "(apt-get install gnupg, brew install gnupg), or name recipients: docs/backup.md.")


def check_backup_dir(values: Values, site: Site) -> Problems:
    """The removal deletes Airflow's directories and leaves the backups, or the other way round."""
    def within(path: str, directory: str) -> bool:
        return (path.rstrip("/") + "/").startswith(directory.rstrip("/") + "/")

    backups = values.get("airflow_backup_dir")
    directories = [(values.get(name), "{0} ({1})".format(name, site.where(name))) for name in APART]
    directories += [(path, "a directory of PostgreSQL") for path in POSTGRESQL]
    for directory, named in directories:
        if backups and directory and (within(backups, directory) or within(directory, backups)):
            yield "airflow_backup_dir", (
                " is {0}, and {1} is {2}. One would be removed with the other. Take a directory outside of it that "
                "holds "
                "nothing but backups, such as /var/backups/airflow, and move the backups that exist there.").format(
                    backups, named, directory)


CHECKS = (check_backup, check_backup_dir)
