"""bin/new-site: the directory that it creates, what it refuses, and that both forms of a command reach the site."""

import configparser
import os
import pathlib
import re
import shutil
import stat
import subprocess
import uuid

import forks
import pytest
import yaml

pytestmark = pytest.mark.playbook
ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def new_site(*arguments, home=None, cwd=None):
    done = subprocess.run([ROOT / "bin/new-site", *map(str, arguments)],
                          capture_output=True,
                          text=True,
                          check=False,
                          cwd=cwd,
                          env={**ENVIRONMENT, **({"HOME": str(home)} if home else {})})
    return done.returncode, done.stdout + done.stderr


def ansible(command, *arguments, cwd):
    done = forks.run([command, *arguments], cwd=cwd, env={**ENVIRONMENT, "PWD": str(cwd), "ANSIBLE_NOCOLOR": "1"})
    return done.returncode, done.stdout + done.stderr


def config(path):
    parser = configparser.RawConfigParser()
    parser.read(path, encoding="utf-8")
    return {(section, name): value for section in parser.sections() for name, value in parser.items(section)}


@pytest.fixture
def site(tmp_path):
    directory = tmp_path / "airflow-site"
    code, output = new_site(directory, "--host", "203.0.113.7", "--user", "admin")
    assert code == 0, output
    return directory


def uncommented(path):
    """The file with every variable set, as somebody who removes each # has it."""
    return re.sub(r"^# (\w+: )", r"\1", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_it_creates_a_site_for_its_owner_alone(site):
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert files == {
        "hosts.yml", "group_vars/all/main.yml", "group_vars/all/vault.yml", "requirements.yml", "ansible.cfg",
        ".gitignore", "README.md"
    }
    assert stat.S_IMODE(site.stat().st_mode) == 0o700
    assert {stat.S_IMODE((site / name).stat().st_mode) for name in files} == {0o600}
    assert [path.name for path in site.parent.iterdir()] == [site.name], "nothing else is left"
    for name in files:
        assert not re.search(r"\$\{?[a-z_]+\}", (site / name).read_text(encoding="utf-8")), name


def test_its_host_is_that_of_the_shipped_inventory(site):
    mine, shipped = load(site / "hosts.yml"), load(ROOT / "inventories/single_node/hosts.yml")
    assert mine["all"]["children"] == shipped["all"]["children"]
    assert mine["all"]["hosts"] == {"airflow-1": {"ansible_host": "203.0.113.7", "ansible_user": "admin"}}


def test_it_takes_all_of_a_connection(tmp_path):
    (tmp_path / "key").write_text("", encoding="utf-8")
    code, output = new_site(tmp_path / "s", "--host", "2001:db8::7", "--port", "2222", "--key", tmp_path / "key",
                            "--name", "main")
    assert code == 0, output
    assert load(tmp_path / "s/hosts.yml")["all"]["hosts"] == {
        "main": {
            "ansible_host": "2001:db8::7", "ansible_port": 2222, "ansible_ssh_private_key_file": str(tmp_path / "key")
        }
    }


def test_a_name_that_yaml_reads_as_something_else_is_a_name(tmp_path):
    names = ["1", "1.5", "1e3", "0x1f", "2024-01-01", "1-1", "true", "no", "null", "y", "web-1.example.com"]
    inventories = []
    for name in names:
        assert new_site(tmp_path / name, "--name", name)[0] == 0
        inventories += ["-i", tmp_path / name / "hosts.yml"]
        hosts = load(tmp_path / name / "hosts.yml")["all"]
        assert list(hosts["hosts"]) == list(
            hosts["children"]["airflow"]["children"]["airflow_scheduler"]["hosts"]) == [name]
    code, output = ansible("ansible-playbook", *inventories, "site.yml", "--list-hosts", cwd=ROOT)
    assert code == 0, output
    assert set(re.findall(r"^      (\S+)$", output, re.MULTILINE)) == set(names)


def test_it_pins_airflow_and_has_an_id_of_its_own(site, tmp_path):
    assert new_site(tmp_path / "two", "--airflow", "2.11.2")[0] == 0
    one, two = load(site / "group_vars/all/main.yml"), load(tmp_path / "two/group_vars/all/main.yml")
    assert one["airflow_version"] == load(ROOT / "roles/airflow_common/defaults/main.yml")["airflow_version"]
    assert two["airflow_version"] == "2.11.2"
    assert one["airflow_site_id"] != two["airflow_site_id"]
    assert str(uuid.UUID(one["airflow_site_id"])) == one["airflow_site_id"]
    assert one["airflow_site_id"] in (site / "README.md").read_text(encoding="utf-8")


def test_the_variables_that_people_change_are_ten_and_explained(site):
    text = (site / "group_vars/all/main.yml").read_text(encoding="utf-8")
    lines = text.splitlines()
    names = [match[1] for line in lines if (match := re.match(r"(?:# )?(airflow_\w+):", line))]
    assert len(set(names) - {"airflow_site_id"}) == len(names) - 1 == 10
    specs = {}
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        specs.update(load(path)["argument_specs"]["main"].get("options") or {})
    assert set(names) <= set(specs)
    for before, line in zip(["", *lines], lines):
        if re.match(r"(# )?airflow_\w+:", line):
            assert re.match(r"# [A-Z].*\.$", before), f"one line explains {line}"
    assert set(load(site / "group_vars/all/main.yml")) == {"airflow_site_id", "airflow_version"}


def test_its_ansible_cfg_has_the_settings_of_the_repository(site):
    mine, main = config(site / "ansible.cfg"), config(ROOT / "ansible.cfg")
    assert mine.keys() == main.keys()
    for key, value in main.items():
        if key[1] == "inventory":
            assert mine[key] == "hosts.yml"
        elif key[1] == "collections_path":
            assert mine[key] == str(ROOT / value)
        else:
            assert mine[key] == value
    assert mine["defaults", "collections_path"].split(":")[0] == str(ROOT / "collections")


def test_its_ansible_cfg_is_written_anew_and_keeps_what_was_added(site):
    path = site / "ansible.cfg"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(str(ROOT), "/old/clone") + "\n[privilege_escalation]\nbecome_ask_pass = True\n",
                    encoding="utf-8")
    hosts = (site / "hosts.yml").read_text(encoding="utf-8")
    code, output = new_site("--ansible-cfg", site)
    assert code == 0, output
    assert config(path) == {**config(ROOT / "ansible.cfg"), **config(path)
                            } | {("privilege_escalation", "become_ask_pass"): "True"}
    assert "/old/clone" not in path.read_text(encoding="utf-8")
    assert (site / "hosts.yml").read_text(encoding="utf-8") == hosts
    code, output = new_site("--ansible-cfg", site / "group_vars")
    assert code == 1 and "is no site" in output


