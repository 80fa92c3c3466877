"""Sizes that role postgresql works out, its rules for input, and its files, rendered by Ansible's own engine without a
host.
"""

import importlib.util
import json
import pathlib
import re

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import postgresql
from ansible_collections.windsock.airflow.plugins.plugin_utils.variables import Values

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/postgresql"
AIRFLOW = {"name": "airflow", "password": "secret"}


def variables(ram=4096, system=("Debian", "12"), **given):
    loader = DataLoader()
    names = ["defaults/main.yml", "vars/main.yml", "vars/Debian.yml", f"vars/{system[0]}-{system[1]}.yml"]
    merged = {}
    for name in names:
        merged |= loader.load_from_file(str(ROLE / name), trusted_as_template=True)
    return merged | {
        "ansible_managed": "Managed by Ansible", "ansible_check_mode": False,
        "ansible_facts": {"memtotal_mb": ram, "distribution": system[0], "distribution_release": "bookworm"},
        "postgresql_users": [AIRFLOW], "postgresql_databases": [{"name": "airflow", "owner": "airflow"}],
    } | given


def templar(**given):
    return Templar(loader=DataLoader(), variables=variables(**given))


def value(name, **given):
    return templar(**given).template(trust_as_template("{{ " + name + " }}"))


def render(name, **given):
    """As the template module does it: a backslash is a backslash, and a line with nothing but a tag is none."""
    text = "#jinja2: trim_blocks: True\n" + (ROLE / "templates" / name).read_text(encoding="utf-8").replace(
        "'pgdg.asc'", f"'{ROLE}/files/pgdg.asc'")
    return templar(**given).template(trust_as_template(text), escape_backslashes=False)


def settings(**given):
    pairs = re.findall(r"^([a-z_.]+) = (.*)$", render("postgresql.conf.j2", **given), re.M)
    assert len(dict(pairs)) == len(pairs), "a setting is there twice"
    return dict(pairs)


def rules(**given):
    return [
        line.split() for line in render("pg_hba.conf.j2", **given).splitlines() if line and not line.startswith("#")
    ]


def judged(check, **given):
    return [text for _name, text in check(Values(Templar(loader=DataLoader()), variables(**given)), None)]


def errors(**given):
    return judged(postgresql.check_role, **given)


@pytest.mark.parametrize(("ram", "percent", "buffers", "cache", "work", "maintenance"), [
    (1900, 25, 64, 192, 4, 32),            # the smallest host
    (3900, 25, 192, 576, 11, 48),          # one host for all, 4 GB
    (15800, 100, 3904, 11712, 64, 976),    # a database host of its own, 16 GB
    (126000, 100, 8192, 94464, 64, 1024),  # what is bounded stays bounded
])
def test_memory_follows_the_host(ram, percent, buffers, cache, work, maintenance):
    found = settings(ram=ram, postgresql_memory_percent=percent)
    assert [found[name] for name in ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem")] == [
        f"{size}MB" for size in (buffers, cache, work, maintenance)]


def test_a_kernel_that_reserves_a_little_more_changes_nothing():
    assert settings(ram=7900) == settings(ram=7880)


def test_every_size_can_be_set_by_hand():
    given = {
        "postgresql_shared_buffers": "1GB", "postgresql_work_mem": "7MB", "postgresql_maintenance_work_mem": "99MB",
        "postgresql_effective_cache_size": "3GB", "postgresql_max_connections": 42, "postgresql_port": 6000
    }
    found = settings(**given)
    assert {name: found[name.removeprefix("postgresql_")]
            for name in given} == {name: str(size)
                                   for name, size in given.items()}


def test_connections_are_the_clients_and_a_reserve():
    assert settings(postgresql_connections=180, postgresql_connections_reserved=15)["max_connections"] == "195"


def test_wiring_counts_the_pools_of_every_component():
    wiring = DataLoader().load_from_file(str(ROOT / "group_vars/all/postgresql.yml"), trusted_as_template=True)
    groups = {
        "airflow": ["a"], "airflow_webserver": ["a"], "airflow_scheduler": ["a"], "airflow_dag_processor": ["a"],
        "airflow_triggerer": ["a"]
    }
    airflow = {
        "airflow_database_pool_size": 5, "airflow_database_max_overflow": 10, "airflow_api_workers": 2,
        "airflow_parallelism": 16, "groups": groups, "group_names": ["airflow", "airflow_postgres"]
    }

    def count(major, components, **given):
        variables_ = (
            wiring
            | airflow
            | {"__airflow_major": major, "__airflow_components_wanted": {name: {"group": name} for name in components}}
            | given
        )
        return Templar(loader=DataLoader(),
                       variables=variables_).template(trust_as_template("{{ postgresql_connections | int }}"))

    three = ["airflow_webserver", "airflow_scheduler", "airflow_dag_processor", "airflow_triggerer"]
    assert count(3, three) == (2 + 4) * 15 * 2
    assert count(3, three, groups=groups | {"airflow_webserver": ["a", "b"]}) == (2 * 2 + 5) * 15 * 2
    assert count(2, ["airflow_webserver", "airflow_scheduler", "airflow_triggerer"]) == (2 + 3) * 15 + 16 * 2 + 2


