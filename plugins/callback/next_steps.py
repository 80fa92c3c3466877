"""Tells the user of site.yml what comes next, after the recap of a run that changed something.

Ansible loads it for playbooks beside this directory, whatever ansible.cfg says. It gives the last play of site.yml the
variable __airflow_run_changed, and shows what that play has collected in __airflow_next_steps.
"""

from __future__ import annotations

import shlex
import sys
import textwrap
from urllib.parse import urlsplit

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible_collections.windsock.airflow.plugins.plugin_utils import typed_command

DOCUMENTATION = r"""
name: next_steps
type: notification
short_description: Tells the user of site.yml what comes next
description:
  - Shows one screen after a run of site.yml that changed something and failed nowhere. Shows nothing in check mode.
"""

# Lines and columns of a small terminal.
HEIGHT, WIDTH = 24, 100


def fold(words, indent, width=WIDTH):
    """Return a command in lines that fit, to be copied as they are. A word is never cut, and an option stays with its
    value.
    """
    lines, line = [], ""
    pieces: list[str] = []
    for word in words:
        if pieces and pieces[-1].startswith("-") and " " not in pieces[-1] and not word.startswith("-"):
            pieces[-1] += " " + shlex.quote(word)
        else:
            pieces.append(shlex.quote(word))
    for word in pieces:
        # A program without its first argument says nothing.
        if line and line != pieces[0] and len(indent) + len(line) + 1 + len(word) + 2 > width:
            lines.append(line + " \\")
            line = "    " + word
        else:
            line = line + " " + word if line else word
    return [indent + line for line in [*lines, line]]


def row(label, text):
    """Return a sentence behind its label, in lines that fit."""
    return textwrap.wrap(text,
                         WIDTH,
                         initial_indent="  {0:10}".format(label),
                         subsequent_indent=" " * 12,
                         break_on_hyphens=False)


def do(label, words, width):
    """Return a command behind its label."""
    lines = fold(words, " " * 12, width)
    return ["  {0:10}{1}".format(label, lines[0][12:]), *lines[1:]]


def reach(steps, width):
    """Return how the UI is reached."""
    if not steps["tunnel"]:
        return row("UI", steps["url"])
    own = urlsplit(steps["url"]).hostname in ("localhost", "127.0.0.1", "::1")
    said = (
        "{0}, once this command has forwarded the port:"
            if own else "{0}. If a browser does not reach it, forward the port:"
    )
    return [*row("UI", said.format(steps["url"])),
            *fold(typed_command.command("playbooks/runbooks/open_ui.yml", "-e", "airflow_open=true"), " " * 12, width)]


def sign_in(steps, width):
    """Return who signs in, and where the password is."""
    if steps["sign_in"]:
        return row("User", steps["sign_in"])
    lines = row("User", steps["user"])
    password = steps["password"]
    if password.get("text"):
        return lines + row("Password", password["text"])
    words = password["command"]
    if password.get("on_host"):
        words = typed_command.command("", *words, program="ansible")
    lines += do("Password", words, width)
    if password.get("pipe"):
        lines[-1] += " | " + shlex.join(password["pipe"])
    elif words[0] == "cat":
        # The file has no end of line, and the prompt of the shell would follow the password.
        lines[-1] += "; echo"
    return lines


def keep(steps):
    """Return what has to be kept in a second place."""
    return row("Keep", "a copy of {0}: nobody can open a backup without it".format(
        steps["backup_key"])) if steps.get("backup_key") else []


def dags(steps, width):
    """Return the first run of a DAG, and what is declared and not deployed."""
    deploy = typed_command.command("playbooks/deploy_dags.yml")
    lines = do(
        "Run a DAG",
        typed_command.command("playbooks/run_dag.yml", "-e", "airflow_dag_id=" + (steps["example"] or "<its name>")),
        width)
    if steps["example"]:
        lines += row("Your DAGs", "The DAGs in place are examples. Set airflow_dags_source to yours, then:")
    elif steps["pending"]:
        lines += row("Waiting", steps["pending"])
    else:
        lines += row("Deploy", "After each change of your DAGs:")
    return lines + fold(deploy, " " * 12, width)


def screen(steps):
    """Return the lines."""
    lines = lines_of(steps)
    # Long paths: a command of several lines becomes one, which the terminal breaks.
    return lines if len(lines) <= HEIGHT else lines_of(steps, sys.maxsize)


def lines_of(steps, width=WIDTH):
    """Return the lines, with commands of this width."""
    return ["", "Airflow {0} runs on {1}.".format(steps["version"], steps["hosts"]), "",
             *reach(steps, width), *sign_in(steps, width), *keep(steps), "", "Next:", *dags(steps, width),
             *do("Health", typed_command.command("playbooks/runbooks/check_health.yml"), width),
             *row("Guide", "docs/ of this project: dags.md, sign_in.md, backup.md, runbooks/index.md, remove.md"), ""]


class CallbackModule(CallbackBase):
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "next_steps"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.changed, self.steps = False, None

    def v2_playbook_on_play_start(self, play):
        """Say to the play that asks whether a play before it has changed something."""
        if "__airflow_run_changed" in play.vars:
            play.vars["__airflow_run_changed"] = self.changed and not context.CLIARGS.get("check")

    def v2_runner_on_ok(self, result):
        """Notice a change, and what the last play has collected."""
        self.changed = self.changed or result.is_changed()
        self.steps = (result.result.get("ansible_facts") or {}).get("__airflow_next_steps", self.steps)

    def v2_playbook_on_stats(self, stats):
        """Show it."""
        if self.steps and not stats.failures and not stats.dark:
            for line in screen(self.steps):
                self._display.display(line)
