"""The README's road, typed by a user of this machine who is not root and has nothing but a clone: from a fresh server
to the removal of Airflow.
"""

import contextlib
import email
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import textwrap
import time
import types

import pytest
import yaml
from conftest import ROOT
from pages import blocks, inline, script, section
from playwright.sync_api import Error, expect, sync_playwright
from terminal import NEEDED_HERE, recap, type_in

# Tests that ask the host and tests that do not would otherwise run in two groups, and those after the removal.
pytestmark = pytest.mark.usefixtures("host")
# The words of the README that every reader replaces.
REPOSITORY, ADDRESS, LOGIN = "https://git.example.com/airflow.git", "203.0.113.7", "admin"
VAULT_PASSWORD, MAIL_PASSWORD = "open-the-vault-5", "Mail-of-the-site-7"
VIEWER = {"name": "vera", "password": "Vera-looks-4-dags"}

DAG = """
from datetime import datetime
from airflow.sdk import DAG, BaseHook, task

with DAG("my_first", start_date=datetime(2024, 1, 1), schedule=None, catchup=False):

    @task
    def add_up():
        import pandas
        from my_plugin import RATE
        total = int(pandas.Series([1, 2, 3]).sum())
        print("sum", total, "rate", RATE, "host", BaseHook.get_connection("warehouse").host)

    add_up()
"""
PLUGIN = """
from airflow.plugins_manager import AirflowPlugin
RATE = 7

class MyPlugin(AirflowPlugin):
    name = "my_plugin"
"""


def road():
    """All commands of the README's road, and two of docs/install.md. Each of them is typed below."""
    setup, install, use = blocks("README.md", "On your own server")
    deploy, run_dag, open_ui = use
    (preflight,) = [command for command in script("docs/install.md", "The commands") if "validate.yml" in command]
    health = inline("docs/install.md", "The commands", "check_health")
    return types.SimpleNamespace(setup=setup,
                                 preflight=preflight,
                                 install=install,
                                 health=health,
                                 deploy=deploy,
                                 run_dag=run_dag,
                                 open_ui=open_ui)


def removal():
    """Commands of docs/remove.md: a dry run, the question for the confirmation, the removal."""
    _look, ask, remove = script("docs/remove.md")
    return ask, remove


@pytest.fixture(scope="module")
def user(login, tmp_path_factory):
    """A user of this machine with a home, a key and an entry for the server in ~/.ssh/config. What the README's address
    stands for is in the home.
    """
    name = "airflow-newcomer"
    if os.geteuid() == 0:
        subprocess.run(["userdel", "--remove", name], capture_output=True, check=False)
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
        home, prefix = pathlib.Path(pwd.getpwnam(name).pw_dir), ["/usr/sbin/runuser", "-u", name, "--"]
    else:
        home, prefix = tmp_path_factory.mktemp("home"), []
    subprocess.run(["git", "clone", "--quiet", "--bare", "--no-hardlinks", ROOT, home / "project.git"], check=True)
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    shutil.copy(login.identity_file, ssh / "id_ed25519")
    (ssh / "config").write_text(
        f"Host {ADDRESS}\n  HostName 127.0.0.1\n  Port {login.port}\n  IdentityFile ~/.ssh/id_ed25519\n",
        encoding="utf-8")
    (ssh / "id_ed25519").chmod(0o600)
    if prefix:
        subprocess.run(["chown", "-R", f"{name}:", home], check=True)
    environment = {
        "HOME": str(home),
        "USER": pwd.getpwuid(home.stat().st_uid).pw_name,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "xterm",
        **{key: os.environ[key]
           for key in NEEDED_HERE if key in os.environ},
    }

    def run(commands, expected=0):
        """Type commands into one shell, which begins in the home. Return what the screen shows."""
        script = "\n".join(["set -e", *commands])
        for word, own in {
                REPOSITORY: "~/project.git", f"--user {LOGIN}": f"--user {login.user}", f"{LOGIN}@": f"{login.user}@"
        }.items():
            script = script.replace(word, own)
        code, shown = type_in(
            [*prefix, "bash", "-c", script], {
                "BECOME password:": login.become_pass, f"password for {login.user}:": login.become_pass,
                "(yes/no/[fingerprint])?": "yes", "Vault password:": VAULT_PASSWORD
            }, environment, home)
        assert code == expected, f"exit {code}\n{script}\n{shown[-8000:]}"
        for secret in (login.become_pass, VAULT_PASSWORD, MAIL_PASSWORD):
            assert secret not in shown
        return shown

    yield types.SimpleNamespace(home=home, run=run, site=home / "airflow-site", prefix=prefix, environment=environment)
    if prefix:
        # userdel refuses a user who has a process, and the end of one takes a moment.
        subprocess.run(["timeout", "20", "sh", "-c", f"while pkill -KILL -u {name}; do sleep 0.2; done"], check=True)
        subprocess.run(["userdel", "--remove", name], capture_output=True, check=True)


