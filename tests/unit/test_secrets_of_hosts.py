"""Which secrets an environment has: decided from what all of its hosts hold, whoever runs the playbook and wherever."""

import base64
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import types

import hosts_of_test
import pytest
import yaml

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    "of_hosts", ROOT / "plugins/filter/airflow_secrets.py"
)
of_hosts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(of_hosts)

KEYS = {name: name * 43 + "=" for name in "ABC"}
A, B, C = KEYS.values()
KINDS = {"fernet_key": "fernet", "jwt_secret": "token", "database_password": "password"}


def answer(host, directory="/etc/airflow", moved_to="", **files):
    """What tasks/ask.yml registers for a host. NAME_there is a file in airflow_config_dir, if that has moved."""
    lines = [f"directory {directory}"]
    for name, text in files.items():
        place = moved_to if name.endswith("_there") else directory
        name = name.removesuffix("_there").replace("_before", ".before")
        lines.append(f"file {name} {base64.b64encode(text.encode()).decode()} {place}")
    return {"item": host, "rc": 0, "stdout": "\n".join(lines)}


GONE = {"item": "gone", "unreachable": True, "msg": "Connection refused"}


@pytest.mark.parametrize(
    ("answers", "secrets"),
    [
        # A new host is at the top of the group.
        (
            [answer("new"), answer("old", fernet_key=A, jwt_secret="j", database_password="d")],
            {"fernet_key": A, "jwt_secret": "j", "database_password": "d"},
        ),
        # The first host is lost. Only it had the file of the password.
        (
            [
                answer("new"),
                answer("old", fernet_key=A, sql_alchemy_conn="postgresql+psycopg2://airflow:p%40ss%2Fw@h:5432/airflow"),
            ],
            {"fernet_key": A, "database_password": "p@ss/w"},
        ),
        ([answer("new"), answer("other")], {}),
        # A rotation was killed before, and after, all hosts had both keys.
        ([answer("a", fernet_key=f"{B},{A}"), answer("b", fernet_key=A)], {"fernet_key": f"{B},{A}"}),
        ([answer("a", fernet_key=B), answer("b", fernet_key=f"{B},{A}")], {"fernet_key": f"{B},{A}"}),
        (
            [answer("a", jwt_secret="old"), answer("b", jwt_secret="new", jwt_secret_before="old")],
            {"jwt_secret": "new"},
        ),
        # airflow_config_dir has moved, and moved in part.
        ([answer("a", directory="/etc/old", fernet_key=A)], {"fernet_key": A}),
        (
            [answer("a", directory="/etc/old", moved_to="/etc/new", fernet_key=A, jwt_secret="j", fernet_key_there=A)],
            {"fernet_key": A, "jwt_secret": "j"},
        ),
    ],
)
def test_the_secrets_are_those_of_the_environment_in_each_order_of_its_hosts(answers, secrets):
    for order in (answers, answers[::-1]):
        found = of_hosts.decide(order, KINDS)
        assert (found["problem"], found["secrets"]) == ("", secrets)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            [answer("a", fernet_key=A), answer("b", fernet_key=B), answer("c", fernet_key=A)],
            "fernet_key differs between hosts: a, c / b",
        ),
        (
            [answer("a", fernet_key=f"{A},{B}"), answer("b", fernet_key=f"{B},{A}")],
            "fernet_key differs between hosts: a / b",
        ),
        (
            [answer("a", fernet_key=f"{C},{A}"), answer("b", fernet_key=f"{B},{A}")],
            "fernet_key differs between hosts: a / b",
        ),
        ([answer("a", jwt_secret="one"), answer("b", jwt_secret="two")], "jwt_secret differs between hosts: a / b"),
        (
            [answer("a", directory="/etc/old", moved_to="/etc/new", fernet_key=A, fernet_key_there=B)],
            "a has another fernet_key in /etc/old/secrets than in /etc/new/secrets",
        ),
        ([answer("new"), GONE], "gone (Connection refused)"),
        ([answer("a", fernet_key=A, jwt_secret="j", database_password="d"), GONE], "gone (Connection refused)"),
        (
            [answer("new"), {"item": "ill", "rc": 1, "stdout": "", "stderr": "base64: Input/output error"}],
            "ill (base64: Input/output error)",
        ),
    ],
)
def test_hosts_that_disagree_or_do_not_answer_are_refused(answers, said):
    found = of_hosts.decide(answers, KINDS)
    assert said in found["problem"]
    assert not any(key in found["problem"] for key in KEYS.values())


