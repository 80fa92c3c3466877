"""Every public variable of a role is at work somewhere: with another value than its default, in a scenario or in a test
that runs the role.
"""

import ast
import re

from repository import ROLES, ROOT, load


def defaults(role):
    path = role / "defaults/main.yml"
    return (load(path) or {}) if path.exists() else {}


# What brings a variable to a running host: Molecule's scenarios, their preparation, the tests that run there, and what
# the playbooks derive from others.
HOSTS = [
    *ROOT.glob("molecule/*/*.yml"), ROOT / ".config/molecule/config.yml", *ROOT.glob("tests/molecule/*.py"),
    *ROOT.glob("playbooks/group_vars/all/*.yml")
]
# The AWS side has its own tests, against an emulator.
VARIABLES = [(role.name, name) for role in ROLES if not role.name.startswith("aws_") for name in defaults(role)]

# Those that are flipped on no host: where their effect is tested instead, and by which words.
ELSEWHERE = {
    "airflow_backup_rds_instance": ("tests/aws/test_environment.py", "airflow_backup_rds_instance"),
    "airflow_backup_rds_region": ("tests/aws/test_environment.py", "airflow_backup_rds_region"),
    "airflow_clean_database_archive_days": ("tests/unit/test_backup.py", "clean_database.forget("),
    "airflow_dags_commit_url": ("tests/templates/test_airflow.py", "airflow_dags_commit_url"),
    "airflow_dags_folder": ("tests/templates/test_airflow.py", "airflow_dags_folder"),
    "airflow_dags_subdirectory": ("tests/unit/test_airflow_dag_archive.py", "subdirectory="),
    "airflow_database_sslmode": ("tests/templates/test_database_url.py", "'airflow_database_sslmode': 'require'"),
    "airflow_database_url": ("tests/templates/test_database_url.py", "airflow_database_url"),
    "airflow_remote_log_conn_id": ("tests/templates/test_airflow.py", "airflow_remote_log_conn_id"),
    "airflow_webserver_config_file": ("tests/templates/test_webserver_config.py", "airflow_webserver_config_file"),
    "airflow_wheel_dir": ("tests/templates/test_build.py", "airflow_wheel_dir"),
    "cloudwatch_agent_log_source": ("tests/cloudwatch_agent/test_config.py", "'log_source':"),
    "cloudwatch_agent_multi_line_start_pattern": (
        "tests/cloudwatch_agent/test_config.py",
        "'multi_line_start_pattern':",
    ),
    "cloudwatch_agent_user": ("tests/cloudwatch_agent/test_config.py", "'user':"),
    "postgresql_autovacuum_analyze_scale_factor": (
        "tests/templates/test_postgresql.py",
        "autovacuum_analyze_scale_factor",
    ),
    "postgresql_autovacuum_vacuum_scale_factor": (
        "tests/templates/test_postgresql.py",
        "autovacuum_vacuum_scale_factor",
    ),
    "postgresql_effective_io_concurrency": ("tests/templates/test_postgresql.py", "effective_io_concurrency"),
    "postgresql_idle_in_transaction_session_timeout": (
        "tests/templates/test_postgresql.py",
        "idle_in_transaction_session_timeout",
    ),
    "postgresql_jit": ("tests/templates/test_postgresql.py", "jit"),
    "postgresql_log_lock_waits": ("tests/templates/test_postgresql.py", "log_lock_waits"),
    "postgresql_max_wal_size": ("tests/templates/test_postgresql.py", "max_wal_size"),
    "postgresql_restart_by_caller": ("tests/templates/test_postgresql_restart.py", "postgresql_restart_by_caller"),
    "postgresql_pgdg_key_checksum": ("tests/templates/test_postgresql.py", "postgresql_pgdg_key_checksum"),
    "postgresql_pgdg_key_url": ("tests/templates/test_postgresql.py", "postgresql_pgdg_key_url"),
    "postgresql_random_page_cost": ("tests/templates/test_postgresql.py", "random_page_cost"),
    "postgresql_version": ("tests/templates/test_postgresql.py", "postgresql_version"),
    "reverse_proxy_http_port": ("tests/templates/test_reverse_proxy.py", "reverse_proxy_http_port"),
    "reverse_proxy_https_port": ("tests/templates/test_reverse_proxy.py", "reverse_proxy_https_port"),
    "reverse_proxy_listen_addresses": ("tests/templates/test_reverse_proxy.py", "reverse_proxy_listen_addresses"),
}
# Those whose effect no test shows, and why.
NOWHERE = {
    "airflow_secure_logging": "false prints secrets, which every scenario searches its log for",
    "postgresql_secure_logging": "false prints secrets, which every scenario searches its log for",
    "cloudwatch_agent_package_checksum": "Amazon's bucket can't be reached by the tests; a package file is installed "
                                         "in place of it",
    "cloudwatch_agent_package_url": "Amazon's bucket can't be reached by the tests; a package file is installed in "
                                    "place of it",
    "postgresql_pgdg_url": "the PostgreSQL project's repository can't be reached by the tests",
}


def text(path):
    return path.read_text(encoding="utf-8")


def pairs(node):
    """Every key with its value, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from pairs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pairs(value)


DEFAULTS = {name: value for role in ROLES for name, value in defaults(role).items()}
GIVEN = [(key, value) for path in HOSTS if path.suffix == ".yml" for key, value in pairs(load(path))]
PYTHON = "\n".join(re.sub(r"(?m)^\s*#.*", "", text(path)) for path in HOSTS if path.suffix == ".py")


def flipped(name):
    """Whether a file of a scenario sets it to another value than its default, or a test that runs on a host names it as
    a key or an argument.
    """
    return any(key == name and value != DEFAULTS[name]
               for key, value in GIVEN) or bool(re.search(rf"""\b{name}["']?\s*[:=](?!=)""", PYTHON))


def test_a_variable_is_flipped_on_a_host_or_it_is_known_why_not():
    listed = {*ELSEWHERE, *NOWHERE}
    assert not [name for _role, name in VARIABLES if name not in listed and not flipped(name)
                ], "set nowhere, or to its default"
    assert not [name
                for _role, name in VARIABLES if name in listed and flipped(name)], "flipped: take them out of the lists"


def code(path):
    """The lines of a test that do something: without comments, docstrings and the names of functions."""
    tree = ast.parse(text(path))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
            node.name = "_"
            if ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
    return ast.unparse(tree)


def test_what_is_tested_elsewhere_is_tested_there():
    codes = {test: code(ROOT / test) for test, _words in ELSEWHERE.values()}
    # Whole words, as they stand in the code.
    assert not [name for name, (test, words) in ELSEWHERE.items()
                if not re.search(rf"(?<!\w){re.escape(words)}" + r"(?!\w)" * words[-1].isalnum(), codes[test])]


def test_there_is_a_reason_where_no_test_shows_the_effect():
    assert not [name for name, reason in NOWHERE.items() if len(reason.split()) < 5]


def test_the_lists_have_no_variable_that_is_gone_and_none_twice():
    assert {*ELSEWHERE, *NOWHERE} <= {name for _role, name in VARIABLES}
    assert not set(ELSEWHERE) & set(NOWHERE)
