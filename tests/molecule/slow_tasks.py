"""Tasks that run until a test lets them end, and the question whether a host is healthy."""

import time

DAG = '''
from datetime import datetime
import os
import time
try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow.decorators import task
    from airflow.models.dag import DAG

with DAG("slow_dag", start_date=datetime(2024, 1, 1), schedule=None, catchup=False, max_active_tasks=20,
    default_args={"retries": 0}):

    @task
    def numbers(dag_run=None):
        return list(range(dag_run.conf["tasks"]))

    @task
    def wait_for(number, dag_run=None):
        end = time.time() + 300
        while not os.path.exists(dag_run.conf["file"]) and time.time() < end:
            time.sleep(0.2)

    wait_for.expand(number=numbers())
'''


class SlowTasks:
    """A DAG whose tasks wait. It takes the place of no other, and goes with remove()."""

    def __init__(self, host, setting, api):
        self.host, self.api = host, api
        self.file = f"{setting('airflow_home')}/slow_dag_may_end"
        self.path = f"{setting('airflow_dags_folder')}/slow_dag.py".replace(
            "{{ airflow_install_dir }}", setting("airflow_install_dir")
        )
        host.check_output(
            f"cat > {self.path} <<'DAG'\n{DAG}\nDAG\nchgrp {setting('airflow_group')} {self.path} && chmod 640 "
            f"{self.path}"
        )
        host.check_output("airflow dags reserialize")
        for _second in range(90):
            if api.ask("GET", "/dags/slow_dag")[0] == 200:
                break
            time.sleep(1)

    def start(self, tasks=1):
        """Start so many tasks, and return the run once all of them run."""
        self.host.check_output(f"rm -f {self.file}")
        run = self.api.start_run("slow_dag", {"tasks": tasks, "file": self.file})
        for _second in range(120):
            states = self.states(run)
            if states == [("running", 1)] * tasks:
                return run
            time.sleep(1)
        raise AssertionError(states)

    def let_end(self, after=0):
        """Let the tasks end, at once or so many seconds from now."""
        self.host.check_output(
            f"systemd-run --quiet --on-active={after} touch {self.file}" if after else f"touch {self.file}")

    def let_end_in_a_stop(self):
        """Let the tasks end two seconds after the scheduler was told to stop, however late that is. It waits for them.
        """
        self.host.check_output(
            "systemd-run --quiet --collect timeout 300 sh -c 'until systemctl is-active airflow-scheduler | grep -q "
            "deactivating; do "
            f"sleep 0.2; done; sleep 2; touch {self.file}'")

    def end(self, run):
        """Let the tasks end, and return the (state, number of tries) of each."""
        self.let_end()
        assert self.api.wait("slow_dag", run) == "success"
        return self.states(run)

    def states(self, run):
        tasks = self.api.get(f"/dags/slow_dag/dagRuns/{run.replace('+', '%2B')}/taskInstances")["task_instances"]
        return [(task["state"], task["try_number"]) for task in tasks if task["task_id"] == "wait_for"]

    def remove(self):
        self.host.check_output(f"rm -f {self.path} {self.file}")


def wait_until_healthy(host, setting, seconds=120):
    """Fail where the components are not all well by then."""
    install = setting("airflow_install_dir")
    tool = f"{install}/venv/bin/python {install}/libexec/airflow_runtime/run.py components"
    for _second in range(seconds):
        health = host.run(f"{tool} health")
        if health.rc == 0:
            return
        time.sleep(1)
    raise AssertionError(health.stdout + health.stderr)