def test_a_secret_that_does_not_come_from_the_hosts_may_differ_and_its_keys_are_known():
    found = of_hosts.decide([answer("a", fernet_key=A), answer("b", fernet_key=f"{C},{B}"), GONE], {})
    assert (found["problem"], found["secrets"], found["fernet_keys"]) == ("", {}, [A, B, C])


def test_an_operator_may_work_while_a_host_is_away_unless_a_secret_would_be_made():
    whole = answer("a", fernet_key=A, jwt_secret="j", database_password="d")
    assert of_hosts.decide([whole, GONE], KINDS, reads=True)["problem"] == ""
    assert "gone" in of_hosts.decide([answer("a", fernet_key=A), GONE], KINDS, reads=True)["problem"]


# ---- the role, on hosts that are directories -------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path):
    """fleet("new", "old", limit="new"): run the role for an environment of these hosts; "gone" refuses connections."""

    def secret(host, name):
        path = tmp_path / host / "secrets" / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def give(host, **files):
        (tmp_path / host / "secrets").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / host / "secrets" / name).write_text(text, encoding="utf-8")

    def run(*hosts, limit="", reads=False, tasks=None, **given):
        role = {"name": "windsock.airflow.airflow_secrets"}
        write = {"include_role": {**role, "tasks_from": "steps/write.yml"}}
        show = {"debug": {"msg": "admin_password is {{ __airflow_secrets.secrets.admin_password }}"}}
        read = {"include_role": role, "vars": {"__airflow_secrets_reads": True}}
        return hosts_of_test.play(
            tmp_path,
            hosts,
            tasks or [read, show] if reads or tasks else [{"include_role": role}, write],
            {
                "airflow_config_dir": "/etc/airflow-of-test",
                "airflow_install_dir": "/etc/airflow-of-test/install",
                "airflow_secrets_copy_dir": str(tmp_path / "copy"),
                "airflow_database_port": 1,
                **given,
            },
            limit,
        )

    def program(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / path).chmod(0o755)

    def database(host, says):
        """A host with Airflow, whose module fernet_key does this."""
        give(host, sql_alchemy_conn="postgresql+psycopg2://airflow@h/airflow")
        (tmp_path / host / "environment").touch()
        program(f"{host}/install/venv/bin/python", says)

    return types.SimpleNamespace(run=run, secret=secret, give=give, program=program, database=database)


def test_a_new_first_host_gets_the_secrets_of_the_others_from_a_controller_without_the_copy(fleet):
    assert fleet.run("old").rc == 0
    before = {
        name: fleet.secret("old", name)
        for name in ("fernet_key", "jwt_secret", "api_secret_key", "database_password", "admin_password")
    }
    assert None not in before.values()
    done = fleet.run("new", "old", limit="new", airflow_secrets_copy_dir="")
    assert done.rc == 0, done.output
    assert {name: fleet.secret("new", name) for name in before} == before
    # The first host alone has what the others need not know.
    assert fleet.run("new", "old").rc == 0
    assert (fleet.secret("old", "admin_password"), fleet.secret("old", "fernet_key")) == (None, before["fernet_key"])


def test_hosts_with_two_keys_are_refused_and_no_file_changes(fleet):
    for host, key in (("a", A), ("b", B)):
        fleet.give(host, fernet_key=key)
    done = fleet.run("new", "b", "a", limit="new")
    assert done.rc != 0 and "fernet_key differs between hosts: b / a" in done.text, done.output
    assert (fleet.secret("a", "fernet_key"), fleet.secret("b", "fernet_key"), fleet.secret("new", "fernet_key")) == (
        A,
        B,
        None,
    )


