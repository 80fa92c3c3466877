"""The command of another playbook, with the inventory and the options that this run was started with."""

from __future__ import annotations

import os
import re
import shlex
import sys

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: typed_command
short_description: The command of another playbook, as the user would type it
description:
  - Returns C(ansible-playbook), the options of this run that say which hosts there are and how they are reached, a playbook of this repository, and more
    arguments.
options:
  _terms:
    description: Path of the playbook below the root of the repository, then its arguments, which may be more playbooks.
    required: true
  without:
    description: Pattern for the beginning of extra variables that are not repeated.
    default: ""
"""

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

# Options with a value that the next command needs too. All others of ansible-playbook choose what one run does.
KEPT = {
    "-i", "--inventory", "--inventory-file", "-u", "--user", "--private-key", "--key-file", "-c", "--connection", "--ssh-common-args", "--ssh-extra-args",
    "--sftp-extra-args", "--scp-extra-args", "--become-method", "--become-user", "--become-password-file", "--become-pass-file",
    "--connection-password-file", "--conn-pass-file", "--vault-id", "--vault-password-file", "--vault-pass-file", "-e", "--extra-vars", "-M",
    "--module-path", "-T", "--timeout",
}
KEPT_FLAGS = {"-b", "--become", "-k", "--ask-pass", "-K", "--ask-become-pass", "-J", "--ask-vault-password", "--ask-vault-pass"}
DROPPED = {"-f", "--forks", "-l", "--limit", "-t", "--tags", "--skip-tags", "--start-at-task"}
# A value on the command line stays there: what is printed goes to logs. The word that confirms belongs to one run.
NOT_REPEATED = re.compile(r"password|secret|token|key|confirm")


def options(arguments, without=""):
    """Return the options to repeat, in the order in which they were typed."""
    kept, waiting = [], list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            if name in KEPT | DROPPED:
                words = [word] if equals else [word, *waiting[:1]]
                del waiting[:len(words) - 1]
                kept += repeated(name, words, value if equals else words[-1], without)
            elif word in KEPT_FLAGS:
                kept.append(word)
        elif word.startswith("-") and len(word) > 1:
            kept += short(word, waiting, without)
    return kept


def short(word, waiting, without):
    """Return what is repeated of short options that were typed as one word, such as -bKi hosts.yml; take the value of the last one from what follows."""
    kept = []
    for place, letter in enumerate(word[1:], 2):
        name = "-" + letter
        if name in KEPT | DROPPED:
            value = word[place:] or (waiting.pop(0) if waiting else "")
            return kept + repeated(name, [name, value], value, without)
        if name in KEPT_FLAGS:
            kept.append(name)
    return kept


def repeated(name, words, value, without):
    """Return the words of an option with a value, or nothing where it is not repeated."""
    if name not in KEPT:
        return []
    if name in ("-e", "--extra-vars") and not value.startswith("@") and (NOT_REPEATED.search(value) or sets(value, without)):
        return []
    return words


def sets(value, pattern):
    """Return whether these extra variables, as key=value or as JSON, have one that begins with the pattern."""
    if not pattern:
        return False
    if value.lstrip().startswith("{"):
        # As key=value, so that one pattern stands for both.
        value = re.sub(r'"?\s*:\s*', "=", value).replace('"', " ")
    return re.search(rf"(?:^|[\s{{,])(?:{pattern})", value) is not None


def path_of(playbook, form):
    """Return the path of a playbook: absolute, or from this directory."""
    path = os.path.join(ROOT, playbook)
    return path if form == "absolute" else os.path.relpath(path)


def command(playbook, *more, program="ansible-playbook", without=""):
    """Return the words of the command, without the extra variables that begin with this pattern.

    Paths of playbooks have the form in which the playbook of this run was typed: absolute, or from this directory.
    """
    typed = [word for word in sys.argv[1:] if word.endswith((".yml", ".yaml")) and os.path.isfile(word)]
    own = [word for word in typed if os.path.realpath(word).startswith(ROOT + os.sep)]
    form = "absolute" if own and os.path.isabs(own[-1]) else "relative"
    words = [path_of(word, form) if word.endswith(".yml") and os.path.isfile(os.path.join(ROOT, word)) else word for word in (playbook, *more) if word]
    return [program, *options(sys.argv[1:], without), *words]


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms, variables=None, **kwargs):
        """Return the command as one line of a shell."""
        return [shlex.join(command(*terms, **kwargs))]
