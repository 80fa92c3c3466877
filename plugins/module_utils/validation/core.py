"""Validation: all that is wrong with the input of a run, in one message, before a host is changed.

A rule is a plain function check_x(values, site) that yields (variable, text); core.placed writes the variable and its
place before the text. Or it is a line of data: RANGES, PATTERNS, SECRETS, EXCLUSIVE and FILES, see check_data. Rules
lie in rules/<owner>.py: to add one, edit that file and its test. values  maps names of variables to values.
values[name] raises NotYet if the value depends on facts that are not known yet; .get returns None then. site    is what
a rule may know besides (class Site): where a variable is set, and functions that read files of the controller.
owners.py lists the owners, and says for which hosts their rules hold. types.py compares values with
meta/argument_specs.yml of the roles. Action plugin validate has three stages. input: on the controller, no host is
contacted. host: module validate says what it found on the host, and rules/host.py judges that. role: a role's own
rules, for whoever uses the role alone. Imports point down only: action -> plugin_utils (variables.py has all that is
private to Ansible) -> owners -> rules -> core -> types. A rule about what a task has found on a host is
ansible.builtin.assert in that role. Messages never hold the value of a secret.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils import airflow_objects, airflow_secret_kinds
from ansible_collections.windsock.airflow.plugins.module_utils.validation.types import (
    nested_secrets,
    range_problem,
    type_problem,
)

# Spaces and new lines in it, and - and _ in a value, count as nothing.
PLACEHOLDERS = r"""
    ^(change.?(me|it|this).*|.*change.?me|(admin|airflow|postgres(ql)?|root|user)[0-9]*|(my)?(pass(word|wd|phrase)?|passw0rd|secret|key|token)[0-9]*|
    (secret|temporary|dummy|fernet|jwt|api|test|example|sample|default)?(secret)?(key|password)|
    1234[0-9]*|qwerty|letmein|default|example|sample|test(ing)?|dummy|todo|tbd|fixme|none|null|foo|bar|foobar|x{3,}|\*{3,}|\.{3,}|
    <.*>|\{\{.*\}\}|\$\{.*\}|your.*|insert.*|replace.*)$"""


# {name of a variable: its value}. A rule yields (variable, what is wrong).
Values = Mapping[str, Any]
Problems = Iterator[tuple[str, str]]


class NotYet(KeyError):
    """The value depends on what is not known at this stage, such as facts."""


class Broken(Exception):
    """The template of the value fails. The argument says why, without a secret."""


@dataclasses.dataclass
class Site:
    """What a rule may know besides the variables of a host."""

    # (variable, host) -> file:line. The host may be left out.
    where: Callable[..., str]
    # __preflight_supported of role preflight: versions and systems.
    supported: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # {version: [python, ...]} of the locks.
    locks: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    # path -> whether it is a file of the controller.
    is_file: Callable[[str], bool] = bool
    # values -> names of the components that this Airflow has.
    components: Callable[[Values], list[str]] = lambda values: []
    # values -> the options that airflow.cfg may have in this version; nothing if the version has no list.
    options: Callable[[Values], Mapping[str, Any]] = lambda values: {}
    # () -> {section: newest version} of Airflow's own sections in all versions that have a list.
    all_sections: Callable[[], Mapping[str, Any]] = dict
    # directory -> whether the pair of keys is there that site.yml makes if the inventory names no recipients.
    has_backup_key: Callable[[Any], bool] = lambda directory: False
    has_gpg: bool = True

    def of_host(self, host: str | None) -> Site:
        """The same, with the places of this host's variables."""
        return dataclasses.replace(self, where=lambda name: self.where(name, host))


class Sound(Mapping[str, Any]):
    """Values without those that are wrong: for rules, they are as unknown as those that need facts."""

    def __init__(self, values: Mapping[str, Any], wrong: Collection[str]) -> None:
        self.values_, self.wrong = values, wrong

    def __getitem__(self, name: str) -> Any:
        if name in self.wrong:
            raise NotYet(name)
        try:
            return self.values_[name]
        except Broken:
            raise NotYet(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


def numbers(version: object) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(version))[:3])


def major_of(values: Values) -> int:
    """The major of airflow_version as a number; that of the default where it is not known yet."""
    return (numbers(values.get("airflow_version") or "") or (3,))[0]


def options_of(config: Any) -> Iterator[tuple[str, str, Any]]:
    """(section, option, value) of airflow_config."""
    for section, options in (config if isinstance(config, dict) else {}).items():
        for option, value in (options if isinstance(options, dict) else {}).items():
            yield section, str(option), value


def is_true(value: object) -> bool:
    """A truth value, also as text: a role that is used alone may get it from the command line."""
    return str(value).lower() in ("true", "yes", "on", "1", "t", "y")


def in_range(version: object, limits: Mapping[str, str]) -> bool:
    """Compares as many numbers as the limit has: 3.12.4 is at most 3.12."""
    low, high, below = (numbers(limits.get(key, "")) for key in ("at_least", "at_most", "below"))
    version = numbers(version)
    return version >= low and (not high or version[: len(high)] <= high) and (not below or version < below)


def range_text(limits: Mapping[str, str]) -> str:
    words = [("at_least", "{0} or newer"), ("at_most", "{0} or older"), ("below", "older than {0}")]
    if limits.get("at_least") and limits.get("at_most"):
        return "{at_least} to {at_most}".format(**limits)
    return ", ".join(text.format(limits[key]) for key, text in words if limits.get(key))


