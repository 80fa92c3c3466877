import os
import pathlib
import re

import forks
import pytest
import yaml
from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUPPORTED = yaml.safe_load(
    (ROOT / "roles/preflight/vars/main.yml").read_text(encoding="utf-8"))["__preflight_supported"]
GROUPS = ["airflow_webserver", "airflow_scheduler", "airflow_dag_processor", "airflow_triggerer"]


def ansible(command, *arguments):
    environment = dict(os.environ,
                       ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
                       ANSIBLE_NOCOLOR="1",
                       ANSIBLE_LOCALHOST_WARNING="0")
    done = forks.run([command, *arguments], cwd=ROOT, env=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="session")
def system():
    """[distribution, version] of this machine, which stands for a host here, whatever it runs."""
    code, output = ansible("ansible", "localhost", "-c", "local", "-m", "ansible.builtin.setup", "-a",
                           "gather_subset=!all,!min,distribution")
    assert code == 0, output
    return [
        re.search("ansible_{0}\"?: [\"']?([^\"',\n]+)".format(key), output).group(1)
        for key in ("distribution", "distribution_version")
    ]


class Site:
    """An inventory with this machine in every group, and preflight run on it as any user would."""

    def __init__(self, directory, system):
        self.directory, self.systems = directory, {system[0]: [system[1]]}
        host = {"site": None}
        self.write(
            "hosts.yml", {
                "all": {
                    "hosts": {"site": {"ansible_connection": "local", "ansible_become": False}}, "children": {
                        "airflow_postgres": {"hosts": host},
                        "airflow": {"children": {group: {"hosts": host}
                                                 for group in GROUPS}}
                    }
                }
            })
        # Out of the way of whatever runs on this machine, and without a network.
        self.base = {
            "airflow_install_dir": str(directory / "opt"), "airflow_log_dir": str(directory / "log"),
            "airflow_api_port": free_port(), "airflow_database_port": free_port(),
            "airflow_wheel_dir": str(directory / "wheels"),
            "airflow_config": {"scheduler": {"scheduler_health_check_server_port": free_port()}}
        }

    def write(self, name, data):
        (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / name).write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")

    def run(self, *arguments, playbook="playbooks/validate.yml", **variables):
        self.write("group_vars/all/main.yml", {**self.base, **variables})
        # What this machine can't be: of a supported system, and started by systemd.
        init = pathlib.Path("/proc/1/comm").read_text(encoding="utf-8").strip()
        self.write("supported.yml", {"__preflight_supported": {**SUPPORTED, "systems": self.systems, "init": init}})
        code, output = ansible("ansible-playbook", "-i", self.directory / "hosts.yml", "-e",
                               "@{0}".format(self.directory / "supported.yml"), playbook, *arguments)
        return Run(code, output, self)


class Run:
    def __init__(self, code, output, site):
        self.code, self.output, self.site = code, output, site

    def refuses(self, *texts):
        """It fails with all these texts in one line of its message, and changed nothing."""
        assert self.code != 0, self.output
        lines = [line for line in self.output.splitlines() if all(text in line for text in texts)]
        assert lines, "no line with {0} in:\n{1}".format(texts, self.output)
        assert "Nothing was changed" in self.output
        self.changed_nothing()

    def changed_nothing(self):
        assert re.findall(r"changed=(\d+)", self.output) == ["0"], self.output
        assert not (self.site.directory / "opt").exists() and not (self.site.directory / "log").exists()


@pytest.fixture
def site(tmp_path, system):
    return Site(tmp_path, system)