def typed(user, *commands):
    return user.run(["cd ~/airflow", ". .venv/bin/activate", *commands])


def add(user, variables):
    """Append to the file of the site that its README names."""
    path = user.site / "group_vars/all/main.yml"
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + yaml.safe_dump(variables))


@pytest.fixture(scope="module")
def installed(user):
    """The README's commands, in their order. In between, the reader edits the site."""
    made = user.run(road().setup)
    here = {"airflow_ca_bundle": os.environ.get("SSL_CERT_FILE", ""),
            "airflow_index_url": os.environ.get("UV_DEFAULT_INDEX", "") or os.environ.get("PIP_INDEX_URL", "")}
    add(user, {key: value for key, value in here.items() if value})
    checked = typed(user, road().preflight)
    return types.SimpleNamespace(setup=made, checked=checked, site=typed(user, *road().install))


def test_the_key_of_the_server_was_accepted(user, installed):
    """The server's own key, after the question that the README announces."""
    known = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "known_hosts").read_text(encoding="utf-8")
    assert known.split()[2] in (user.home / ".ssh/known_hosts").read_text(encoding="utf-8")
    assert "(yes/no/[fingerprint])?" in installed.setup


def test_the_home_of_the_login_is_closed(host, login):
    assert host.check_output(f"stat -c %a ~{login.user}") == "700"
    assert host.run(f"runuser -u {login.user} -- sudo -n true").rc != 0


def test_the_check_before_the_installation_changes_nothing(installed):
    assert (recap(installed.checked)["failed"], recap(installed.checked)["changed"]) == (0, 0)


def test_the_readme_installs(host, user, installed):
    assert recap(installed.site)["failed"] == 0
    assert host.check_output(
        "systemctl is-active airflow-scheduler airflow-api-server airflow-dag-processor airflow-triggerer").split(
        ) == ["active"] * 4


def test_the_last_screen_says_what_comes_next(installed):
    """On a terminal of 24 lines, without the recap above."""
    _recap, last = installed.site[installed.site.rindex("PLAY RECAP"):].split("\n\n", 1)
    for words in ("open_ui.yml", "admin", "deploy_dags.yml", "check_health.yml"):
        assert words in last, last
    assert len(last.splitlines()) <= 24, last


def test_the_last_screen_has_a_command_for_the_password_and_not_the_password(host, user, installed):
    last = re.sub(r" \\\n +", " ", installed.site[installed.site.rindex("PLAY RECAP"):])
    password = host.check_output("cat /etc/airflow/secrets/admin_password")
    assert password not in last
    (command,) = re.findall(r"^ *Password +(.+)$", last, re.MULTILINE)
    assert password in typed(user, command)


def test_the_site_is_complete_and_holds_no_open_secret(user, installed):
    assert {"hosts.yml", "ansible.cfg", ".gitignore", "README.md",
            "group_vars"} <= {path.name
                              for path in user.site.iterdir()}
    values = yaml.safe_load((user.site / "group_vars/all/main.yml").read_text(encoding="utf-8"))
    assert values["airflow_version"] and values["airflow_site_id"]


def test_the_health_is_checked_as_the_page_says(user, installed):
    assert recap(typed(user, road().health))["failed"] == 0


def test_again_nothing_changes_and_nothing_is_told(user, installed):
    shown = typed(user, *road().install)
    assert recap(shown)["changed"] == 0, shown[-6000:]
    assert "deploy_dags.yml" not in shown[shown.rindex("PLAY RECAP"):]


@pytest.fixture(scope="module")
def repository(user):
    """A git repository of the user, with a DAG and a plugin."""
    path = user.home / "pipelines"
    for name, text in {"dags/my_first.py": DAG, "plugins/my_plugin.py": PLUGIN}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    if user.prefix:
        subprocess.run(["chown", "-R", "--reference", user.home, path], check=True)
    user.run(["cd ~/pipelines", "git init --quiet --initial-branch=main", "git add .",
              "git -c user.name=me -c user.email=me@example.com commit --quiet -m first"])
    return f"file://{path}"


@pytest.fixture(scope="module")
def own_dag(user, installed, repository):
    """What a user adds in the first hour: a package, a connection, a person who may look, and the repository with the
    DAGs.
    """
    add(
        user, {
            "airflow_extra_packages": ["pandas==2.3.3"],
            "airflow_dags_source": repository,
            "airflow_dags_ref": "main",
            "airflow_connections": {"warehouse": {"conn_type": "postgres", "host": "warehouse.example.com"}},
            "airflow_users": {
                VIEWER["name"]: {"email": "vera@example.com", "roles": ["Viewer"], "password": VIEWER["password"]}
            },
        })
    return typed(user, *road().install, road().deploy, road().run_dag)