def placeholder(value: str) -> bool:
    return re.search(PLACEHOLDERS, re.sub(r"[-_ ]", "", value.strip()), re.IGNORECASE | re.VERBOSE) is not None


def secret_problem(rule: Mapping[str, Any], value: object) -> str | None:
    """What is wrong with a secret that was given. Never says the value."""
    if not isinstance(value, str) or value == "":
        return None
    if placeholder(value):
        return (
            "is a placeholder. Put a real secret there (a vault is the place for it), or leave it empty and one is "
            "generated."
        )
    if value != value.strip():
        return "begins or ends with a blank or a new line."
    if rule.get("kind") == "fernet":
        return airflow_secret_kinds.fernet_problem(value)
    if len(value) < rule.get("shortest", 0):
        return "is too short: {0} characters or more.".format(rule["shortest"])
    return None


def placed(name: str, text: str, site: Site) -> str:
    """The text behind the variable, or a part such as airflow_users[2].email, and the place where it is set. A text
    that begins with a blank goes on.
    """
    return "{0} ({1}){2}{3}".format(name, site.where(re.findall(r"\w+", name)[0]), "" if text[0] == " " else ": ", text)


def message(problems: Iterable[tuple[str, str]], title: str) -> str:
    """Always several lines, because YAML output folds and quotes a single one."""
    texts = list(collections.OrderedDict.fromkeys(text for _name, text in problems))
    title = "{0}: {1} problem{2}.".format(title, len(texts), "" if len(texts) == 1 else "s")
    return "\n".join([title] + ["{0}. {1}".format(number, text) for number, text in enumerate(texts, 1)])


def check_values(
    values: Values, raw: Values, names: Iterable[str], specs: Values, data: Mapping[str, Any], site: Site,
) -> tuple[list[tuple[str, str]], set[str]]:
    """Types, ranges and secrets of variables; what depends on facts comes back as deferred. raw: their templates.
    Returns (problems, deferred).
    """
    problems, deferred = [], set()

    def add(name: str, text: str, path: str = "") -> None:
        problems.append((name, placed(path or name, text, site)))

    for name in sorted(names):
        spec = specs[name]
        try:
            value = values[name]
        except NotYet:
            deferred.add(name)
            continue
        except Broken as error:
            add(name, "can't be evaluated: {0}.".format(error))
            continue
        problem = type_problem(name, spec, value)
        if not problem and spec.get("type") in ("int", "float"):
            problem = range_problem(name, value, data["RANGES"])
        if problem:
            add(name, problem.removeprefix(name + " "))
            continue
        kind = name.removeprefix("airflow_")
        if kind in airflow_objects.KINDS:
            for text in airflow_objects.check({kind: value})[1]:
                add(name, text)
        secrets = [(name, value, data["SECRETS"][name])] if name in data["SECRETS"] else []
        secrets += [(path, inner, {}) for path, inner in nested_secrets(name, spec, value)]
        for path, secret, rule in secrets:
            problem = secret_problem(rule, secret)
            if problem:
                add(name, problem, path)
    # A variable that only passes on another one that is wrong is not wrong itself.
    wrong = {name for name, _text in problems}
    return [(name, text) for name, text in problems if not any(
        re.search(r"\b{0}\b".format(other), str(raw.get(name)))
        for other in wrong - {name} if "{{" in str(raw.get(name)))], deferred


def check_data(values: Values, site: Site, data: Mapping[str, Any]) -> Problems:
    """Rules that are data.

    RANGES: {variable: (lowest, highest or None, words for that if others are better)}, compared together with the
    types; SECRETS, too: {variable: kind and shortest value}.
    PATTERNS: {variable: (regular expression for the whole value, what is valid)}. EXCLUSIVE: variables of which at most
    one may be set. FILES: variables that name a file of the controller, or a list or dictionary of them.
    """
    for names in data["EXCLUSIVE"]:
        given = [name for name in names if values.get(name)]
        if len(given) > 1:
            others = " and ".join("{0} ({1})".format(name, site.where(name)) for name in given[1:])
            yield given[0], " and {0}: only one of them may be set; leave the others empty.".format(others)
    for name, text in check_patterns(values, data["PATTERNS"]):
        yield name, text.removeprefix(name + " ")
    for name in data["FILES"]:
        yield from check_file(name, values.get(name), site)


def check_patterns(values: Values, patterns: Mapping[str, tuple[str, str]]) -> Problems:
    for name, (pattern, valid) in patterns.items():
        value = values.get(name)
        if value is not None and not re.fullmatch(pattern, str(value)):
            yield name, "{0} is {1}; {2}".format(name, json.dumps(value), valid)


def check_ranges(values: Values, ranges: Mapping[str, Any]) -> Problems:
    for name in ranges:
        problem = range_problem(name, values[name], ranges)
        if problem:
            yield name, problem


def check_file(name: str, value: Any, site: Site) -> Problems:
    """value: a path, or a list or dictionary of paths."""
    if isinstance(value, (list, tuple, Mapping)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from check_file(name, inner, site)
    elif value and not site.is_file(str(value)):
        yield name, "there is no file {0} on the controller. Give its absolute path.".format(value)
