"""A rotation that fails after it has drained, on hosts that are directories: what starts again, and what the last
message says.
"""

import hosts_of_test
import pytest
from ansible_collections.windsock.airflow.plugins.filter.airflow_secrets import left

pytestmark = pytest.mark.playbook

PLACE = "/etc/airflow-of-test"
OLD = "A" * 43 + "="
# It does "on-stop" when it is told to stop a unit, which is when a rotation drains. No start of a unit in "broken"
# succeeds.
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$HOSTS_OF_TEST/systemctl"
case "$1" in
    show) echo LoadState=loaded; echo ActiveState=active ;;
    stop) sh "$HOSTS_OF_TEST/on-stop" ;;
    is-active) false ;;
    start) ! echo "$@" | grep -qf "$HOSTS_OF_TEST/broken" ;;
esac
"""
# Airflow's Python. Each host says that a unit of its own name is due, and what the database does is in file "database".
PYTHON = """#!/bin/sh
cat > /dev/null
case $1 in */run.py) shift ;; esac
echo "$2" >> HOST/asked
case $2 in
    pending) [ -e HOST/asks ] && exit 1; echo '["airflow.target", "airflow-NAME.service"]' ;;
    addresses) echo 192.0.2.1 ;;
    change | held) sh HOST/database "$2" ;;
    rotate | prove) echo "the values cannot be read" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def rotate(tmp_path):
    """rotate("api_secrets", on_stop="..."): begin a rotation on hosts one and two; on_stop is what goes wrong while
    they drain.
    """
    hosts_of_test.systemctl(tmp_path)
    (tmp_path / "bin/systemctl").write_text(SYSTEMCTL, encoding="utf-8")
    # A unit of this name is on no host.
    (tmp_path / "broken").write_text("none\n", encoding="utf-8")
    held = {
        "fernet_key": OLD,
        "api_secret_key": "old",
        "jwt_secret": "old",
        "database_password": "old",
        "admin_password": "x",
    }
    url = "postgresql+{}://airflow:old@192.0.2.1:5432/airflow"
    for name in ("one", "two"):
        host = tmp_path / name
        (host / "units").mkdir(parents=True)
        (host / "secrets").mkdir()
        for secret, text in {
            **held,
            "sql_alchemy_conn": url.format("psycopg2"),
            "sql_alchemy_conn_async": url.format("asyncpg"),
        }.items():
            if name == "one" or secret not in ("database_password", "admin_password"):
                (host / "secrets" / secret).write_text(text, encoding="utf-8")
        (host / "environment").touch()
        (host / "database").write_text("exit 0\n", encoding="utf-8")
        python = host / "opt/venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(PYTHON.replace("HOST", str(host)).replace("NAME", name), encoding="utf-8")
        python.chmod(0o755)
        (host / "opt/libexec/airflow_runtime").mkdir(parents=True)

    def run(playbook, on_stop="", **variables):
        (tmp_path / "on-stop").write_text(on_stop.replace("HOSTS", str(tmp_path)), encoding="utf-8")
        tasks = [
            {
                "ansible.builtin.include_role": {
                    "name": "windsock.airflow.airflow_secrets",
                    "tasks_from": f"operations/rotate_{playbook}.yml",
                }
            }
        ]
        done = hosts_of_test.play(
            tmp_path,
            ["one", "two"],
            tasks,
            {
                "airflow_install_dir": f"{PLACE}/opt",
                "airflow_config_dir": PLACE,
                "airflow_secrets_copy_dir": str(tmp_path / "copy"),
                "airflow_version": "3.3.2",
                "__airflow_database_external": False,
                "__airflow_database_host": "192.0.2.1",
                **variables,
            },
        )
        assert (tmp_path / "systemctl").exists(), done.output
        calls = (tmp_path / "systemctl").read_text(encoding="utf-8").splitlines()
        done.started = {
            name
            for name in ("one", "two")
            for call in calls
            if call.startswith("start ") and f"airflow-{name}.service" in call
        }
        assert any(call.startswith("stop ") for call in calls), done.output
        assert done.rc != 0, done.output
        return done

    return run


AGAIN = (
    "Correct the reason, then run this again: it goes on with the secrets that are there, and starts what is stopped."
)
# The next step writes this secret.
SPOILED = "rm -rf HOSTS/two/secrets/sql_alchemy_conn_async; mkdir HOSTS/two/secrets/sql_alchemy_conn_async"