def test_a_dag_of_ones_own_runs(host, own_dag):
    assert recap(own_dag)["failed"] == 0
    assert "sum 6 rate 7 host warehouse.example.com" in host.check_output(
        "grep -rhs 'sum 6' /var/log/airflow/dag_id=my_first | tail -n 1")


@pytest.fixture(scope="module")
def tunnel(user, own_dag):
    """The tunnel that open_ui starts, on another port than the server's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shown = typed(user, f"{road().open_ui} -e airflow_minutes=10 -e airflow_local_port={port}")
    found = re.search(rf"http://localhost:{port}\S*", shown)
    assert found, shown
    yield found[0].rstrip(".")
    end = re.search(r"kill \d+", shown)
    assert end, shown
    user.run([end[0]])


@pytest.fixture(scope="module")
def page(tunnel):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
                                             args=["--no-proxy-server"])
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        yield page
        browser.close()


def go(page, url):
    """Open a page. Chromium gives up while its machine gets or loses an address, which each container that starts
    brings.
    """
    for _ in range(5):
        with contextlib.suppress(Error):
            return page.goto(url)
        time.sleep(2)
    return page.goto(url)


def test_a_browser_signs_in_through_the_tunnel(host, page, tunnel):
    go(page, f"{tunnel}/dags/my_first")
    page.locator("#username").fill("admin")
    page.locator("#password").fill(host.check_output("cat /etc/airflow/secrets/admin_password"))
    page.locator("[type=submit]").click()
    expect(page.get_by_text("add_up").first).to_be_visible(timeout=30000)
    # Nobody was sent to another port of this machine, where another person's Airflow may be.
    assert page.url.startswith(tunnel), page.url
    pictures = ROOT / "artifacts/screenshots" / os.environ["MOLECULE_SCENARIO_NAME"]
    page.screenshot(path=pictures / "own_dag.png")


def test_the_viewer_may_look_and_nothing_else(host, own_dag):
    ask = textwrap.dedent(f"""
        import json, urllib.error, urllib.request
        def call(method, path, body, token=None):
            data = json.dumps(body).encode() if body is not None else None
            request = urllib.request.Request("http://127.0.0.1:8080" + path, data,
                {{"Content-Type": "application/json", **({{"Authorization": "Bearer " + token}} if token else {{}})}},
                method=method)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, {{}}
        token = call("POST", "/auth/token", {VIEWER | {"username": VIEWER["name"]}!r})[1]["access_token"]
        print(call("GET", "/api/v2/dags", None, token)[0],
              call("POST", "/api/v2/pools", {{"name": "x", "slots": 1}}, token)[0])
    """)
    done = host.run("python3 - <<'ASK'\n" + ask + "\nASK")
    assert done.stdout.split() == ["200", "403"], done.stderr


# A relay on the host itself, which writes down what it gets.
RELAY = """
import socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        def say(text):
            self.wfile.write(text + bytes((13, 10)))
        say(b"220 relay")
        mail = None
        for line in self.rfile:
            word = line.strip().upper()
            if mail is not None:
                mail.append(line)
                if line.strip() == b".":
                    open("/run/mail-of-test", "ab").writelines(mail)
                    mail = None
                    say(b"250 ok")
            elif word == b"DATA":
                mail = []
                say(b"354 go on")
            else:
                say(b"221 bye" if word == b"QUIT" else b"250 ok")
                if word == b"QUIT":
                    return