def test_a_host_that_is_away_is_named_and_no_secret_is_made(fleet):
    done = fleet.run("new", "gone", limit="new")
    assert done.rc != 0 and "gone (" in done.text and "Connection refused" in done.text, done.output
    assert fleet.secret("new", "fernet_key") is None


def files_of(directory):
    return {
        path: path.read_bytes()
        for path in sorted(directory.rglob("secrets/*")) + sorted(directory.rglob("copy*/*"))
    }


def test_a_playbook_that_only_reads_writes_no_secret(fleet, tmp_path):
    assert fleet.run("a", "b").rc == 0
    before = files_of(tmp_path)
    done = fleet.run("a", "b", reads=True, airflow_secrets_copy_dir=str(tmp_path / "copy-of-another-controller"))
    assert done.rc == 0 and f"admin_password is {fleet.secret('a', 'admin_password')}" in done.text, done.output
    assert files_of(tmp_path) == before
    # Neither does it make what is absent.
    (tmp_path / "a/secrets/admin_password").unlink()
    before = files_of(tmp_path)
    done = fleet.run("a", "b", reads=True, airflow_secrets_copy_dir="")
    assert done.rc != 0 and "No host of group airflow has admin_password in" in done.text, done.output
    assert "Run site.yml" in done.text and files_of(tmp_path) == before, done.output


def test_a_playbook_that_only_reads_needs_no_first_host(fleet, tmp_path):
    """Only the first host has the administrator's password. Here it is down, and the controller's copy has it."""
    assert fleet.run("a", "b").rc == 0
    password, before = fleet.secret("a", "admin_password"), files_of(tmp_path)
    done = fleet.run("gone", "b", limit="b", reads=True)
    assert done.rc == 0 and f"admin_password is {password}" in done.text, done.output
    assert files_of(tmp_path) == before
    done = fleet.run("gone", "b", limit="b", reads=True, airflow_secrets_copy_dir="")
    assert done.rc != 0 and "gone (" in done.text, done.output


def others(tmp_path, host):
    """What is kept beside the Fernet key of a host."""
    return [path.read_text(encoding="utf-8") for path in (tmp_path / host / "secrets").glob("fernet_key.*")]


@pytest.mark.parametrize(
    ("says", "takes"),
    [
        ("exit 0", True),
        ("echo '3 of the database can not be read' >&2; exit 1", False),
        ("echo 'The metadata database cannot be asked' >&2; exit 69", False),
    ],
)
def test_a_key_takes_the_place_of_another_one_only_if_the_database_opens_with_it(fleet, tmp_path, says, takes):
    fleet.give("a", fernet_key=A)
    fleet.database("a", says)
    done = fleet.run("a", airflow_fernet_key=B)
    assert (done.rc == 0) is takes, done.output
    assert (fleet.secret("a", "fernet_key"), others(tmp_path, "a")) == ((B, [A]) if takes else (A, []))
    assert takes or ("Put the old key into airflow_fernet_key" in done.text and "database can" in done.text), (
        done.output
    )


@pytest.mark.parametrize(("status", "goes_on"), [(1, False), (69, True)])
def test_a_key_that_is_not_that_of_the_copy_is_proven_before_the_copy_changes(fleet, tmp_path, status, goes_on):
    """Somebody has changed the file of a host. A database that is down stops nothing: no key of a host changes."""
    (tmp_path / "copy").mkdir(mode=0o700)
    (tmp_path / "copy/fernet_key").write_text(A, encoding="utf-8")
    fleet.give("a", fernet_key=B)
    fleet.database("a", f"exit {status}")
    done = fleet.run("a")
    assert (done.rc == 0) is goes_on, done.output
    assert (tmp_path / "copy/fernet_key").read_text(encoding="utf-8") == (B if goes_on else A)