def test_extra_settings_are_quoted():
    found = settings(
        postgresql_settings={"log_line_prefix": "it's %m\\", "log_connections": True, "seq_page_cost": 1.1})
    assert found["log_line_prefix"] == "'it''s %m\\\\'"
    assert (found["log_connections"], found["seq_page_cost"]) == ("'true'", "'1.1'")


# What Airflow benefits from: what the file has by default, another value, and what the file has then.
TUNED = {
    "random_page_cost": ("1.1", 4, "4"),
    "effective_io_concurrency": ("200", 16, "16"),
    "max_wal_size": ("2GB", "8GB", "8GB"),
    "jit": ("off", True, "on"),
    "autovacuum_vacuum_scale_factor": ("0.05", 0.01, "0.01"),
    "autovacuum_analyze_scale_factor": ("0.02", 0.01, "0.01"),
    "idle_in_transaction_session_timeout": ("'30min'", 0, "'0'"),
    "log_lock_waits": ("on", False, "off"),
}


@pytest.mark.parametrize("name", TUNED)
def test_settings_for_airflow_have_a_value_a_variable_and_a_reason(name):
    default, other, written = TUNED[name]
    assert settings()[name] == default
    assert settings(**{f"postgresql_{name}": other})[name] == written
    # Above the setting, in the file that an administrator opens on the host.
    reason = render("postgresql.conf.j2").split(f"\n{name} = ")[0].splitlines()[-1]
    assert re.fullmatch(r"# .{40,}\.", reason)


@pytest.mark.parametrize("name", TUNED)
def test_settings_of_a_site_win_and_stand_in_the_file_once(name):
    assert settings(postgresql_settings={name: "x"})[name] == "'x'"


def test_only_the_declared_may_connect():
    assert rules() == [
        ["local", "all", "postgres", "peer"],
        ["local", '"airflow"', '"airflow"', "scram-sha-256"],
        ["host", '"airflow"', '"airflow"', "127.0.0.1/32", "scram-sha-256"],
        ["host", '"airflow"', '"airflow"', "::1/128", "scram-sha-256"],
    ]


def test_other_hosts_connect_over_tls_only():
    found = rules(postgresql_listen_addresses=["127.0.0.1", "10.0.0.5"], postgresql_allowed_networks=["10.0.0.0/24"],
                  postgresql_databases=[{"name": "airflow", "owner": "airflow", "users": ["reporting"]}])
    assert found[-1] == ["hostssl", '"airflow"', '"airflow","reporting"', "10.0.0.0/24", "scram-sha-256"]
    assert not [rule for rule in found if rule[0] == "host" and rule[3] != "127.0.0.1/32"]


# ---- a server that other applications use


def answer(rules="foreign", **given):
    """What files/neighbours.py says of a server, as the role has it."""
    settings_ = {"port": "5432", "listen_addresses": "localhost", "max_connections": "100", "ssl": "on"}
    said = {"rules": rules, "others": [], "kept": [], "taken": [], "settings": settings_, "error": ""} | given
    return {"__postgresql_neighbours_answer": {"stdout": json.dumps(said)}, "inventory_hostname": "db-1"}


SHOP = answer(others=["database crm", "database shop"])


def refusals(**given):
    return judged(postgresql.check_neighbours, **given)


def test_a_server_that_serves_another_application_is_refused_with_the_way_to_share_it():
    (message,) = refusals(**SHOP)
    for words in ("database crm, database shop", "/etc/postgresql/15/main/pg_hba.conf", "postgresql_shared: true",
                  "group_vars/all/main.yml", "postgresql_databases"):
        assert words in message
    assert refusals(**SHOP, postgresql_shared=True) == []


