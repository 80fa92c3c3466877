"""The database server, asked as its superuser, as its clients and as people who have no business there."""

import ipaddress
import re

import pytest

pytestmark = pytest.mark.groups("airflow_postgres")


def variables(host):
    """What the scenario sets; values that are worked out are the matter of the tests."""
    return {name: value for name, value in host.ansible.get_variables().items() if "{{" not in str(value)}


def sql(host, statement):
    """Rows of text that the server answers to its own system user."""
    port = host.check_output("ls -a /var/run/postgresql").split(".s.PGSQL.")[1].split(".")[0].split()[0]
    done = host.run(f"cd / && runuser -u postgres -- psql -X -A -t -F '|' -p {port} -d postgres -c %s", statement)
    assert done.rc == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def show(host, setting):
    return sql(host, f"SHOW {setting}")[0][0]


def databases(host):
    """Name and owner of each database that somebody made."""
    return sql(
        host,
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' "
        "ORDER BY 1"
    )


def sign_in(host, user, database, password="", address="127.0.0.1", runuser="nobody"):
    """Try to connect as a system user that is nobody in particular."""
    return host.run(
        f"cd / && runuser -u {runuser} -- env PGPASSWORD=%s psql -X -w -h {address} -p {show(host, 'port')} -U %s -d "
        "%s -c 'SELECT 1'",
        password, user, database)


def listeners(host, port):
    """Addresses of the sockets that listen on a port, from the kernel's own table."""
    found = set()
    for line in host.check_output("cat /proc/net/tcp /proc/net/tcp6").splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
            found.add(fields[1].rsplit(":", 1)[0])
    return found


def test_server_is_the_version_that_was_asked_for(host):
    release = host.check_output(". /etc/os-release && echo $ID-$VERSION_ID")
    distribution = {
        "debian-12": "15", "debian-13": "17", "ubuntu-22.04": "14", "ubuntu-24.04": "16", "amzn-2023": "15"
    }[release]
    assert int(show(host, "server_version_num")) // 10000 == int(
        variables(host).get("postgresql_version") or distribution)


def test_server_starts_at_boot(host):
    assert host.service("postgresql").is_enabled


def kernel_address(address):
    """As the kernel writes it: words of 32 bits in the machine's byte order, hexadecimal."""
    packed = ipaddress.ip_address(address).packed
    return "".join(packed[start:start + 4][::-1].hex().upper() for start in range(0, len(packed), 4))


def test_server_listens_on_the_wanted_addresses_only(host):
    wanted = variables(host).get("postgresql_listen_addresses", ["localhost"])
    assert show(host, "listen_addresses").split(",") == wanted
    # A host may have IPv6 or not.
    names = [line.split()[0] for name in wanted for line in host.check_output("getent ahosts %s", name).splitlines()]
    expected = {kernel_address(name) for name in names}
    found = listeners(host, int(show(host, "port")))
    assert found and found <= expected and expected - found <= {kernel_address("::1")}


def test_superuser_signs_in_as_system_user_postgres_only(host):
    assert sql(host, "SELECT current_user") == [["postgres"]]
    over_socket = sign_in(host, "postgres", "postgres", address="/var/run/postgresql")
    assert over_socket.rc != 0 and "Peer authentication failed" in over_socket.stderr
    over_tcp = sign_in(host, "postgres", "postgres", runuser="postgres")
    assert over_tcp.rc != 0 and "no pg_hba.conf entry" in over_tcp.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "/var/run/postgresql"])
def test_wrong_or_no_password_is_refused(host, address):
    for database, owner in databases(host):
        wrong = sign_in(host, owner, database, password="wrong", address=address)
        assert wrong.rc != 0 and "password authentication failed" in wrong.stderr
        none = sign_in(host, owner, database, address=address)
        assert none.rc != 0 and "no password supplied" in none.stderr


def test_roles_reach_their_own_databases_only(host):
    for owner in {owner for _, owner in databases(host)}:
        for database in ("postgres", "template1"):
            refused = sign_in(host, owner, database, password="wrong")
            assert refused.rc != 0 and "no pg_hba.conf entry" in refused.stderr


def test_unknown_roles_are_refused(host):
    refused = sign_in(host, "somebody", databases(host)[0][0], password="wrong")
    assert refused.rc != 0 and "no pg_hba.conf entry" in refused.stderr


def test_rules_are_peer_for_the_superuser_and_scram_for_the_rest(host):
    rules = sql(
        host,
        "SELECT type, array_to_string(user_name, ','), address, auth_method, error FROM pg_hba_file_rules ORDER BY "
        "line_number"
    )
    assert rules[0] == ["local", "postgres", "", "peer", ""]
    allowed = {"", "127.0.0.1", "::1"
               } | {network.split("/")[0]
                    for network in variables(host).get("postgresql_allowed_networks", [])}
    for kind, users, address, method, error in rules[1:]:
        assert (method, error) == ("scram-sha-256", "")
        assert address in allowed and users not in ("all", "postgres")
        assert kind in ("local", "host") or address not in ("", "127.0.0.1", "::1"), "other hosts need TLS"