PSQL = '''for last; do :; done
case $last in
    *count*"FROM connection WHERE"*password*) echo 2;; *count*) echo 0;; *to_regclass*) echo x;; *) echo 1;;
esac'''


@pytest.mark.parametrize("where", ["server of the inventory", "external server"])
def test_no_key_is_made_for_a_database_that_holds_values_of_another_one(fleet, where):
    given = {}
    if where == "external server":
        fleet.database("a", 'case " $* " in *" count "*) echo 2;; esac')
        given = {"airflow_database_host": "db.example.com", "airflow_database_password": "x"}
    else:
        fleet.program("bin/runuser", 'shift 3; exec "$@"')
        fleet.program("bin/psql", PSQL)
    done = fleet.run("a", **given)
    assert (
        done.rc != 0
        and "holds 2 encrypted values" in done.text
        and "Put the old key into airflow_fernet_key" in done.text
    ), done.output
    assert fleet.secret("a", "fernet_key") is None
    assert fleet.run("a", airflow_fernet_key=A, **given).rc == 0
    assert fleet.secret("a", "fernet_key") == A


@pytest.mark.parametrize(("databases", "answers", "refused"), [
    (["16384"], 'echo "connection refused" >&2; exit 2', True),
    # Only what a new cluster has.
    (["1", "4", "5"], 'echo "connection refused" >&2; exit 2', False),
    # A server that answers has no database of Airflow.
    (["16384"], "exit 0", False),
])
def test_no_key_is_made_while_a_server_with_databases_is_stopped(fleet, tmp_path, databases, answers, refused):
    fleet.program("bin/runuser", 'shift 3; exec "$@"')
    fleet.program("bin/psql", answers)
    for number in databases:
        (tmp_path / "data/15/main/base" / number).mkdir(parents=True)
        (tmp_path / "data/15/main/base" / number / "PG_VERSION").touch()
    done = fleet.run("a", __airflow_secrets_clusters=[str(tmp_path / "data"), str(tmp_path / "absent")])
    assert (done.rc != 0) is refused, done.output
    assert (fleet.secret("a", "fernet_key") is None) is refused
    assert (
        not refused
        or "gives no answer: connection refused" in done.text and "systemctl start postgresql" in done.text
    ), done.output


def test_a_moved_configuration_directory_brings_its_secrets(fleet, tmp_path):
    assert fleet.run("a").rc == 0
    names = ("fernet_key", "jwt_secret", "admin_password")
    before = [fleet.secret("a", name) for name in names]
    # As the template of the command has it.
    (tmp_path / "a").rename(tmp_path / "former")
    fleet.program("a/command", f". {tmp_path}/former/environment")
    done = fleet.run("a", airflow_secrets_copy_dir="")
    assert done.rc == 0, done.output
    assert [fleet.secret("a", name) for name in names] == before
    # The former one is in the way if it then has another key.
    (tmp_path / "former/secrets/fernet_key").write_text(A, encoding="utf-8")
    done = fleet.run("a", airflow_secrets_copy_dir="")
    assert (
        done.rc != 0
        and f"a has another fernet_key in {tmp_path}/former/secrets than in {tmp_path}/a/secrets" in done.text
    ), done.output


def test_a_drained_host_stays_drained_if_its_configuration_directory_moves(fleet, tmp_path):
    tasks = yaml.safe_load((ROOT / "roles/airflow_config/tasks/configure.yml").read_text(encoding="utf-8"))
    (task,) = [task for task in tasks if "drained" in task["name"]]
    for name in ("former", "a"):
        (tmp_path / name).mkdir()
    (tmp_path / "former/drained").write_text("by a test\n", encoding="utf-8")
    found = {"stdout_lines": [f"config {tmp_path}/former", "drained"]}
    done = fleet.run("a", tasks=[{"set_fact": {"__airflow_found": found}}, task])
    assert done.rc == 0, done.output
    assert (tmp_path / "a/drained").read_text(encoding="utf-8") == "by a test\n"


