"""Run a command of Ansible until a task, and kill it there. What it started on the host goes on there, as it does when a connection is lost."""

import contextlib
import os
import re
import signal
import subprocess
import time


def kill(process):
    """Kill a command that was started in a session of its own, at once."""
    # Ansible's workers have sessions of their own, and would wait for ever for the one that is gone.
    workers = subprocess.run(["pgrep", "--parent", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
    for end, number in ((os.killpg, process.pid), *((os.kill, int(worker)) for worker in workers)):
        with contextlib.suppress(ProcessLookupError):
            end(number, signal.SIGKILL)
    process.wait()


def run_until(command, task, delay, after="", **options):
    """Kill the command with SIGKILL this many seconds after the task has begun, where another one came first. Return whether it was, and its output."""
    # Without it a task is named when its first result is there, which is when it has ended.
    environment = {**options.pop("env", os.environ), "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment, **options
    )
    seen = ""
    for line in process.stdout:
        seen += line
        if re.match(rf"TASK \[.*{re.escape(task)}", line) and after in seen:
            time.sleep(delay)
            kill(process)
            return True, seen
    process.wait()
    return False, seen
