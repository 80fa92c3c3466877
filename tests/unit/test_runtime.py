"""How the package airflow_runtime comes to a host, and how its modules are started there."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.windsock.airflow.plugins.filter import airflow_runtime as filters
from shared_variables import shared_variables

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/airflow_runtime/files"


class Host:
    """The directory libexec of a host, with the package as module files would put it there."""

    def __init__(self, directory):
        self.link = directory / "libexec/airflow_runtime"
        self.variables = shared_variables()
        self.variables["airflow_install_dir"] = str(directory)

    def answer(self):
        """What the host says of its versions."""
        question = Templar(loader=DataLoader(),
                           variables=self.variables).template(trust_as_template("{{ __airflow_runtime_question }}"))
        # A shell of its own language sorts as nobody expects.
        return subprocess.run(["sh", "-s"],
                              input=question,
                              env={**os.environ, "LANG": "de_DE.UTF-8"},
                              capture_output=True,
                              text=True,
                              check=True).stdout.splitlines()

    def update(self):
        """Bring this version; return the items."""
        items = filters.runtime_files(str(self.link), self.answer())
        for item in items:
            path = pathlib.Path(item["path"])
            if item.get("state") == "directory":
                path.mkdir(exist_ok=True, parents=True)
            elif item.get("state") == "link":
                path.unlink(missing_ok=True)
                path.symlink_to(item["target"])
            elif item.get("state") == "absent":
                shutil.rmtree(path)
            else:
                path.write_text(item["content"], encoding="utf-8")
        return items

    def run(self, *arguments, **environment):
        command = [sys.executable, self.link / "run.py", *arguments]
        return subprocess.run(command,
                              env={"PATH": os.environ["PATH"], **environment},
                              cwd="/",
                              capture_output=True,
                              text=True,
                              check=False)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def versions(monkeypatch):
    """versions("a"): from now on the collection has a package whose module `say` says a."""

    def change(text):
        module = f"import sys\nfrom airflow_runtime import settings\nprint({text!r}, sys.argv[1:])\n"
        monkeypatch.setattr(
            filters, "package", lambda: {
                "run.py": (FILES / "run.py").read_text(encoding="utf-8"), "airflow_runtime/__init__.py": "",
                "airflow_runtime/settings.py": "", "airflow_runtime/say.py": module
            })

    return change


def test_a_bare_host_gets_the_package_and_a_second_run_nothing(host):
    items = host.update()
    assert {
        item["path"].partition("airflow_runtime.d/")[2].partition("/")[2] for item in items if "content" in item
    } == {str(path.relative_to(FILES)) for path in FILES.rglob("*.py")}
    assert host.update() == []
    assert all((host.link / path.relative_to(FILES)).read_bytes() == path.read_bytes() for path in FILES.rglob("*.py"))


def test_the_link_is_the_last_step_and_leads_to_a_directory_of_its_own(host, versions):
    """A component that starts meanwhile finds the version before, as a whole."""
    versions("one")
    host.update()
    before = host.link.resolve()
    versions("two")
    items = host.update()
    link = [item["path"] for item in items].index(str(host.link))
    assert all("content" not in item for item in items[link:])
    assert host.link.resolve() != before and all(not item["path"].startswith(str(before)) for item in items)
    assert host.run("say", "a", "b").stdout == "two ['a', 'b']\n"


def test_the_version_before_stays_and_older_ones_go(host, versions):
    for name in ("one", "two", "three"):
        versions(name)
        host.update()
    kept = sorted(path.name for path in pathlib.Path(f"{host.link}.d").iterdir())
    assert len(kept) == 2 and host.link.resolve().name in kept
    versions("two")
    assert not any(item.get("state") == "absent" for item in host.update())


@pytest.mark.parametrize("damage", [lambda path: path.write_text("print('other')", encoding="utf-8"),
                                    lambda path: path.unlink()])
def test_a_damaged_package_is_repaired(host, versions, damage):
    versions("one")
    host.update()
    damage(host.link / "airflow_runtime/say.py")
    assert host.update() and host.run("say").stdout == "one []\n"
    assert host.update() == []


def test_a_run_that_was_killed_before_the_link_is_continued(host, versions):
    versions("one")
    host.update()
    host.link.unlink()
    assert host.update() and host.run("say").stdout == "one []\n"


def test_each_module_comes_from_the_version_that_the_link_led_to_at_the_start(host, versions):
    versions("one")
    host.update()
    switched = host.link / "airflow_runtime/say.py"
    text = (
        f"import pathlib\npathlib.Path({str(host.link)!r}).unlink()\nfrom airflow_runtime import "
        "settings\nprint(settings.__file__)\n"
    )
    switched.write_text(text, encoding="utf-8")
    assert host.run("say").stdout.startswith(f"{host.link}.d/")


def test_a_start_leaves_no_bytecode_and_needs_no_path(host, versions):
    """Bytecode that a loss of power has damaged would be read again and again. The site's own path stays what it is."""
    versions("one")
    host.update()
    assert host.run("say", PYTHONPATH="/srv/site").returncode == 0
    assert not list(pathlib.Path(f"{host.link}.d").rglob("*.pyc"))