def test_passwords_are_stored_as_scram_only(host):
    assert show(host, "password_encryption") == "scram-sha-256"
    stored = dict(sql(host, "SELECT rolname, coalesce(left(rolpassword, 14), '') FROM pg_authid WHERE rolcanlogin"))
    assert stored.pop("postgres") == ""
    assert stored and set(stored.values()) == {"SCRAM-SHA-256$"}


def test_passwords_are_not_in_the_servers_log(host):
    log = host.run("cat /var/log/postgresql/*.log; journalctl --no-pager -u 'postgresql*'").stdout
    assert "ready to accept connections" in log
    assert not re.search(r"(CREATE|ALTER) (ROLE|USER)|PASSWORD '|SCRAM-SHA-256\$", log, re.I)


def test_databases_belong_to_plain_roles_and_are_utf8(host):
    rows = sql(
        host,
        """SELECT d.datname, r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication,
            pg_encoding_to_char(d.encoding)
                          FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE NOT d.datistemplate AND d.datname
                              <> 'postgres'"""
    )
    assert rows and all(row[1:] == ["f", "UTF8"] for row in rows)
    declared = variables(host)
    assert [declared.get("airflow_database_name", "airflow"),
            declared.get("airflow_database_user", "airflow")] in databases(host)


def test_server_has_taken_over_every_setting_of_its_files(host):
    assert sql(host, "SELECT name FROM pg_settings WHERE pending_restart") == []
    assert sql(host, "SELECT sourcefile, name, error FROM pg_file_settings WHERE error IS NOT NULL") == []
    ours = sql(host, "SELECT name, applied FROM pg_file_settings WHERE sourcefile LIKE '%ansible.conf'")
    assert {"listen_addresses", "max_connections", "password_encryption",
            "shared_buffers"} <= {name
                                  for name, _ in ours}
    assert {applied for _, applied in ours} == {"t"}
    hba = show(host, "hba_file")
    assert sql(host, f"SELECT (pg_stat_file('{hba}')).change <= pg_conf_load_time()") == [["t"]]


