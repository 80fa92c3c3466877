"""What only the scenario with most variables flipped can show."""

import json

from playbook import look, play
from slow_tasks import wait_until_healthy


def python(host, setting, script):
    """Run a script with the virtualenv's Python as Airflow's user, in Airflow's environment."""
    config = setting("airflow_config_dir")
    return host.check_output(
        f"cd / && set -a && . {config}/environment && setpriv --reuid={setting('airflow_user')} "
        f"--regid={setting('airflow_group')} --init-groups "
        f"{setting('airflow_install_dir')}/venv/bin/python - <<'SCRIPT'\n{script}\nSCRIPT")


def ask_database(host, setting, *statements):
    """The rows of the last statement, asked with the URL that the components have."""
    said = python(
        host, setting, f"""
import json, os, psycopg2
path = os.environ["AIRFLOW_CONFIG"].replace("airflow.cfg", "secrets/sql_alchemy_conn")
url = open(path).read().replace("+psycopg2", "")
connection = psycopg2.connect(url)
connection.autocommit = True
cursor = connection.cursor()
for statement in {statements!r}:
    cursor.execute(statement)
print(json.dumps(cursor.fetchall()))
""")
    return json.loads(said.splitlines()[-1])


def test_no_database_server_is_installed(host):
    assert not host.package("postgresql-common").is_installed


def test_both_engines_talk_to_the_external_server_over_verified_tls(host, setting):
    ((number, encrypted), ) = ask_database(
        host, setting,
        "select count(*), bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where usename = current_user"
    )
    assert number > 1
    assert encrypted
    asyncio = python(
        host,
        setting,
        """
import asyncio
from airflow.configuration import conf
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
async def main():
    async with create_async_engine(conf.get("database", "sql_alchemy_conn_async")).connect() as connection:
        print((await connection.execute(text("select ssl from pg_stat_ssl where pid = pg_backend_pid()"))).scalar())
asyncio.run(main())
""",
    )
    assert asyncio.splitlines()[-1] == "True"


def test_a_stop_asks_the_external_server_who_is_left(host, setting):
    """Airflow's environment names the authority of its certificate, and the URL does not."""
    done = play("../tests/molecule/stop")
    assert not done.failed, done.output
    assert "was not asked" not in done.text, done.output
    wait_until_healthy(host, setting)


def test_the_server_has_the_settings_that_it_was_given(host, setting):
    names = (
        "'shared_buffers', 'effective_cache_size', 'work_mem', 'maintenance_work_mem', 'max_connections', "
        "'log_min_duration_statement'"
    )
    assert dict(
        ask_database(host, setting,
                     f"SELECT name, current_setting(name) FROM pg_settings WHERE name IN ({names})")) == {
                         "shared_buffers": "96MB",
                         "effective_cache_size": "333MB",
                         "work_mem": "5MB",
                         "maintenance_work_mem": "65MB",
                         "max_connections": "160",
                         "log_min_duration_statement": "5s",
                     }


def test_the_site_has_a_template_tasks_and_a_file_of_its_own(host, setting):
    """For one component: the unit, what its tasks wrote after that, and the file that it restarts for."""
    shown = host.check_output("systemctl show airflow-triggerer airflow-scheduler --property=Id --property=Nice")
    assert {"Id=airflow-triggerer.service\nNice=5", "Id=airflow-scheduler.service\nNice=0"} == {
        "\n".join(sorted(block.split("\n"))) for block in shown.split("\n\n")
    }
    assert host.file("/etc/flow-triggerer").content_string == "triggerer airflow-triggerer.service"
    pending = (
        f"{setting('airflow_install_dir')}/venv/bin/python "
        f"{setting('airflow_install_dir')}/libexec/airflow_runtime/run.py"
        " components pending")
    assert json.loads(host.check_output(pending)) == []
    host.check_output("cp -p /etc/flow-triggerer /etc/flow-triggerer.kept && echo more >> /etc/flow-triggerer")
    try:
        assert json.loads(host.check_output(pending)) == ["airflow-triggerer.service"]
    finally:
        host.check_output("mv /etc/flow-triggerer.kept /etc/flow-triggerer")


def test_a_server_with_another_certificate_is_refused(host, setting):
    config = setting("airflow_config_dir")
    run = host.run(
        f"set -a && . {config}/environment && PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt "
        f"{setting('airflow_install_dir')}/venv/bin/python -c "
        f"\"import psycopg2; psycopg2.connect(open('{config}/secrets/sql_alchemy_conn').read().replace('+psycopg2', "
        "''))\""
    )
    assert run.rc != 0
    assert "certificate verify failed" in run.stderr


def test_given_secrets_are_used(host, setting):
    assert host.check_output(f"cat {setting('airflow_config_dir')}/secrets/api_secret_key") == setting(
        "airflow_api_secret_key")
    assert not host.file(f"{setting('airflow_config_dir')}/secrets/database_password").exists


def test_environment_reaches_components_as_it_was_written(host, setting):
    pid = host.check_output("systemctl show airflow-triggerer --property=MainPID --value")
    assert "FLOW_GREETING=" + setting("airflow_environment")["FLOW_GREETING"] in host.check_output(
        f"tr '\\0' '\\n' < /proc/{pid}/environ")
    assert host.check_output("systemctl show airflow-triggerer --property=MemoryHigh --value") == str(2 * 1024**3)


def test_options_and_packages_of_the_site_are_there(host, setting):
    assert host.check_output("airflow config get-value core default_timezone 2>/dev/null | tail -1") == "Europe/Berlin"
    assert python(host, setting,
                  "import cowsay, importlib.metadata as m; print(m.version('cowsay'))").splitlines()[-1] == "6.1"


def test_log_server_and_old_paths_are_not_there(host):
    for path in ("/opt/airflow", "/etc/airflow", "/var/lib/airflow"):
        assert not host.file(path).exists


def test_limits_of_the_site_decide_what_is_called_a_fault():
    code, said = look("check_health")
    assert code != 0
    assert {cause["cause"] for cause in said["causes"]} >= {"disk_full", "memory_used_up", "database_full"}
