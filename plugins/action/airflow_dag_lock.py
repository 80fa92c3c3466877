"""Says for module airflow_dag_lock who runs this playbook, and whether another run of the same controller is still alive."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import socket

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


def started(pid):
    """When a process began, so that a number that was given to another one is not taken for it. Empty where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    # A controller without /proc, such as macOS.
    return "" if os.path.isdir("/proc/self") else "alive"


def token(host, pid, start):
    """Name a process for good."""
    return f"{host}:{pid}:{start}"


def controller():
    """Return the process of ansible-playbook. Tasks run in its children, and where it is killed one of them goes on for a moment."""
    pid = multiprocessing.parent_process().pid
    if os.getppid() != pid:
        raise AnsibleActionFail(f"ansible-playbook, process {pid}, was killed. The lock is not for what it has left.")
    return pid


class ActionModule(ActionBase):
    """The action."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Run the module, and once more where the holder is a dead process of this machine."""
        result = super().run(tmp, task_vars)
        host, pid = socket.gethostname(), controller()
        holder = {"by": f"{getpass.getuser()}@{host}", "host": host, "pid": pid, "token": token(host, pid, started(pid))}
        arguments = {**self._task.args, "holder": holder}
        answer = self._execute_module("airflow_dag_lock", arguments, task_vars=task_vars)
        other = answer.get("holder", {})
        if answer.get("failed") and other.get("host") == host and token(host, other["pid"], started(other["pid"])) != other["token"]:
            answer = self._execute_module("airflow_dag_lock", {**arguments, "gone": other["token"]}, task_vars=task_vars)
        result.update(answer)
        return result
