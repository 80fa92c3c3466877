"""Run a command of Ansible until a kill point, and interrupt it there.

What the command started on the host goes on there, as it does when a connection is lost.

A kill point is a task with a comment in the line below its name: `# kill_point: write_secrets`. Tests use the text of
the comment, which stays when the task gets another name. At an import, it is the first imported task.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

CALLBACK_PLUGINS = pathlib.Path(__file__).parent / "callback_plugins"


def start(command, options):
    """Start the command, in a session of its own."""
    # Molecule asks for colours, which stand between the words of the recap.
    environment = {**options.pop("env", os.environ), "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACK_PLUGINS),
                   "ANSIBLE_FORCE_COLOR": "false"}
    return subprocess.Popen(command,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            text=True,
                            start_new_session=True,
                            env=environment,
                            **options)


def read_until(process, point):
    """Read until the kill point. Return whether it was reached, and the output."""
    seen = ""
    for line in process.stdout:
        seen += line
        if line.rstrip() == point:
            return True, seen
    return False, seen


def kill(process):
    """Kill a command that was started in a session of its own, and its workers, with SIGKILL."""
    # Ansible's workers have sessions of their own, and would wait for ever for the one that is gone.
    workers = subprocess.run(["pgrep", "--parent", str(process.pid)], capture_output=True, text=True,
                             check=False).stdout.split()
    for end, number in ((os.killpg, process.pid), *((os.kill, int(worker)) for worker in workers)):
        with contextlib.suppress(ProcessLookupError):
            end(number, signal.SIGKILL)


def run_until(command, point, delay, **options):
    """Kill the command with SIGKILL these seconds after the kill point. Return whether it was reached, and the output.
    """
    process = start(command, options)
    reached, seen = read_until(process, point)
    if reached:
        time.sleep(delay)
        kill(process)
    process.wait()
    return reached, seen


def run_without_connection(command, point, delay, cut, limit=180, **options):
    """Run the command, and call `cut` these seconds after the kill point.

    Return whether it was reached, the exit code, and the output.

    `cut` begins to end connections, and returns the process that does so. A command that does not end within the limit
    is killed.
    """
    process = start(command, options)
    reached, seen = read_until(process, point)
    if reached:
        time.sleep(delay)
        cutting = cut()
        late = threading.Timer(limit, kill, [process])
        late.start()
        seen += process.stdout.read()
        late.cancel()
        cutting.wait()
    return reached, process.wait(), seen


def noticed(code, seen):
    """Return whether a run of one host that has lost its connection ended with the exit code for that, and says so."""
    return code == 4 and "UNREACHABLE!" in seen and re.search(r"\bunreachable=1\b", seen) is not None