def test_a_module_that_does_not_exist_is_told_with_those_that_do(host):
    host.update()
    for arguments in ((), ("no_such",), ("../settings",)):
        done = host.run(*arguments)
        assert done.returncode == 1 and "Modules: __init__, alerts, " in done.stderr and "Traceback" not in done.stderr


OPERATIONS = [
    "deploy_dags", "rollback_dags", "rotate_api_secrets", "rotate_database_password", "rotate_fernet_key",
    "runbooks/drain_host", "runbooks/recover_scheduler", "runbooks/restart_airflow", "runbooks/send_test_alert",
    "runbooks/undrain_host"
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_asks_for_the_version_before_it_uses_the_programs(name):
    (play,) = yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8"))
    tasks = [task.get("ansible.builtin.import_role", {}).get("name") or task.get("ansible.builtin.import_tasks")
             for task in play["tasks"]]
    place = tasks.index("windsock.airflow.airflow_runtime")
    assert re.search("airflow_common(/tasks/steps/start.yml)?$", tasks[place - 1])
    assert not {
        "windsock.airflow.airflow_services", "windsock.airflow.airflow_secrets", "windsock.airflow.airflow_dags"
    } & set(tasks[:place])


def test_site_yml_asks_for_the_version_together_with_its_other_questions():
    """A task more would cost every run of it."""
    text = (ROOT / "roles/airflow_virtualenv/tasks/steps/gather_state.yml").read_text(encoding="utf-8")
    (task,) = [task for task in yaml.safe_load(text) if task.get("register") == "__airflow_found"]
    assert "{{ __airflow_runtime_question }}" in task["windsock.airflow.probe"]["stdin"]
    variables = (ROOT / "roles/airflow_common/vars/main/main.yml").read_text(encoding="utf-8")
    assert "__airflow_found" in variables.partition("__airflow_runtime_package:")[2][:300]


def program(name, link, arguments=(), given="", python=sys.executable, **environment):
    """Run a module that the host does not have."""
    text = filters.runtime_program(name, str(link), given)
    return subprocess.run([python, "-", *arguments],
                          input=text,
                          env={"PATH": os.environ["PATH"], **environment},
                          cwd="/",
                          capture_output=True,
                          text=True,
                          check=False)


@pytest.fixture
def sent(monkeypatch):
    """sent("text of module say"): from now on the collection has a package with this module."""

    def change(text, **modules):
        files = {
            "run.py": "", "airflow_runtime/__init__.py": "",
            "airflow_runtime/settings.py": (FILES / "airflow_runtime/settings.py").read_text(),
            "airflow_runtime/say.py": text, **{f"airflow_runtime/{name}.py": text
                                               for name, text in modules.items()}
        }
        monkeypatch.setattr(filters, "package", lambda: files)

    return change


def test_a_module_runs_on_a_host_that_does_not_have_it(sent, tmp_path):
    """Its input may be a secret, so it comes with the program, and is in no argument list."""
    sent(
        "import sys\nfrom airflow_runtime import other\nif __name__ == '__main__':\n    print(other.NAME, "
        "sys.argv[1:], sys.stdin.read())\n",
        other="from airflow_runtime import settings\nNAME = __name__\n")
    done = program("say", tmp_path / "airflow_runtime", ["a", "b"], "l'ängste\n\"\\n")
    assert (done.stdout, done.stderr, done.returncode) == ("airflow_runtime.other ['a', 'b'] l'ängste\n\"\\n\n", "", 0)
    assert list(tmp_path.iterdir()) == []


def test_it_reads_the_settings_of_the_host(sent, tmp_path):
    sent("from airflow_runtime import settings\nprint(settings.home())\n")
    (tmp_path / "airflow_runtime.json").write_text('{"home": "/srv/home"}', encoding="utf-8")
    assert program("say", tmp_path / "airflow_runtime").stdout == "/srv/home\n"


def test_its_exit_code_and_the_line_of_an_error_are_told(sent, tmp_path):
    sent("import sys\nsys.exit(75)\n")
    assert program("say", tmp_path / "airflow_runtime").returncode == 75
    sent("from airflow_runtime import other\n", other="\nraise ValueError('because')\n")
    done = program("say", tmp_path / "airflow_runtime")
    assert (
        done.returncode == 1 and "airflow_runtime/other.py\", line 2" in done.stderr
        and "ValueError: because" in done.stderr
    )


def test_a_module_that_prints_where_it_is_finds_its_lines(sent, tmp_path):
    """Airflow does so when it is imported and warns."""
    sent("import traceback\n\nprint(traceback.extract_stack()[-1].line)\n")
    done = program("say", tmp_path / "airflow_runtime")
    assert done.stdout == "print(traceback.extract_stack()[-1].line)\n", done.stderr


def test_only_what_a_module_imports_is_sent(sent, tmp_path):
    sent("from airflow_runtime import settings\n\ndef later():\n    from airflow_runtime.one import X\n",
         one="from airflow_runtime import two, three\n",
         two="",
         three="",
         other="# not needed")
    text = filters.runtime_program("say", str(tmp_path / "airflow_runtime"))
    assert "not needed" not in text and all(f"airflow_runtime.{name}'" in text
                                            for name in ("say", "one", "two", "three", "settings"))


@pytest.mark.parametrize("name", sorted(path.stem for path in (FILES / "airflow_runtime").glob("*.py")))
def test_all_imports_of_a_module_are_found(name):
    """Any other way to write them would be sent without what it needs."""
    text = (FILES / f"airflow_runtime/{name}.py").read_text(encoding="utf-8")
    assert len(filters.IMPORT.findall(text)) == sum(
        "airflow_runtime" in line and "import" in line.split() for line in text.splitlines()
    )


def test_a_module_that_does_not_exist_is_no_program():
    with pytest.raises(AnsibleFilterError, match="airflow_runtime has no module 'nothing'"):
        filters.runtime_program("nothing", "/opt/airflow/libexec/airflow_runtime")


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="this machine has no Python of the system")
def test_the_proof_of_a_stop_needs_nothing_of_the_host(tmp_path):
    """Neither our programs nor a virtualenv with psycopg2."""
    arguments = ["no-such-user", str(tmp_path), str(tmp_path), "{}", "SELECT 1"]
    done = program("left", tmp_path / "libexec/airflow_runtime", arguments, python="/usr/bin/python3")
    assert done.returncode == 0 and done.stdout.startswith(
        "not asked: ") and "sql_alchemy_conn" in done.stdout, done.stderr