@pytest.mark.parametrize("line, code", [
    ("airflow_site_id: 'ID'", 0), ("airflow_site_id: ID", 0), ('airflow_site_id: "ID"   # Never change it.', 0),
    ("airflow_site_id: ID # mine", 0),
    ("airflow_site_id:   ID", 0), ("airflow_site_id : ID", 0), ('"airflow_site_id": ID', 0),
    ("# airflow_site_id: ID", 1), ("my_airflow_site_id: ID", 1),
])
def test_every_form_of_the_id_makes_a_site(site, line, code):
    """Whether the id is valid, preflight says."""
    path = site / "group_vars/all/main.yml"
    path.write_text(line.replace("ID", load(path)["airflow_site_id"]) + "\n", encoding="utf-8")
    assert ("airflow_site_id" in load(path) if code == 0 else "airflow_site_id" not in (load(path) or {}))
    assert new_site("--ansible-cfg", site)[0] == code
    # The hint of a directory that is not empty knows it too.
    assert ("bin/new-site --ansible-cfg" in new_site(site)[1]) == (code == 0)


def test_both_forms_of_a_command_reach_the_site(site):
    for cwd, arguments in ((site, [ROOT / "site.yml"]), (ROOT, ["-i", site / "hosts.yml", "site.yml"])):
        code, output = ansible("ansible-playbook", *arguments, "--list-hosts", cwd=cwd)
        assert code == 0, output
        assert set(re.findall(r"^      (\S+)$", output, re.MULTILINE)) == {"airflow-1"}


def test_a_site_without_an_address_is_refused_by_preflight(tmp_path):
    assert new_site(tmp_path / "s")[0] == 0
    _code, output = ansible("ansible-playbook", ROOT / "playbooks/validate.yml", cwd=tmp_path / "s")
    assert re.search(
        r"ansible_host of airflow-1 \(\S+hosts.yml:\d+\): is 192.0.2.10, an address of examples. Put the address of "
        r"your host there.",
        output)
    assert "no host was contacted" in output