@pytest.mark.parametrize("given", [
    answer("absent", settings={}), answer("own", settings={}), answer("foreign"), {**SHOP, "postgresql_shared": True},
    {**answer("block", others=["database shop"], settings={}), "postgresql_shared": True},
    {**SHOP, "postgresql_shared": True, "postgresql_manage_settings": True, "postgresql_max_connections": 500,
     "postgresql_port": 5433},
])
def test_a_server_of_our_own_a_new_one_and_a_shared_one_pass(given):
    assert refusals(**given) == []


@pytest.mark.parametrize(("given", "words"), [
    ({"settings": {"port": "5433", "listen_addresses": "*", "max_connections": "100", "ssl": "on"}},
     "Set airflow_database_port: 5433"),
    ({"settings": {"port": "5432", "listen_addresses": "10.0.0.5", "max_connections": "100", "ssl": "on"}},
     "listens on 10.0.0.5"),
    ({"settings": {"port": "5432", "listen_addresses": "", "max_connections": "100", "ssl": "on"}},
     "listens on no address"),
    ({"postgresql_max_connections": 170}, "has max_connections 100, and Airflow alone may need 170"),
    ({"postgresql_tls_certificate": "/a", "postgresql_tls_key": "/b"}, "would replace the certificate"),
    ({"settings": {"port": "5432", "listen_addresses": "*", "max_connections": "100", "ssl": "off"},
      "postgresql_listen_addresses": ["10.0.0.5"],
      "postgresql_allowed_networks": ["10.0.0.0/24"]}, "has TLS off"),
    ({"taken": ["database airflow belongs to role bob, not to airflow"]}, "belongs to role bob"),
    ({"error": "it is down"}, "it is down"),
])
def test_a_shared_server_that_does_not_fit_is_refused(given, words):
    said = {key: given[key] for key in ("settings", "taken", "error") if key in given}
    rest = {key: value_ for key, value_ in given.items() if key not in said}
    (message,) = refusals(**answer(others=["database shop"], **said), postgresql_shared=True, **rest)
    assert words in message


def test_what_the_site_sets_for_a_shared_server_counts():
    given = {"postgresql_shared": True, "postgresql_max_connections": 170, "postgresql_listen_addresses": ["10.0.0.5"]}
    assert len(refusals(**SHOP, **given)) == 2
    assert refusals(**SHOP,
                    **given,
                    postgresql_settings={"max_connections": 270, "listen_addresses": "localhost, 10.0.0.5"}) == []


def test_a_shared_server_keeps_its_settings():
    assert settings(postgresql_shared=True) == {}
    given = {"postgresql_shared": True, "postgresql_settings": {"max_connections": 270}}
    assert settings(**given) == {"max_connections": "'270'"} and errors(**given) == []
    assert settings(postgresql_shared=True, postgresql_manage_settings=True) == settings()


def test_a_shared_server_gets_no_defaults_for_new_clusters():
    written = [item["path"] for item in value("__postgresql_files", postgresql_shared=True)]
    assert written == ["/etc/postgresql/15/main/conf.d/90-ansible.conf"]
    assert len(value("__postgresql_files")) == 4


def test_a_shared_server_is_restarted_for_nothing_but_the_settings_of_the_site():
    waits = {"__postgresql_answer": {"query_result": [{"restart": ["max_connections", "shared_buffers"]}]}, **SHOP}
    assert value("__postgresql_must_restart", **waits) == ["max_connections", "shared_buffers"]
    assert value("__postgresql_must_restart", **waits, postgresql_shared=True) == []
    assert value("__postgresql_must_restart",
                 **waits,
                 postgresql_shared=True,
                 postgresql_settings={"max_connections": 270}) == ["max_connections"]


@pytest.mark.parametrize(("said", "shared", "kept"), [
    (answer("absent"), False, False), (answer("own"), False, False), (answer("own"), True, False),
    (answer("own", kept=["host a"]), True, True),
    (answer("foreign"), False, True), (answer("foreign"), True, True), (answer("block"), True, False),
    (answer("block"), False, True)])
def test_rules_of_somebody_else_are_copied_before_they_change(said, shared, kept):
    assert value("__postgresql_hba_is_kept", **said, postgresql_shared=shared) is kept