socketserver.TCPServer(("127.0.0.1", 25), Handler).serve_forever()
"""


def page_block(page, heading, kind):
    """The first block of this kind below a heading."""
    return re.search(rf"```{kind}\n(.*?)```", section(page, heading), re.DOTALL)[1]


@pytest.fixture(scope="module")
def change(user):
    """change(function): edit the variables of the site."""
    path = user.site / "group_vars/all/main.yml"

    def edit(function):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        function(values)
        path.write_text(yaml.safe_dump(values), encoding="utf-8")

    return edit


@pytest.fixture(scope="module")
def mail_settings(user, own_dag, change):
    """The site as docs/email.md has it, with its password in an encrypted vault."""
    wanted = yaml.safe_load(page_block("docs/email.md", "The connection", "yaml"))
    change(
        lambda values: values["airflow_connections"].update(wanted.pop("airflow_connections")) or values.update(wanted))
    editor = user.home / "editor"
    editor.write_text(f"#!/bin/sh\necho 'vault_smtp_password: {MAIL_PASSWORD}' >> \"$1\"\n", encoding="utf-8")
    editor.chmod(0o755)
    vault = user.site / "group_vars/all/vault.yml"
    edit, run = script("docs/email.md", "The connection")
    shown = typed(user, "export EDITOR=~/editor", f"ansible-vault encrypt {vault}", edit, run)
    assert vault.read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT")
    return shown


@pytest.mark.long("pages")
def test_the_page_on_mail_leads_to_a_connection_whose_password_is_in_the_vault(host, mail_settings):
    assert recap(mail_settings)["failed"] == 0
    (found,) = json.loads(host.check_output("airflow connections get smtp_default --output json 2> /dev/null"))
    assert (found["host"], str(found["port"]), found["login"], found["password"]) == (
        "smtp.example.com", "587", "airflow", MAIL_PASSWORD)


@pytest.mark.long("pages")
def test_a_dag_of_the_page_sends_mail_and_schedules_have_the_zone_of_the_site(host, user, mail_settings, change):
    """Through a relay on the same host, as a row of the page says. A site with a vault adds --ask-vault-pass."""
    row = re.search(r"^\| no encryption .*\| (\d+) \| `(.+?)`; leave `login` and `password` out \|$",
                    section("docs/email.md", "The connection"), re.M)

    def settings(values):
        connection = values["airflow_connections"]["smtp_default"]
        connection.update(host="127.0.0.1", port=int(row[1]))
        connection["extra"] = {"from_email": connection["extra"]["from_email"], **yaml.safe_load("{" + row[2] + "}")}
        del connection["login"], connection["password"]
        zone = yaml.safe_load(page_block("docs/time_zones.md", "Set the default zone of schedules", "yaml"))
        values["airflow_config"].update(zone["airflow_config"])

    change(settings)
    host.run("systemd-run --unit relay-of-test /usr/bin/python3 -c %s", RELAY)
    dag = user.home / "pipelines/dags/mail.py"
    dag.write_text(page_block("docs/email.md", "In a DAG", "python"), encoding="utf-8")
    user.run(["cd ~/pipelines", "git add .", "git -c user.name=me -c user.email=me@example.com commit --quiet -m mail"])
    commands = [
        *script("docs/time_zones.md", "Set the default zone of schedules"), *script("docs/email.md", "In a DAG")
    ]
    shown = typed(user, *(f"{command} --ask-vault-pass" for command in commands))
    assert recap(shown)["failed"] == 0
    assert host.check_output("airflow config get-value core default_timezone 2> /dev/null") == "Europe/Berlin"
    mail = email.message_from_string(host.file("/run/mail-of-test").content_string)
    (text,) = [part.get_payload(decode=True).decode() for part in mail.walk() if part.get_content_type() == "text/html"]
    assert (mail["To"], mail["From"], text) == ("ann@example.com", "airflow@example.com", "It is done.")
    assert mail["Subject"].startswith("Report of 20")


@pytest.mark.long("pages")
def test_the_page_on_requirements_leads_to_a_lock_of_the_site(host, user, mail_settings, change):
    python = host.check_output("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    (user.site / "requirements.in").write_text("pandas==2.3.3\n", encoding="utf-8")
    (command,) = script("docs/dag_requirements.md", "A lock of your own")
    lock = re.search(r'`airflow_lock: "(.+?)"`', section("docs/dag_requirements.md", "A lock of your own"))[1]

    def settings(values):
        assert values.pop("airflow_extra_packages") == ["pandas==2.3.3"]
        values["airflow_lock"] = lock.replace("3.13", python)

    typed(user, command.replace("3.13", python))
    change(settings)
    site, deploy = script("docs/dag_requirements.md")
    shown = typed(user, f"{site} --ask-vault-pass", f"{deploy} --ask-vault-pass")
    assert recap(shown)["failed"] == 0
    assert host.check_output("/opt/airflow/venv/bin/python -c 'import pandas; print(pandas.__version__)'") == "2.3.3"


def test_airflow_is_removed(host, user, own_dag):
    """As docs/remove.md says, with the confirmation that the playbook asks for."""
    ask, remove = removal()
    if (user.site / "group_vars/all/vault.yml").read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT"):
        # A long test has encrypted it.
        ask, remove = f"{ask} --ask-vault-pass", remove.replace(ask, f"{ask} --ask-vault-pass")
    shown = typed(user, ask + " || true")
    wanted = re.search(r"-e airflow_confirm=\S+", " ".join(shown.split()))
    assert wanted, shown
    assert remove == f"{ask} " + wanted[0].rstrip(".,`'\"")
    shown = typed(user, remove)
    assert recap(shown)["failed"] == 0
    assert host.run("systemctl list-units --all --plain --no-legend 'airflow*'").stdout == ""
    assert host.run("id airflow").rc != 0
    for path in ("/opt/airflow", "/etc/airflow", "/var/lib/airflow", "/usr/local/bin/airflow"):
        assert not host.file(path).exists, path
    assert host.run("pgrep -af '[/]opt/airflow'").stdout == ""
    assert host.check_output("ls /var/backups/airflow")