@pytest.mark.parametrize("playbook", ["api_secrets", "database_password"])
def test_a_drain_that_fails_is_taken_back(rotate, playbook):
    done = rotate(playbook, "echo the job was canceled >&2; exit 1")
    assert done.started == {"one", "two"}, done.output
    assert "No host has a new secret. Airflow runs again on one, two." in done.text and AGAIN in done.text, done.output
    assert "the job was canceled" in done.text and f"playbooks/rotate_{playbook}.yml" in done.text, done.output


@pytest.mark.parametrize(
    ("playbook", "new", "why"),
    [
        (
            "api_secrets",
            "api_secret_key is new on one only. jwt_secret is new on one only.",
            "would refuse the tasks of the others",
        ),
        ("fernet_key", "fernet_key is new on one only.", "could not read what the others encrypt"),
    ],
)
def test_hosts_whose_secrets_do_not_get_along_stay_stopped(rotate, playbook, new, why):
    """The first host has made new ones, and the copy on the controller cannot be written."""
    done = rotate(playbook, "rm -rf HOSTS/copy; touch HOSTS/copy")
    assert not done.started and new in done.text, done.output
    assert f"{why}, so what was drained stays stopped on all hosts" in done.text and AGAIN in done.text, done.output


def test_hosts_that_have_both_keys_start(rotate):
    """A host that cannot start keeps the other one waiting no longer."""
    done = rotate("fernet_key", "touch HOSTS/one/asks")
    assert done.started == {"two"} and "fernet_key is new on one, two. Airflow runs again on two." in done.text, (
        done.output
    )


@pytest.mark.parametrize(
    ("fails", "started", "said"),
    [
        ('[ "$1" != change ]', {"one", "two"}, "No host has a new secret. Airflow runs again on one, two."),
        (
            '[ "$1" != held ] || { echo "password authentication failed" >&2; false; }',
            {"one"},
            "The database refuses the password of two, so what was drained there stays stopped: password "
            "authentication failed. Airflow runs again on one.",
        ),
    ],
)
def test_a_host_starts_if_the_database_takes_its_password(rotate, tmp_path, fails, started, said):
    (tmp_path / ("one" if "change" in fails else "two") / "database").write_text(fails, encoding="utf-8")
    done = rotate("database_password", "" if "change" in fails else SPOILED)
    assert done.started == started and said in done.text and AGAIN in done.text, done.output


def test_a_host_that_is_lost_while_it_drains_keeps_no_other_stopped(rotate):
    done = rotate("api_secrets", "touch HOSTS/two/cut")
    assert done.started == {"one"}, done.output
    assert (
        "No host has a new secret. What two has is not known, because it does not answer. Airflow runs again on one."
        in done.text
    ), done.output


def test_a_host_that_does_not_start_is_named_and_keeps_no_other_stopped(rotate, tmp_path):
    (tmp_path / "broken").write_text("airflow-one.service\n", encoding="utf-8")
    done = rotate("api_secrets", "exit 1")
    assert "two" in done.started, done.output
    assert (
        "Airflow runs again on two. Airflow does not run on one: service | " in done.text
        and "good: why it failed." in done.text
    ), done.output


# ---- what may start --------------------------------------------------------------------------------------------------


def host(name, before, now, **others):
    return {
        "inventory_hostname": name,
        "__airflow_secrets_held_before": {"rc": 0, "stdout": f"asked\n{before}"},
        "__airflow_secrets_held": {} if now is None else {"rc": 0, "stdout": f"asked\n{now}"},
        **others,
    }


@pytest.mark.parametrize(
    ("file", "now", "start"),
    [
        ("fernet_key", ["o", "o"], "ab"),
        ("fernet_key", ["n o", "n o"], "ab"),
        # After the values, and before the old key is gone everywhere.
        ("fernet_key", ["n", "n o"], "ab"),
        ("fernet_key", ["n o", "o"], ""),
        ("fernet_key", ["n", "o"], ""),
        # Lost before anything was new, and after.
        ("fernet_key", ["o", None], "a"),
        ("fernet_key", ["n o", None], ""),
        ("jwt_secret", ["o", "o"], "ab"),
        ("jwt_secret", ["n", "n"], "ab"),
        ("jwt_secret", ["n", "o"], ""),
        ("jwt_secret", ["o", None], "a"),
        ("jwt_secret", ["n", None], ""),
    ],
)
def test_what_may_start(file, now, start):
    hosts = [host(name, f"{file} o", marks and f"{file} {marks}") for name, marks in zip("ab", now)]
    assert "".join(left(hosts, file, [file])["start"]) == start
