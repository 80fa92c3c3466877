"""Takes the lock of an environment, renews it while ansible-playbook lives, and gives it back at the end."""

from __future__ import annotations

import getpass
import json
import multiprocessing
import os
import pathlib
import shlex
import signal
import socket
import sys
import time

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# What runs on the host.
PROGRAM = pathlib.Path(__file__).parents[1] / "module_utils/airflow_environment_lock.py"
# Seconds without a renewal after which the lock is nobody's.
LEASE = 300
# Seconds: without a renewal, after which its holder ends; between two renewals; that one may take; until a renewal that
# failed is tried again; between two looks at ansible-playbook.
GIVE_UP, RENEW, ANSWER, RETRY, LOOK = 240, 30, 30, 5, 0.125


def started(pid):
    """Return when a process began: its number may be given to another one. Empty if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        # One that has ended, and that nobody has asked for its end: a container without an init process keeps it.
        return "" if fields[0] in "ZX" else fields[19]
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


def machine():
    """Name where process numbers of this controller are valid. Containers may share the name of a host."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def token(where, pid, start):
    """Name a process for good."""
    return f"{where}:{pid}:{start}"


def controller():
    """Return the process of ansible-playbook. Tasks run in its children, which outlive its death for a moment."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    pid = parent.pid
    if os.getppid() != pid:
        raise AnsibleActionFail(f"ansible-playbook, process {pid}, was killed. What it has left gets no lock.")
    return pid


def command():
    """Return what was typed, without variables and other options: they may hold a password."""
    words = [os.path.basename(sys.argv[0]), *context.CLIARGS.get("args", ())]
    for name, value in {"--limit": context.CLIARGS.get("subset"), "--tags": context.CLIARGS.get("tags"),
                        "--skip-tags": context.CLIARGS.get("skip_tags")}.items():
        value = value if isinstance(value, str) else ",".join(value or ())
        words += [name, value] if value not in ("", "all") else []
    return shlex.join(words)


def now():
    """Return a time that also passes while the controller sleeps, as a closed laptop does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_REALTIME))


class NoAnswer(BaseException):
    """A question took too long. Connection plugins catch each Exception, and some ask again."""


def within(seconds, ask):
    """Return the answer to a question. SSH alone may wait for many minutes while a route is away."""
    end = now() + seconds

    def look(*_signal):
        # The timer stands still while the controller sleeps, so it only says when to look at the clock.
        if now() >= end:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise NoAnswer

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
    try:
        return ask()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def keep(renew, give_back, alive, lost, wait=time.sleep, clock=now):
    """Renew the lock until the run ends, then give it back. Whoever has lost the lock must change nothing more."""
    renewed = clock()
    due = renewed + RENEW
    while alive():
        asked = clock()
        if asked >= due:
            try:
                refused = renew()["done"] == "refuse"
                renewed, due = asked, asked + RENEW
            except BaseException:
                # Whatever has failed, the lock is not renewed.
                refused, due = False, clock() + RETRY
            if refused:
                return lost("The lock of the environment went to another run while this run could not renew it.")
        if clock() - renewed >= GIVE_UP:
            return lost(f"The lock of the environment could not be renewed for {GIVE_UP} s. "
                        f"After {LEASE} s another run may take it.")
        wait(LOOK)
    return give_back()


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Take the lock, also from a holder that is a dead process of this machine."""
        result = super().run(tmp, task_vars)
        self.validate_argument_spec({})
        pid, where = controller(), machine()
        host = socket.gethostname()
        self.mine = {"by": f"{getpass.getuser()}@{host}", "host": host, "pid": pid, "machine": where,
                     "token": token(where, pid, started(pid)), "command": command()}
        result.update(changed=False, by=self.mine["by"], holder=self.mine)
        if self._task.check_mode:
            return result
        answer = self.change("held", task_vars)
        other = answer["holder"]
        here = answer["done"] == "refuse" and other["machine"] == where
        if here and token(where, other["pid"], started(other["pid"])) != other["token"]:
            answer = self.change("held", task_vars, gone=other["token"])
        result.update(answer)
        if answer["done"] == "refuse":
            other = answer["holder"]
            result.update(failed=True, msg=(
                f"{other['by']} is at work on this environment since {other['since']} "
                f"(process {other['pid']} on {other['host']}): {other['command']}. This run has changed nothing. "
                f"Wait until that run has ended. If its machine is gone, wait {LEASE // 60} minutes: "
                f"a lock that its holder does not renew is free after that time."))
        elif answer["done"] != "renew":
            self.leave_keeper(pid, task_vars)
        return result

    def change(self, state, task_vars, gone=""):
        """Run the program on the host that holds the lock, and return its answer."""
        words = {"state": state, "mine": self.mine, "lease": LEASE, "gone": gone}
        task = self._task.copy()
        task.args = {"argv": ["/usr/bin/python3", "-", json.dumps(words)], "stdin": PROGRAM.read_text(encoding="utf-8")}
        probe = self._shared_loader_obj.action_loader.get(
            "windsock.airflow.probe",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        answer = probe.run(task_vars=task_vars)
        try:
            return json.loads(answer["stdout"])
        except (KeyError, ValueError) as error:
            said = answer.get("stderr") or answer.get("stdout") or answer.get("msg", "")
            raise AnsibleActionFail(f"The lock of the environment could not be asked for: {said}") from error

    def leave_keeper(self, pid, task_vars):
        """Leave a process that keeps the lock. A task may wait for hours, and no other code of ours runs meanwhile."""
        start = started(pid)
        if os.fork():
            return
        # From here on this is the keeper. It must never return into Ansible's own code.
        try:
            # Out of reach of what Ansible sends to the task's group of processes, and of its handlers.
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)

            def ask(state):
                return within(ANSWER, lambda: self.change(state, task_vars))

            def lost(why):
                try:
                    Display().error(f"{why} The lock is on {self._play_context.remote_addr}. This run ends here.")
                    time.sleep(1)
                finally:
                    # Also where nobody reads the message any more.
                    if started(pid) == start:
                        os.kill(pid, signal.SIGTERM)

            keep(lambda: ask("renewed"), lambda: ask("free"), lambda: started(pid) == start, lost)
        finally:
            os._exit(0)