@pytest.fixture
def edit(tmp_path, capsys, request):
    """edit("configure", "Write our rules", ...): run a task of the role that edits pg_hba.conf below tmp_path; return
    whether it changed something.
    """
    hba = tmp_path / "pg_hba.conf"

    def run(file, words, **given):
        loaded = DataLoader().load_from_file(str(ROLE / f"tasks/{file}.yml"), trusted_as_template=True)
        (task,) = [task for task in loaded if words in task["name"]]
        (name,) = [key for key in task if key.startswith("ansible.builtin.")]
        given = {"ansible_search_path": [str(ROLE)], "__postgresql_config_dir": str(tmp_path)} | given
        module = importlib.import_module(f"ansible.modules.{name.rpartition('.')[2]}")
        with patch_module_args({
                **templar(**given).template(task[name]), "_ansible_remote_tmp": str(tmp_path),
                "_ansible_tmpdir": str(tmp_path)
        }):
            with pytest.raises(SystemExit):
                module.main()
        return json.loads(capsys.readouterr().out)["changed"]

    request.addfinalizer(lambda: hba.unlink(missing_ok=True))
    return run


RULES_OF_THE_SHOP = """# Our shop. Ask Ann before you change this.
local all postgres peer
hostssl shop shop 10.1.0.0/16 scram-sha-256
host all all 127.0.0.1/32 md5
"""


def test_our_rules_stand_above_those_of_other_applications_and_go_alone(edit, tmp_path):
    hba = tmp_path / "pg_hba.conf"
    hba.write_text(RULES_OF_THE_SHOP, encoding="utf-8")
    assert edit("configure", "Write our rules", postgresql_shared=True)
    text = hba.read_text(encoding="utf-8")
    block, rest = text.split("# END role postgresql\n")
    assert block.startswith("# BEGIN role postgresql\n") and rest == RULES_OF_THE_SHOP
    # The first rule that matches counts, and each of ours names our database and our role: nobody else meets it.
    lines = [line.split() for line in block.splitlines() if line and not line.startswith("#")]
    assert lines and all(line[1:3] == ['"airflow"', '"airflow"'] for line in lines)
    assert not edit("configure", "Write our rules", postgresql_shared=True)
    assert hba.read_text(encoding="utf-8") == text

    assert edit("operations/remove", "Remove our rules from a file that is shared")
    assert hba.read_text(encoding="utf-8") == RULES_OF_THE_SHOP


def test_a_file_of_our_own_that_becomes_shared_is_not_taken_for_our_own_again(edit, tmp_path):
    hba = tmp_path / "pg_hba.conf"
    hba.write_text(render("pg_hba.conf.j2") + "host shop shop 10.1.0.7/32 scram-sha-256\n", encoding="utf-8")
    assert edit("configure", "Hand a file of our own over")
    edit("configure", "Write our rules", postgresql_shared=True)
    edit("operations/remove", "Remove our rules from a file that is shared")
    left = hba.read_text(encoding="utf-8")
    assert (
        "host shop shop" in left and "local  all  postgres  peer" in left
        and "Generated by role postgresql from" not in left
    )


def test_the_roles_of_a_written_file_are_known_after_they_are_no_longer_declared():
    spec = importlib.util.spec_from_file_location("neighbours", ROLE / "files/neighbours.py")
    neighbours = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(neighbours)
    written = render("pg_hba.conf.j2",
                     postgresql_databases=[{"name": "airflow", "owner": "airflow", "users": ["reporting", "bi"]}],
                     postgresql_listen_addresses=["127.0.0.1", "10.0.0.5"],
                     postgresql_allowed_networks=["10.0.0.0/24"])
    assert neighbours.added(written, []) == []
    assert neighbours.added(written + "include_dir hba.d\n", []) == ["include_dir hba.d"]


def test_removal_keeps_the_rules_that_somebody_added():
    left = value("__postgresql_hba_left", **answer("own", kept=["host shop shop 10.1.0.7/32 md5"]))
    assert left.startswith("host shop shop 10.1.0.7/32 md5\n# Written when") and left.endswith(
        "::1/128  scram-sha-256\n")
    assert value("__postgresql_hba_left", **answer("own")).startswith("# Written when")


def test_tls_is_set_with_a_certificate_only():
    assert "ssl" not in settings()
    found = settings(postgresql_tls_certificate="/etc/tls/db.pem", postgresql_tls_key="/etc/tls/db.key")
    assert (found["ssl"], found["ssl_cert_file"], found["ssl_key_file"]) == (
        "on", "'/etc/postgresql/15/main/server.crt'", "'/etc/postgresql/15/main/server.key'")


@pytest.mark.parametrize(("system", "major"), [
    (("Debian", "12"), "15"), (("Debian", "13"), "17"), (("Ubuntu", "22"), "14"), (("Ubuntu", "24"), "16"),
    (("Amazon", "2023"), "15")])
def test_the_distributions_own_server_needs_no_other_repository(system, major):
    assert value("__postgresql_major", system=system) == major
    assert value("__postgresql_pgdg", system=system) is False
    assert value("__postgresql_pgdg", system=system, postgresql_version=major) is False
    assert errors(system=system) == []