def test_the_command_airflow_names_the_directory_as_it_is_looked_for():
    script = (ROOT / "roles/airflow_secrets/tasks/steps/gather_state.yml").read_text(encoding="utf-8")
    assert r"s|^\. \(/.*\)/environment$|\1|p" in script
    assert "\n. {{ airflow_config_dir }}/environment\n" in (
        ROOT / "roles/airflow_config/templates/airflow.j2"
    ).read_text(encoding="utf-8")


# A component's Python: `run.py components pending` prints what is due, and `run.py fernet_key <question>` is asked too.
PYTHON = r"""case "$*" in
    *run.py\ components*) echo '{due}';;
    *strangers) cat > {said}; {strangers};;
    *addresses) echo {address};;
esac"""


@pytest.mark.parametrize(
    ("due", "strangers", "refused"),
    [
        ("[]", "echo 5", ""),
        ('["airflow-scheduler.service"]', "echo 5", "airflow-scheduler.service on b did not start after the file"),
        ("[]", "echo session 7 from 10.0.0.9 >&2; exit 1",
         "session 7 from 10.0.0.9. No value was encrypted by this run."),
        ("[]", "echo It cannot be asked >&2; exit 69", "It is not known who uses the database: It cannot be asked"),
    ],
)
def test_no_value_is_encrypted_while_something_that_runs_lacks_the_new_key(fleet, tmp_path, due, strangers, refused):
    tasks = [{
        "include_role": {"name": "windsock.airflow.airflow_secrets", "tasks_from": "steps/read_with_both_keys.yml"}
    }]
    for host, address, here in (("a", "10.0.0.1", "[]"), ("b", "10.0.0.2", due)):
        (tmp_path / host).mkdir()
        (tmp_path / host / "environment").touch()
        fleet.program(f"{host}/install/libexec/airflow_runtime/run.py", "")
        said = tmp_path / f"asked-{host}"
        fleet.program(
            f"{host}/install/venv/bin/python", PYTHON.format(due=here, said=said, strangers=strangers, address=address)
        )
    done = fleet.run("a", "b", tasks=tasks)
    assert (done.rc == 0) is (refused == "") and refused in done.text, done.output
    if "did not start" not in refused:
        asked = json.loads((tmp_path / "asked-a").read_text())
        assert asked["addresses"] == ["10.0.0.1", "10.0.0.2"] and "FROM pg_stat_activity" in asked["sessions"]


def test_the_rotation_proves_it_after_the_restart_and_before_it_encrypts():
    text = (ROOT / "roles/airflow_secrets/tasks/operations/rotate_fernet_key.yml").read_text(encoding="utf-8")
    names = re.findall(r"- name: (.*)", text)
    resume, prove, encrypt = (
        next(number for number, name in enumerate(names) if text in name)
        for text in ("Resume with both", "Prove that everything that runs has both", "Encrypt with the new key")
    )
    assert (prove, encrypt) == (resume + 1, resume + 2)


@pytest.mark.parametrize(("state", "given", "refused"), [
    ("active", {"airflow_database_password": "n/w"}, True),
    ("active", {"airflow_database_password": "o@d"}, False),
    # Another role's password changes nothing for the one of now.
    ("active", {"airflow_database_password": "n/w", "airflow_database_user": "other"}, False),
    # A server that this run does not change, a restore, and a rotation, which drains first.
    ("active", {"airflow_database_password": "n/w", "airflow_database_host": "db.example.com"}, False),
    ("active", {"airflow_database_password": "n/w", "__airflow_database_replaced": True}, False),
    ("active", {"airflow_database_password": "n/w", "__airflow_secrets_rotated": {"database_password": []}}, False),
    ("inactive", {"airflow_database_password": "n/w"}, False),
    # A rotation was killed after it had made the new password.
    ("active", {}, True),
])
def test_a_password_of_the_database_is_not_changed_under_an_airflow_that_runs(fleet, tmp_path, state, given, refused):
    """site.yml gives it to the server minutes before the hosts get it, and the tasks that start in between would fail.
    """
    hosts_of_test.systemctl(tmp_path)
    if state == "inactive":
        (tmp_path / "stopped").touch()
    fleet.give("a",
               fernet_key=A,
               database_password="n/w",
               sql_alchemy_conn="postgresql+psycopg2://airflow:o%40d@h:5432/airflow")
    done = fleet.run("new", "a", limit="a", **given)
    assert (done.rc != 0) is refused, done.output
    if refused:
        name = "airflow_database_password" if given else "database_password"
        assert (
            f"{name} is not the password that Airflow on a uses" in done.text
            and "playbooks/rotate_database_password.yml" in done.text
        )
        assert fleet.secret("a", "sql_alchemy_conn").endswith("o%40d@h:5432/airflow")


