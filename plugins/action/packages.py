"""Installs the distribution's packages with ansible.builtin.apt or ansible.builtin.dnf, also on a host that lost power while it did.

What plugins/modules/packages.py documents.
"""

from __future__ import annotations

from ansible.plugins.action import ActionBase

# A host that lost power during an install needs it before apt does anything else; otherwise it does nothing. Configuration that was changed is kept.
FINISH = ["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return what the package manager's module does."""
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec({
            "name": {"type": "list", "elements": "str", "required": True},
            "manager": {"type": "str", "required": True, "choices": ["apt", "dnf"]},
            "cache_valid_time": {"type": "int", "default": 3600},
        })
        if self._task.check_mode:
            return {**result, "skipped": True, "msg": "A dry run fetches no package lists, and a bare host has none."}
        if args["manager"] == "dnf":
            return {**result, **self.module("dnf", {"name": args["name"], "state": "present"}, task_vars)}
        done = self.apt(args["name"], args["cache_valid_time"], task_vars)
        if done.get("failed") and not done.get("unreachable"):
            finished = self.module("command", {"argv": FINISH}, task_vars)
            # How old the lists look says nothing where an image was made without them.
            done = finished if finished.get("failed") else {**self.apt(args["name"], 0, task_vars), "changed": True}
        return {**result, **done}

    def apt(self, names, cache_valid_time, task_vars):
        """Install with package lists that are at most so old. Another use of apt, as of a host's own upgrades, is waited for."""
        return self.module("apt", {"name": names, "state": "present", "update_cache": True, "cache_valid_time": cache_valid_time,
                                   "install_recommends": False, "lock_timeout": 120}, task_vars)

    def module(self, name, args, task_vars):
        """Run a module of Ansible's own."""
        return self._execute_module(f"ansible.builtin.{name}", args, task_vars=task_vars)
