"""Decide which secrets an environment has, from what each of its hosts answered."""

import base64
import urllib.parse
from typing import Any

# The answer of a host that holds no secret: it is new, or was emptied.
NONE = {"directory": "", "ready": False, "runs": False, "files": {}}


def parse(text):
    """Return what tasks/steps/gather_state.yml printed on a host: files is {name: {directory: content}}."""
    answer: dict[str, Any] = {**NONE, "files": {}}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "directory":
            answer["directory"] = rest
        elif word in ("ready", "runs"):
            answer[word] = True
        elif word == "file":
            name, content, directory = rest.split(" ", 2)
            answer["files"].setdefault(name, {})[directory] = base64.b64decode(content).decode()
    return answer


def login_of(url):
    """Return (role, password) in the address of a database."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")


def agreed(kind, held):
    """Return the one value that all hosts can take, or None. held: {host: (value, the value before it)}.

    A rotation that was killed leaves a value on some hosts and its successor on the others. The successor is
    known by the value before it, or as a list of Fernet keys that has all keys of the other one.
    """
    def follows(value, other):
        keys = set(other.split(",")) < set(value.split(",")) if kind == "fernet" else False
        return value == other or keys or (value, other) in held.values()

    values = {value for value, _before in held.values()}
    last = [value for value in values if all(follows(value, other) for other in values)]
    return last[0] if len(last) == 1 else None


def decide(answers, kinds, reads=False, copied=()):
    """Return which secrets the hosts have, or the problem that forbids to say so.

    answers: results of the loop over all hosts of the environment. kinds: {name: kind} of the secrets that come from
    the hosts. reads: the caller changes nothing, so a host that is away is no danger as long as no secret is absent.
    copied: names of the secrets that the controller's copy has, which help such a caller.
    """
    hosts = {answer["item"]: parse(answer.get("stdout") or "") for answer in answers}
    silent = [answer for answer in answers if answer.get("unreachable") or answer.get("rc", 1)]
    secrets, problems = {}, []
    for name, kind in kinds.items():
        held = {}
        for host, answer in hosts.items():
            values = answer["files"].get(name, {})
            if len(set(values.values())) > 1:
                places = " than in ".join(f"{place}/secrets" for place in values)
                problems.append(
                    f"{host} has another {name} in {places}. Airflow uses the first directory, and airflow_config_dir "
                    "is"
                    f" the second. Move {name} away from the one that is wrong")
            for value in values.values():
                before = answer["files"].get(f"{name}.before", {})
                held[host] = (value, next(iter(before.values()), None))
        if held:
            secrets[name] = agreed(kind, held)
        if held and secrets[name] is None:
            groups: dict[str, list[str]] = {}
            for host, (value, _before) in held.items():
                groups.setdefault(value, []).append(host)
            problems.append(
                f"{name} differs between hosts: {' / '.join(', '.join(group) for group in groups.values())}."
                f" Copy the file {name} of the host that has the right one over those of the others"
                f" ({next(iter(hosts.values()))['directory']}/secrets), and keep what you replace"
            )
    if "database_password" in kinds and "database_password" not in secrets:
        # Only the first host has the file. Where that host is lost, the address of the database still has the password.
        addresses = {url for answer in hosts.values() for url in answer["files"].get("sql_alchemy_conn", {}).values()}
        passwords = {login_of(url)[1] for url in addresses} - {""}
        if len(passwords) == 1:
            secrets["database_password"] = passwords.pop()
    if silent and kinds and not (reads and set(kinds) <= {*secrets, *copied}):
        reasons = [f"{one['item']} ({(one.get('stderr') or one.get('msg') or 'no reason').strip()})" for one in silent]
        problems.insert(0, f"Not every host of group airflow could be asked for its secrets: {', '.join(reasons)}."
                           " Start it, or take a host that is gone for good out of the inventory")
    lists = [value for answer in hosts.values() for value in answer["files"].get("fernet_key", {}).values()]
    ready = [{"host": host, "directory": answer["directory"]} for host, answer in hosts.items() if answer["ready"]]
    urls = {
        host: next(iter(answer["files"]["sql_alchemy_conn"].values()))
        for host, answer in hosts.items() if "sql_alchemy_conn" in answer["files"]
    }
    return {
        "problem": "".join(f"{problem}. " for problem in problems),
        "secrets": {name: value for name, value in secrets.items() if value is not None},
        "fernet_keys": sorted({key for value in lists for key in value.split(",")}),
        # A host that can ask the database. The directory is the one that Airflow uses there.
        "ready": ready[0] if ready else {},
        "directories": {host: answer["directory"] for host, answer in hosts.items()},
        # The address of the database that each host uses, and the role and the password in it where Airflow runs.
        "urls": urls,
        "running": {host: login_of(url) for host, url in urls.items() if hosts[host]["runs"]},
    }


def held(answer):
    """Return {file: marks of its keys} of what tasks/steps/query_held.yml printed, or None of a host that has not
    answered.
    """
    lines = (answer.get("stdout") or "").splitlines() if answer and answer.get("rc") == 0 else []
    return {name: marks for name, *marks in map(str.split, lines[1:])} if lines[:1] == ["asked"] else None


def left(hosts, rotated, files):
    """Return which hosts may start what was drained for a rotation that has failed, and the state as a text.

    hosts: variables of each host, with its answers to tasks/steps/query_held.yml before and after. rotated: the secret.
    files: those that are made from it.
    """
    before = {host["inventory_hostname"]: held(host.get("__airflow_secrets_held_before")) or {} for host in hosts}
    now = {host["inventory_hostname"]: held(host.get("__airflow_secrets_held")) for host in hosts}
    silent = sorted(host for host, files_of_host in now.items() if files_of_host is None)
    there = {host: files_of_host for host, files_of_host in now.items() if files_of_host is not None}
    new = {name: sorted(host for host in there if there[host].get(name) != before[host].get(name)) for name in files}
    said = []
    for name, on in new.items():
        said += [f"{name} is new on {', '.join(on)}{' only' if set(on) < set(there) else ''}."] if on else []
    said = said or ["No host has a new secret."]
    said += [f"What {', '.join(silent)} has is not known, because it does not answer."] if silent else []
    if rotated == "database_password":
        # Each host stands for itself.
        answers = {host["inventory_hostname"]: host.get("__airflow_secrets_signs_in") or {} for host in hosts}
        start = [host for host in sorted(there) if answers[host].get("rc", 1) == 0]
        for host in sorted(set(there) - set(start)):
            why = " ".join(answers[host].get("stderr", "").split())
            said.append(f"The database refuses the password of {host}, so what was drained there stays stopped: {why}.")
        return {"start": start, "state": " ".join(said)}

    def fits(mine, other):
        # A host encrypts with its first Fernet key. Of the other secrets, all hosts must have the same one.
        return set(mine[:1]) <= set(other) if rotated == "fernet_key" else mine == other

    pairs = [(mine.get(name, []), other.get(name, [])) for mine in there.values() for other in there.values()
             for name in files]
    agree = all(fits(mine, other) for mine, other in pairs)
    if agree and not (silent and any(new.values())):
        return {"start": sorted(there), "state": " ".join(said)}
    why = (
        "could not read what the others encrypt" if rotated == "fernet_key" else "would refuse the tasks of the others"
    )
    said.append(f"A host with another {rotated} {why}, so what was drained stays stopped on all hosts.")
    return {"start": [], "state": " ".join(said)}


class FilterModule:
    def filters(self):
        return {"airflow_secrets_of_hosts": decide, "airflow_secrets_left": left}