@pytest.mark.parametrize(
    ("url", "given", "says", "refused"),
    [
        ("airflow:x@db1:5432/airflow", {"airflow_database_host": "db2"}, "echo holds data", True),
        (
            "airflow:x@db1:5432/airflow",
            {"airflow_database_host": "db1", "airflow_database_name": "other"},
            "echo holds data",
            True,
        ),
        ("airflow:x@db1:5432/airflow", {"airflow_database_host": "db2"}, "echo", False),
        # The same database is not asked.
        ("airflow:y@db1:5432/airflow?sslmode=require", {"airflow_database_host": "db1"}, "echo holds data", False),
        (
            "airflow:x@db1:5432/airflow",
            {"airflow_database_host": "db2", "__airflow_database_replaced": True},
            "echo holds data",
            False,
        ),
        # Airflow has never run here.
        ("airflow:x@wrong:5432/airflow", {"airflow_database_host": "db2"}, "echo holds data", False),
    ],
    ids=["another server", "another name", "nothing is lost", "the same", "a restore", "a first install"],
)
def test_an_airflow_in_use_gets_no_empty_database(fleet, tmp_path, url, given, says, refused):
    fleet.give("a", fernet_key=A, sql_alchemy_conn=f"postgresql+psycopg2://{url}")
    (tmp_path / "a/environment").touch()
    fleet.program("a/install/venv/bin/python", says)
    if "wrong" not in url:
        (tmp_path / "a/units").mkdir()
        (tmp_path / "a/units/airflow.target").touch()
    done = fleet.run("a", airflow_database_password="x", **{"airflow_database_port": 5432, **given})
    assert (done.rc != 0) is refused, done.output
    if refused:
        assert "Airflow on a uses database db1:5432/airflow, which holds data. The inventory names db" in done.text
        assert fleet.secret("a", "sql_alchemy_conn") == f"postgresql+psycopg2://{url}"


def test_what_another_database_leaves_behind(postgresql):
    import psycopg2

    names = {
        "lost": "", "moved": "CREATE TABLE alembic_version AS SELECT 'x'", "used": "CREATE TABLE dag_run AS SELECT 1"
    }
    for name, statement in names.items():
        for place, text in (("postgres", f"CREATE DATABASE behind_{name}"), (f"behind_{name}", statement)):
            connection = psycopg2.connect(postgresql.replace("+psycopg2", "").replace("/postgres?", f"/{place}?"))
            connection.autocommit = True
            if text:
                connection.cursor().execute(text)
            connection.close()

    def ask(held, wanted):
        urls = [postgresql.replace("/postgres?", f"/behind_{name}?") for name in (held, wanted)]
        program = [sys.executable, ROOT / "roles/airflow_runtime/files/run.py", "other_database"]
        return subprocess.run(program, input=json.dumps(urls), text=True, capture_output=True,
                              check=True).stdout.strip()

    assert ask("used", "lost") == ask("used", "absent") == "holds data"
    assert ask("used", "moved") == ask("lost", "absent") == ask("lost", "moved") == ""
    assert ask("absent", "lost").startswith("cannot be asked (") and "does not exist" in ask("absent", "lost")
