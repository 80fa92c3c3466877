"""Installs the distribution's packages with ansible.builtin.apt or ansible.builtin.dnf, also on a host that lost power
while it did.

What plugins/modules/packages.py documents.
"""

from __future__ import annotations

import contextlib
import json
import os
import textwrap
import threading
import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.windsock.airflow.plugins.module_utils import carried, package_locks

# A host that lost power during an install needs it before apt does anything else; otherwise it does nothing.
# Configuration that was changed is kept.
FINISH = ["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
# Seconds between two looks, and between two lines that say what is waited for.
LOOK, SAY = 5, 30
# Seconds to wait where nobody says otherwise: the default of airflow_package_lock_timeout.
LIMIT = 900
# Ubuntu's servers have needrestart. After an install it restarts each service whose libraries have changed: PostgreSQL
# under running tasks, and the components. With this variable its hook ends at once.
ENVIRONMENT = {"NEEDRESTART_SUSPEND": "1"}
# What apt says when another process took the lock after the last look.
TAKEN = ("Could not get lock", "Unable to acquire the dpkg frontend lock", "Unable to lock directory",
         "Failed to lock apt", "is another process using it")
# What apt says when a mirror does not answer.
NO_MIRROR = ("Failed to fetch", "Temporary failure resolving", "Could not resolve", "Failed to update apt cache",
             "Could not connect", "connection timed out")


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return what the package manager's module does."""
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec({
            "name": {"type": "list", "elements": "str"},
            "deb": {"type": "str"},
            "manager": {"type": "str", "required": True, "choices": ["apt", "dnf"]},
            "cache_valid_time": {"type": "int", "default": 3600},
            "lock_timeout": {"type": "int"},
        }, mutually_exclusive=[["name", "deb"]], required_one_of=[["name", "deb"]])
        if self._task.check_mode:
            return {**result, "skipped": True, "msg": "A dry run fetches no package lists, and a bare host has none."}
        self._task.environment = [*(self._task.environment or []), ENVIRONMENT]
        self.limit, self.host, self.begin = (
            self.limit_of(args["lock_timeout"], task_vars),
            task_vars.get("inventory_hostname", ""),
            time.monotonic(),
        )
        if args["manager"] == "dnf":
            with self.shown("dnf", args):
                return {
                    **result,
                    **self.module("dnf", {"name": args["name"], "state": "present",
                                          "lock_timeout": self.limit}, task_vars)
                }
        return {**result, **self.with_apt(args, task_vars)}

    def limit_of(self, given, task_vars):
        """Return the seconds to wait: those of the task, of the inventory, or the default."""
        if given is None and "airflow_package_lock_timeout" in task_vars:
            given = int(self._templar.template(task_vars["airflow_package_lock_timeout"]))
        return LIMIT if given is None else given

    def with_apt(self, args, task_vars):
        """Install with apt, after whoever uses it now. The second answer counts."""
        done = self.apt(args, args["cache_valid_time"], task_vars)
        if not done.get("failed") or done.get("unreachable") or done.get("holders"):
            return done
        finished = self.alone(FINISH, task_vars)
        # How old the lists look says nothing where an image was made without them.
        done = finished if finished.get("failed") else {**self.apt(args, 0, task_vars), "changed": True}
        if done.get("failed") and any(words in str(done.get("msg", "")) for words in NO_MIRROR):
            done["msg"] = (
                f"{done['msg']}\n{self.host} cannot read a mirror of its distribution. Its addresses are in "
                "/etc/apt/sources.list and "
                "/etc/apt/sources.list.d/ of the host (a proxy: /etc/apt/apt.conf.d/). Correct them, try `apt-get "
                "update` there, then run this again."
            )
        return done

    def apt(self, args, cache_valid_time, task_vars):
        """Install with package lists that are at most so old."""
        if args["deb"]:
            # An older version than the installed one may be wanted, and a configuration file that was changed is kept.
            wanted = {"deb": args["deb"], "allow_downgrade": True, "dpkg_options": "force-confold"}
        else:
            wanted = {
                "name": args["name"], "state": "present", "update_cache": True, "cache_valid_time": cache_valid_time,
                "install_recommends": False
            }

        def install():
            with self.shown("apt", args):
                return self.module("apt", {**wanted, "lock_timeout": 10}, task_vars)

        return self.after_others(install, task_vars)

    @contextlib.contextmanager
    def shown(self, manager, args):
        """Show a line every half a minute while the package manager is at work: its module says nothing before it ends.
        """
        ended, what = (
            threading.Event(),
            textwrap.shorten(", ".join(args["name"] or [args["deb"]]), 60, placeholder=" ..."),
        )

        def show():
            seconds = SAY
            while not ended.wait(SAY):
                Display().display(
                    f"  {self.host}: {manager} is at work on {what} ({seconds:g} s). A slow mirror takes minutes.")
                seconds += SAY

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def alone(self, argv, task_vars):
        """Run a command that needs the lock."""
        return self.after_others(lambda: self.module("command", {"argv": argv}, task_vars), task_vars)

    def after_others(self, use, task_vars):
        """Use apt once nobody else does; wait again where another process was faster."""
        while True:
            refused = self.wait(task_vars)
            if refused:
                return refused
            done = use()
            said = " ".join(str(done.get(key, "")) for key in ("msg", "stderr"))
            if not done.get("failed") or not any(words in said for words in TAKEN) or self.waited() >= self.limit:
                return done
            time.sleep(LOOK)

    def wait(self, task_vars):
        """Wait until no process holds a lock of apt; return what is wrong where one holds it for too long."""
        said = None
        while True:
            question = {"argv": ["python3", "-"], "stdin": carried.text_of(package_locks)}
            asked = self.module("command", question, task_vars)
            if asked.get("failed") or asked.get("unreachable"):
                return asked
            holders = json.loads(asked["stdout"])
            if not holders:
                return {}
            who = ", ".join(f"{name} (pid {pid}, {os.path.basename(path)} of {os.path.dirname(path)})"
                            for pid, path, name in holders)
            waited = self.waited()
            if waited >= self.limit:
                return {
                    "failed": True, "holders": holders, "msg": (
                        f"{self.host}: apt is in use by {who}, and has not become free in {waited} s "
                        "(airflow_package_lock_timeout). "
                        "Nothing was installed. A new host upgrades itself in its first minutes: run this again once "
                        "it is done "
                        f"(on the host: ps -p {holders[0][0]}), or set airflow_package_lock_timeout to more seconds.")
                }
            if said is None or waited - said >= SAY:
                Display().display(
                    f"  {self.host}: waits for apt, which is in use by {who}: {waited} s of at most {self.limit} s")
                said = waited
            time.sleep(LOOK)

    def waited(self):
        """Return the seconds since the task began."""
        return int(time.monotonic() - self.begin)

    def module(self, name, args, task_vars):
        """Run a module of Ansible's own."""
        return self._execute_module(f"ansible.builtin.{name}", args, task_vars=task_vars)
