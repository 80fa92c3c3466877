"""Tell what below Airflow's directories a removal may delete, and what belongs to others. Changes nothing.

ours.py DIRECTORIES

DIRECTORIES is JSON: {directory: rule}. A rule {"names": [regular expressions]} is for a directory in which the roles
write: what has such a name is ours, with all that is in it. A rule {"user": name} is for a directory in which Airflow
and its tasks write under names of their own: what belongs to this user is ours, at any depth.

The answer is JSON: {"ours": paths, "others": paths}. A directory without anything of others is one path.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from typing import Any

Rule = dict[str, Any]
ALL: Rule = {"all": True}
NONE: Rule = {"all": False}


def with_number(rule: Rule) -> Rule:
    """Return the rule with the number of its user instead of the name. Nothing belongs to a user that does not exist.
    """
    try:
        return {"uid": pwd.getpwnam(rule["user"]).pw_uid} if "user" in rule else rule
    except KeyError:
        return NONE


def rule_below(rule: Rule, name: str) -> Rule:
    """Return the rule for what has this name in a directory with the rule."""
    if "names" not in rule:
        return rule
    # A run that was killed leaves files that have not got their name yet: module_utils/new_file.py.
    return ALL if any(re.fullmatch(rf"\.?({known})(\.\d+)?(\.new)?", name) for known in rule["names"]) else NONE


def split(path: str, rule: Rule, rules: dict[str, Rule]) -> tuple[list[str], list[str]]:
    """Return what of the path is ours, and what belongs to others."""
    own = path in rules
    rule = rules.get(path, rule)
    mine = own or rule.get("all") or ("uid" in rule and os.lstat(path).st_uid == rule["uid"])
    ours: list[str] = []
    others: list[str] = []
    # What is ours or not as a whole needs no look inside.
    if (
        os.path.isdir(path)
        and not os.path.islink(path)
        and (own or "all" not in rule or any(other.startswith(f"{path}/") for other in rules))
    ):
        for name in sorted(os.listdir(path)):
            found = split(os.path.join(path, name), rule_below(rule, name), rules)
            ours += found[0]
            others += found[1]
    if others:
        return (ours, others) if ours or own else ([], [path])
    # A directory of somebody else that holds nothing but ours was made for ours.
    return ([path], []) if mine or ours else ([], [path])


def look(rules: dict[str, Rule]) -> dict[str, list[str]]:
    """Return the answer."""
    rules = {os.path.normpath(path): with_number(rule) for path, rule in rules.items()}
    found = [split(path, rule, rules) for path, rule in rules.items()
             if os.path.lexists(path) and not any(path.startswith(f"{other}/") for other in rules)]
    return {
        "ours": [path for ours, _others in found for path in ours],
        "others": [path for _ours, others in found for path in others]
    }


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))
