"""A team's DAGs, changed and deployed by the tests with the product's own playbooks."""

import os
import re
import subprocess

from conftest import LOG_PATH, ROOT
from killed import run_until

DAG = '''
import time
from datetime import datetime
try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow.decorators import task
    from airflow.models.dag import DAG

with DAG("{name}", start_date=datetime(2024, 1, 1), schedule=None, catchup=False, tags=["tested"],
    default_args={{"owner": "team"}}):

    @task
    def {task}():
        from include.lib import VERSION
        return VERSION

    {task}()
'''

# Imported by the validation, refused by the components: systemd sets this variable for its services.
ONLY_OUTSIDE_A_SERVICE = "import os\nif 'INVOCATION_ID' in os.environ:\n    raise RuntimeError('not as a service')\n"


class Project:
    """A source of DAGs on the controller, and the hosts that it is deployed to."""

    def __init__(self, path, host, root):
        self.path, self.host, self.root = path, host, root

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def dag(self, name, task="answer"):
        """Write a DAG of one task, which imports from include/ while it runs."""
        self.write(f"dags/{name}.py", DAG.format(name=name, task=task))

    def late(self):
        """Write a DAG that passes the validation and can't be imported by a component. Return its path."""
        self.write("dags/late.py", ONLY_OUTSIDE_A_SERVICE + DAG.format(name="late", task="answer"))
        return self.path / "dags/late.py"

    def command(self, playbook, *arguments):
        source = ["-e", f"airflow_dags_source={self.path}"]
        return [
            "ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], f"playbooks/{playbook}.yml", *source,
            *arguments
        ]

    def environment(self):
        return {**os.environ, "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true", "ANSIBLE_LOG_PATH": LOG_PATH}

    def run(self, playbook, *arguments):
        """Run a playbook; return (exit code, output, changed tasks)."""
        done = subprocess.run(self.command(playbook, *arguments),
                              cwd=ROOT,
                              env=self.environment(),
                              text=True,
                              capture_output=True,
                              check=False)
        return done.returncode, done.stdout + done.stderr, sum(
            int(number) for number in re.findall(r" changed=(\d+)", done.stdout))

    def deploy(self, *arguments):
        """Deploy, and return the id of the release that is in place then."""
        code, output, _changed = self.run("deploy_dags", *arguments)
        assert code == 0, output
        assert f"release {self.current()}" in " ".join(output.split()), output
        return self.current()

    def kill(self, point, delay, *arguments):
        """Deploy, and kill Ansible this long after the kill point. Return what it had said."""
        command = self.command("deploy_dags", *arguments)
        reached, said = run_until(command, point, delay, cwd=ROOT, env=self.environment())
        assert reached, f"never came to {point!r}\n{said[-6000:]}"
        return said

    def current(self):
        """Return the release in place."""
        return self.host.check_output(f"readlink {self.root}/current").removeprefix("releases/")

    def releases(self):
        return set(self.host.check_output(f"ls {self.root}/releases").split())