def test_max_connections_covers_the_pools_of_all_components(host):
    given = variables(host)
    if "postgresql_max_connections" in given:
        assert int(show(host, "max_connections")) == int(given["postgresql_max_connections"])
        return
    cores = int(host.check_output("grep -c ^processor /proc/cpuinfo"))
    ram = int(host.check_output("grep MemTotal /proc/meminfo").split()[1]) // 1024
    workers = int(given.get("airflow_api_workers", max(min(cores, ram // 1024 - 2, 4), 1)))
    tasks = int(given.get("airflow_parallelism", max(min(cores * 8, (ram - 2048) // 150, 32), 2)))
    pool = int(given.get("airflow_database_pool_size", 5)) + int(given.get("airflow_database_max_overflow", 10))
    if str(given.get("airflow_version", "3")).startswith("2"):
        # API processes and the one that forks them, scheduler, triggerer; each running task and each parser connects by
        # itself.
        clients = (workers + 3) * pool + tasks * 2 + 2
    else:
        # API processes and the one that forks them, scheduler, DAG processor, triggerer; two engines each.
        clients = (workers + 4) * pool * 2
    assert int(show(host, "max_connections")) == int(given.get("postgresql_connections", clients)) + int(
        given.get("postgresql_connections_reserved", 20))
    assert int(sql(host,
                   "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")[0][0]) <= clients


def test_memory_is_in_proportion_to_the_host(host):
    ram = int(host.check_output("grep MemTotal /proc/meminfo").split()[1]) // 1024
    share = ram * int(variables(host).get("postgresql_memory_percent", 25)) / 100
    buffers = int(sql(host, "SELECT pg_size_bytes(current_setting('shared_buffers')) / 1048576")[0][0])
    if "postgresql_shared_buffers" not in variables(host):
        assert 64 <= buffers <= max(share / 4, 64)


def test_files_are_the_servers_to_read_and_roots_to_write(host):
    files = [
        row[0]
        for row in sql(host, "SELECT DISTINCT sourcefile FROM pg_file_settings WHERE sourcefile LIKE '%ansible.conf'")
    ]
    for path in [*files, show(host, "hba_file")]:
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "postgres", 0o640)
        assert "Generated by role postgresql from templates/" in file.content_string
    assert len(files) == 1


def test_certificate_is_the_one_that_was_given(host):
    given = variables(host)
    if given.get("postgresql_tls_certificate"):
        assert show(host, "ssl") == "on"
        for setting, variable in (
            ("ssl_cert_file", "postgresql_tls_certificate"),
            ("ssl_key_file", "postgresql_tls_key"),
        ):
            copy = host.file(show(host, setting))
            assert copy.sha256sum == host.file(given[variable]).sha256sum
            assert (copy.user, copy.group, copy.mode) == ("root", "postgres", 0o640)
    for name, value in given.get("postgresql_settings", {}).items():
        assert sql(host, f"SELECT setting, boot_val, source FROM pg_settings WHERE name = '{name}'"
                   )[0][2] == "configuration file", value


# What Airflow benefits from, as the server shows it.
TUNED = {
    "random_page_cost": "1.1",
    "effective_io_concurrency": "200",
    "max_wal_size": "2GB",
    "jit": "off",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
    "idle_in_transaction_session_timeout": "30min",
    "log_lock_waits": "on",
}


def test_settings_that_airflow_benefits_from_are_in_force(host):
    given = variables(host)
    expected = {name: value for name, value in TUNED.items()
                if f"postgresql_{name}" not in given and name not in given.get("postgresql_settings", {})}
    assert {name: show(host, name) for name in expected} == expected


# ---- sessions that wait in a transaction on purpose

# The server ends sessions of libpq in this environment after half a second of waiting, unless they say otherwise.
IMPATIENT = "PGOPTIONS='-c idle_in_transaction_session_timeout=500ms'"


def locked(host, table, seconds):
    """Shell: nobody can read the table for so long. Ends when the lock is held."""
    port = show(host, "port")
    hold = f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds})"
    return f"cd / && (runuser -u postgres -- psql -X -q -p {port} -d airflow -c '{hold}' > /dev/null 2>&1 &) ; sleep 1"


def test_a_forgotten_transaction_is_ended(host):
    """The counterpart of the tests that follow."""
    forgotten = "(echo 'BEGIN;'; sleep 1.5; echo 'SELECT 1;') | psql -X -v ON_ERROR_STOP=1 -d postgres"
    done = host.run(f"cd / && runuser -u postgres -- env {IMPATIENT} PGPORT={show(host, 'port')} sh -c %s", forgotten)
    assert done.rc != 0 and "idle-in-transaction timeout" in done.stderr


def test_a_backup_outlives_the_limit_for_idle_transactions(host, setting):
    """pg_dump waits for a table, and the session that holds its snapshot does nothing meanwhile."""
    program = (
        f"{setting('airflow_install_dir')}/venv/bin/python "
        f"{setting('airflow_install_dir')}/libexec/airflow_runtime/run.py backup"
    )
    # The unit's directory of its state.
    program = f"mkdir -p /var/lib/airflow-backup && {program} run {setting('airflow_config_dir')}/backup.json"
    done = host.run(f"{locked(host, 'slot_pool', 4)}; export {IMPATIENT}; {program}")
    assert done.rc == 0, done.stderr
    assert '"sha256"' in done.stdout


@pytest.fixture
def updater(host, setting):
    """The directory of the programs, on the host; a command that runs Python as Airflow does."""
    path = f"{setting('airflow_install_dir')}/libexec/airflow_runtime"
    python = (
        f"cd / && set -a && . {setting('airflow_config_dir')}/environment && {IMPATIENT} setpriv"
        f" --reuid={setting('airflow_user')} --regid={setting('airflow_group')} --init-groups "
        f"{setting('airflow_install_dir')}/venv/bin/python"
    )
    return path, python


CONNECTIONS = """
import os, pathlib, sys, time
from sqlalchemy import create_engine, exc, text

sys.path.insert(0, sys.argv[1])
from airflow_runtime import database
url = pathlib.Path(os.environ["AIRFLOW_CONFIG"]).parent.joinpath("secrets/sql_alchemy_conn").read_text()

def survives():
    connection = create_engine(url).connect()
    connection.execute(text("SELECT 1"))
    time.sleep(1.5)
    try:
        connection.execute(text("SELECT 1"))
        return True
    except exc.DBAPIError:
        return False

before = survives()
database.keep_idle_transactions()
print(before, survives())
"""


def test_connections_of_a_migration_outlive_the_limit_for_idle_transactions(host, updater):
    path, python = updater
    assert host.check_output(f"{python} -B -c %s {path}", CONNECTIONS).splitlines()[-1] == "False True"


def test_a_migration_outlives_the_limit_for_idle_transactions(host, updater, setting):
    """It waits for a table at its end, while two sessions hold locks: the installer's and Airflow's own."""
    path, python = updater
    # Airflow's own sessions in the process have the same name. Only the installer's lock is held outside of a
    # transaction.
    ask = (
        "SELECT state FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND granted AND "
        "application_name = 'airflow-installer'"
    )
    begin = f"{path}/run.py database begin {setting('airflow_admin_user')} admin@example.com < /dev/null"
    host.check_output(f"{locked(host, 'slot_pool', 12)}; {python} {begin}")
    # Airflow takes seconds to import, and the lock of the installer was taken before.
    host.check_output("sleep 3")
    assert ["idle"] in sql(host, ask)
    done = host.run(f"{python} {path}/run.py database wait")
    assert done.rc == 0, done.stderr