@pytest.mark.parametrize("everything", [False, True], ids=["as created", "every variable set"])
def test_preflight_takes_its_variables(site, everything):
    """The input is judged before a host is contacted, which is this machine here, and may be refused."""
    if everything:
        path = site / "group_vars/all/main.yml"
        path.write_text(uncommented(path), encoding="utf-8")
        (site / "group_vars/all/vault.yml").write_text(
            "vault_airflow_admin_password: correct-horse-battery\n"
            "vault_airflow_slack_webhook_url: https://hooks.slack.example/services/T/B/x\n", encoding="utf-8")
    _code, output = ansible("ansible-playbook",
                            ROOT / "playbooks/validate.yml",
                            "-e",
                            "ansible_connection=local",
                            "-e",
                            "ansible_become=false",
                            cwd=site)
    assert "no host was contacted" not in output
    assert "host | Check the host" in output


def test_a_placeholder_of_the_vault_is_no_secret(site):
    """Neither the file as it is nor one whose # was removed."""
    vault, main = site / "group_vars/all/vault.yml", site / "group_vars/all/main.yml"
    assert load(vault) is None
    main.write_text(uncommented(main), encoding="utf-8")
    run = [
        "ansible-playbook", ROOT / "playbooks/validate.yml", "-e", "ansible_connection=local", "-e",
        "ansible_become=false"
    ]
    _code, output = ansible(*run, cwd=site)
    assert "vault_airflow_admin_password is undefined" in output and "no host was contacted" in output
    vault.write_text(re.sub(r"^# (vault_\w+: )", r"\1", vault.read_text(encoding="utf-8"), flags=re.MULTILINE),
                     encoding="utf-8")
    assert len(load(vault)) == 3
    _code, output = ansible(*run, cwd=site)
    assert re.search(r"airflow_admin_password \(\S+main.yml:\d+\): is a placeholder", output)
    assert re.search(r"airflow_alerts.slack_webhook_url \(\S+main.yml:\d+\): is a placeholder", output)
    assert "no host was contacted" in output


@pytest.mark.parametrize(("origin", "written"), [
    ("https://ann:horse-battery@git.example.com/airflow.git", "https://git.example.com/airflow.git"),
    ("https://horse-battery@git.example.com/airflow.git", "https://git.example.com/airflow.git"),
    ("git@git.example.com:airflow.git", "git@git.example.com:airflow.git"),
])
def test_the_address_that_is_committed_holds_no_token(tmp_path, origin, written):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    shutil.copy(ROOT / "bin/new-site", clone / "bin")
    shutil.copytree(ROOT / "files/site", clone / "files/site", dirs_exist_ok=True)
    subprocess.run(["git", "remote", "set-url", "origin", origin], cwd=clone, check=True)
    subprocess.run([clone / "bin/new-site", tmp_path / "site"], check=True, capture_output=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=clone, text=True).strip()
    assert load(tmp_path /
                "site/requirements.yml") == {"collections": [{"name": written, "type": "git", "version": head}]}