def test_another_major_comes_from_its_project_on_debian_and_from_amazon_on_amazon():
    assert value("__postgresql_pgdg", postgresql_version="17") is True
    assert value("__postgresql_packages", postgresql_version="17")[0] == "postgresql-17"
    assert value("__postgresql_pgdg", system=("Amazon", "2023"), postgresql_version="16") is False
    assert value("__postgresql_packages", system=("Amazon", "2023"),
                 postgresql_version="16")[0] == "postgresql16-server"


def test_what_is_missing_and_what_else_is_there():
    answer = {
        "stdout_lines": [
            "postgresql-15 installed", "postgresql-client-15 installed", "postgresql-14 config-files",
            "python3-psycopg2 unpacked"
        ]
    }
    assert value("__postgresql_missing", __postgresql_query=answer) == ["python3-psycopg2"]
    assert value("__postgresql_other_majors", __postgresql_query=answer) == []
    assert value("__postgresql_other_majors", __postgresql_query=answer, postgresql_version="17") == ["15"]


@pytest.mark.parametrize(("given", "words"), [
    ({"postgresql_version": "11"}, "postgresql_version is"),
    ({"postgresql_pgdg_key_url": "https://x"}, "postgresql_pgdg_key_checksum"),
    ({"postgresql_port": 80}, "postgresql_port is 80"),
    ({"postgresql_max_connections": 3}, "postgresql_max_connections is 3"),
    ({"postgresql_memory_percent": 101}, "postgresql_memory_percent is 101"),
    ({"postgresql_listen_addresses": []}, "postgresql_listen_addresses is empty"),
    ({"postgresql_allowed_networks": ["10.0.0.0/8"]}, "add the host's private address"),
    ({"system": ("Amazon", "2023"), "postgresql_allowed_networks": ["10.0.0.0/8"],
      "postgresql_listen_addresses": ["10.0.0.1"]}, "needs TLS"),
    ({"postgresql_tls_key": "/x"}, "belong together"),
    ({"postgresql_pgdg_url": "https://me:hush@mirror.example/pgdg"}, "postgresql_pgdg_url has a login"),
    ({"postgresql_pgdg_key_url": "https://hush@mirror.example/key", "postgresql_pgdg_key_checksum": "sha256:0"},
     "postgresql_pgdg_key_url has a login"),
    ({"postgresql_settings": {"max_connections": 5}}, "max_connections: that has a variable"),
    ({"postgresql_settings": {"a = 1\nb": 5}}, "names of settings"),
    ({"postgresql_users": [AIRFLOW, {"name": "Ann\"", "password": "x"}]}, "has the name Ann\""),
    ({"postgresql_users": [AIRFLOW, {"name": "postgres", "password": "x"}]}, "superuser"),
    ({"postgresql_users": [{"name": "airflow", "password": ""}]}, "no password for airflow"),
    ({"postgresql_databases": [{"name": "airflow", "owner": "bob", "users": ["eve"]}]}, "bob, eve"),
])
def test_bad_input_is_refused_by_name(given, words):
    found = errors(**given)
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize(("network", "valid"), [
    ("0.0.0.0/0", False), ("::/0", False), ("0.0.0.0/1", False), ("10.0.0.0/7", False), ("10.0.0.0", False),
    ("10.0.0/24", False), ("300.0.0.0/24", False),
    ("all", False), ("10.0.0.0/33", False), ("fc00::/7", False), ("10.0.0.0/24 trust", False),
    ("10.0.0.0/24\nhost all", False),
    ("10.0.0.0/8", True), ("192.168.1.7/32", True), ("fd00:1:2::/48", True), ("2001:db8::1/128", True)])
def test_networks(network, valid):
    given = {"postgresql_listen_addresses": ["10.0.0.5"], "postgresql_allowed_networks": [network]}
    assert (errors(**given) == []) is valid


def test_repository_is_signed_by_one_key():
    lines = render("pgdg.sources.j2").splitlines()
    fields = [line for line in lines if line and not line.startswith(("#", " "))]
    assert fields == [
        "Types: deb", "URIs: https://apt.postgresql.org/pub/repos/apt", "Suites: bookworm-pgdg", "Components: main",
        "Signed-By:"
    ]
    key = [line for line in lines if line.startswith(" ")]
    assert key[0] == " -----BEGIN PGP PUBLIC KEY BLOCK-----" and key[1] == " ." and key[
        -1] == " -----END PGP PUBLIC KEY BLOCK-----"
