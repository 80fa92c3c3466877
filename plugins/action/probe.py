"""Asks a host something, with a program or script that only reads: the answer of ansible.builtin.command in half of its
time.

A module is Python that is sent, unpacked and compiled on the host for each task. A shell that has the script on its
standard input is there at once. What plugins/modules/probe.py documents is run here; where a connection has no
pipelining, ansible.builtin.command runs it after all.
"""

from __future__ import annotations

import shlex
import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# The exit code for "not yet" (EX_TEMPFAIL of sysexits.h), and the seconds between two lines that say what is waited
# for.
NOT_YET, SAY = 75, 30


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return what the program said. Nothing has changed, so a dry run asks as well."""
        result = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec({
            "argv": {"type": "list", "elements": "str", "default": ["sh", "-s"]},
            "stdin": {"type": "str", "default": ""},
            "removes": {"type": "str"},
            "wait": {"type": "int", "default": 0},
        })
        if args["removes"]:
            args["argv"] = ["sh", "-c", 'test -e "$0" || exit 0; exec "$@"', args["removes"], *args["argv"]]
        begin = said = time.monotonic()
        while True:
            answer = self.directly(args) if self._connection.is_pipelining_enabled() else self.by_module(
                args, task_vars)
            now = time.monotonic()
            if answer.get("rc") != NOT_YET or now - begin >= args["wait"]:
                result.update(answer, changed=False)
                break
            if now - said >= SAY:
                said = now
                state = (answer["stdout_lines"] or ["not yet"])[-1]
                Display().display(
                    f"  {(task_vars or {}).get('inventory_hostname', '')}: {state} ({now - begin:.0f} s of at most "
                    f"{args['wait']} s)"
                )
        if result.get("rc"):
            result.update(failed=True, msg="non-zero return code")
        return result

    def directly(self, args):
        """Run it as Ansible runs its own helpers."""
        command = f"{self._compute_environment_string()} {shlex.join(args['argv'])}".strip()
        # Never without input: with SSH there would be a terminal, which mixes output and errors.
        answer = self._low_level_execute_command(command, in_data=args["stdin"].encode() or b"\n")
        texts = {name: answer[name].rstrip("\r\n") for name in ("stdout", "stderr")}
        return {"rc": answer["rc"], **texts, **{f"{name}_lines": text.splitlines() for name, text in texts.items()}}

    def by_module(self, args, task_vars):
        """Run it with the module that it stands for.

        That one would write its input into the host's journal, and return it for -vvv to show.
        """
        self._task.check_mode = False
        answer = self._execute_module(
            "ansible.builtin.command",
            {"argv": args["argv"], "stdin": args["stdin"], "stdin_add_newline": False, "expand_argument_vars": False},
            task_vars={**(task_vars or {}), "ansible_no_target_syslog": True})
        answer.pop("invocation", None)
        return answer