def test_it_says_what_to_commit(site):
    ignored = (site / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/.vault-password", "/ansible.cfg", "/artifacts/"} <= set(ignored)
    text = (site / "README.md").read_text(encoding="utf-8")
    for words in ("ansible-vault encrypt", "password of `vault.yml`", "copy of the secrets", "known_hosts", "`-K`"):
        assert words in text


@pytest.mark.parametrize("arguments, told", [
    (["--host", "my host"], "--host is 'my host'"), (["--host", "host; rm"], "an IP address or a host name"),
    (["--host", "-oProxyCommand=x"], "--host"),
    (["--host", 'a"b'], "--host is"), (["--user", "a b"], "--user is 'a b'"), (["--port", "0"], "--port is '0'"),
    (["--port", "65536"], "1 to 65535"),
    (["--host", "admin@203.0.113.7"], "such as 203.0.113.7, and the login with --user admin"),
    (["--name", "airflow"], "not the name of a group"), (["--name", "airflow_scheduler"], "not the name of a group"),
    (["--name", "127.0.0.1"], "--name is '127.0.0.1'"),
    (["--key", "/no/such/key"], "is no file on this machine"), (["--airflow", "3.9.9"], "without a lock"),
    (["--airflow", "latest"], "without a lock"),
])
def test_bad_values_are_refused_before_anything_is_written(tmp_path, arguments, told):
    code, output = new_site(tmp_path / "s", "=".join(arguments))
    assert code == 1
    assert told in output and "Do this: " in output and "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_bad_directories_are_refused(site, tmp_path):
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    code, output = new_site(site)
    assert code == 1 and "exists and is not empty" in output and "bin/new-site --ansible-cfg" in output
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before
    code, output = new_site(ROOT / "inventories/mine")
    assert code == 1 and "inside the repository" in output
    assert not (ROOT / "inventories/mine").exists()
    (tmp_path / "link").symlink_to(ROOT / "inventories")
    assert "inside the repository" in new_site(tmp_path / "link/mine")[1]
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "is a file" in new_site(tmp_path / "file")[1]
    assert "inside the repository" in new_site(".", cwd=ROOT)[1]


@pytest.fixture
def clone(tmp_path):
    """What bin/new-site reads, without an environment."""
    for name in ("bin", "files/site", "locks", "roles/airflow_common/defaults"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name)
    shutil.copy(ROOT / "ansible.cfg", tmp_path / "clone")
    return tmp_path / "clone"


def test_without_an_environment_the_next_command_is_setup(clone, tmp_path):
    done = subprocess.run([clone / "bin/new-site", tmp_path / "site"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"cd {clone} && bin/setup && . .venv/bin/activate" in done.stdout


@pytest.mark.parametrize(("arguments", "told"), [
    (["--host", "203.0.113.7", "--user", "admin"], "ssh admin@203.0.113.7 true"), ([], "ssh 192.0.2.10 true"),
    (["--host", "203.0.113.7", "--user", "admin", "--port", "2222", "--key", "{}/a key"],
     "ssh -p 2222 -i '{}/a key' admin@203.0.113.7 true")])
def test_the_key_of_the_server_is_accepted_before_the_installation(tmp_path, arguments, told):
    (tmp_path / "a key").touch()
    code, output = new_site(tmp_path / "site", *(word.format(tmp_path) for word in arguments))
    assert code == 0, output
    lines = [line.strip() for line in output.splitlines()]
    place = lines.index(told.format(tmp_path) + "    # accept the key of the server")
    assert lines[place + 1].startswith("ansible-playbook ") and lines[place + 1].endswith("site.yml -K")


def test_an_empty_directory_is_filled_in_place(tmp_path):
    """A shell may be in it, it may be a repository already, and its parent may belong to somebody else."""
    directory = tmp_path / "s"
    directory.mkdir(mode=0o755)
    subprocess.run(["git", "init", "--quiet", directory], check=True)
    parent = tmp_path.stat().st_mtime_ns
    done = subprocess.run(["bash", "-c", f"{ROOT}/bin/new-site . >&2 && ls -A"],
                          cwd=directory,
                          capture_output=True,
                          text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        ".git", ".gitignore", "README.md", "ansible.cfg", "group_vars", "hosts.yml", "requirements.yml"
    }
    assert tmp_path.stat().st_mtime_ns == parent and stat.S_IMODE(directory.stat().st_mode) == 0o700
    code, output = new_site(directory)
    assert code == 1 and "exists and is not empty" in output


@pytest.mark.parametrize("exists", [False, True])
def test_a_site_that_cannot_be_whole_leaves_nothing(clone, tmp_path, exists):
    (clone / "files/site/hosts.yml").write_text("${no_such_value}", encoding="utf-8")
    if exists:
        (tmp_path / "s").mkdir()
    done = subprocess.run([clone / "bin/new-site", tmp_path / "s"], capture_output=True, text=True, check=False)
    assert "no_such_value" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == ({"clone", "s"} if exists else {"clone"})
    assert not exists or not list((tmp_path / "s").iterdir())


def test_an_empty_directory_is_taken_and_a_home_is_shown_as_people_type_it(tmp_path):
    (tmp_path / "airflow site").mkdir()
    code, output = new_site("~/airflow site", home=tmp_path)
    assert code == 0, output
    assert "$EDITOR ~/'airflow site/hosts.yml'" in output
    assert "ansible-playbook -i ~/'airflow site/hosts.yml' site.yml -K" in output
    assert load(tmp_path / "airflow site/hosts.yml")["all"]["hosts"]["airflow-1"]["ansible_host"] == "192.0.2.10"
