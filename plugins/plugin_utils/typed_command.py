"""The command of another playbook, with the inventory and the options that this run was started with."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable

from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import parameters
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection

# Options with a value that the next command needs too. All others of ansible-playbook choose what one run does.
KEPT = {
    "-i",
    "--inventory",
    "--inventory-file",
    "-u",
    "--user",
    "--private-key",
    "--key-file",
    "-c",
    "--connection",
    "--ssh-common-args",
    "--ssh-extra-args",
    "--sftp-extra-args",
    "--scp-extra-args",
    "--become-method",
    "--become-user",
    "--become-password-file",
    "--become-pass-file",
    "--connection-password-file",
    "--conn-pass-file",
    "--vault-id",
    "--vault-password-file",
    "--vault-pass-file",
    "-e",
    "--extra-vars",
    "-M",
    "--module-path",
    "-T",
    "--timeout",
}
KEPT_FLAGS = {
    "-b", "--become", "-k", "--ask-pass", "-K", "--ask-become-pass", "-J", "--ask-vault-password", "--ask-vault-pass"
}
DROPPED = {"-f", "--forks", "-l", "--limit", "-t", "--tags", "--skip-tags", "--start-at-task"}
# A value on the command line stays there: what is printed goes to logs. The word that confirms belongs to one run.
NOT_REPEATED = re.compile(r"password|secret|token|key|confirm")


def options(arguments: Iterable[str], without: Iterable[str] = ()) -> list[str]:
    """Return the options to repeat, in the order in which they were typed, without these extra variables."""
    kept: list[str] = []
    waiting = list(arguments)
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


def short(word: str, waiting: list[str], without: Iterable[str]) -> list[str]:
    """Return what is repeated of short options that were typed as one word, such as -bKi hosts.yml; take the value of
    the last one from what follows.
    """
    kept: list[str] = []
    for place, letter in enumerate(word[1:], 2):
        name = "-" + letter
        if name in KEPT | DROPPED:
            value = word[place:] or (waiting.pop(0) if waiting else "")
            return kept + repeated(name, [name, value], value, without)
        if name in KEPT_FLAGS:
            kept.append(name)
    return kept


def repeated(name: str, words: list[str], value: str, without: Iterable[str]) -> list[str]:
    """Return the words of an option with a value, or nothing where it is not repeated."""
    if name not in KEPT:
        return []
    if (
        name in ("-e", "--extra-vars")
        and not value.startswith("@")
        and (NOT_REPEATED.search(value) or sets(value, without))
    ):
        return []
    return words


def sets(value: str, names: Iterable[str]) -> bool:
    """Return whether these extra variables, as key=value or as JSON, have one of these names."""
    return any(re.search(rf"""(?:^|[\s{{,"']){name}["']?\s*[=:]""", value) for name in names)


def others(playbook: str) -> set[str]:
    """Return the parameters of this run's playbooks that are of no use for another one."""
    own = {collection.playbook(word) for word in sys.argv[1:]} - {collection.playbook(collection.path(playbook))}
    return {name for each in own for name in parameters.names_of(each)}


def name_of(playbook: str, form: str) -> str:
    """Return a playbook of the collection as it is typed: by its full name, by its absolute path, or by its path from
    this directory.
    """
    if form == "name":
        return collection.NAME + os.path.splitext(playbook)[0].removeprefix("playbooks/").replace("/", ".")
    path = collection.path(playbook)
    return path if form == "absolute" else os.path.relpath(path)


def form_of(arguments: list[str]) -> str:
    """Return how the playbook of this run was typed."""
    if any(word.startswith(collection.NAME) for word in arguments):
        return "name"
    typed = [word for word in arguments if word.endswith((".yml", ".yaml")) and os.path.isfile(word)]
    own = [word for word in typed if os.path.realpath(word).startswith(collection.ROOT + os.sep)]
    return "absolute" if own and os.path.isabs(own[-1]) else "relative"


def command(playbook: str, *more: str, program: str = "ansible-playbook") -> list[str]:
    """Return the words of the command. Playbooks have the form in which the playbook of this run was typed."""
    form = form_of(sys.argv[1:])
    words = [
        name_of(word, form) if word.endswith(".yml") and os.path.isfile(collection.path(word)) else word
        for word in (playbook, *more) if word
    ]
    return [program, *options(sys.argv[1:], others(playbook)), *words]


def line(*words: str) -> str:
    """Return the command as one line of a shell."""
    return shlex.join(command(*words))
