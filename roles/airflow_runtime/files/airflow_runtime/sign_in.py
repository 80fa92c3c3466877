"""Judges who may sign in through OAuth, by what the provider says of a person. webserver_config.py imports it; it needs
nothing of Airflow.

A provider proves who somebody is. It does not say that they may come in: Google knows every account in the world.
"""

from __future__ import annotations

import re
from typing import Any

ADDRESS = re.compile(r"[^@\s]+@([a-z0-9.-]+)")
# Seconds that the provider may take for an answer.
TIMEOUT = 20


class Refused(Exception):
    """The person may not come in. The text is for the log: the person is told only that it did not work."""


def oidc(remote: Any, token: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return what an OpenID provider says of a person: its ID token, and its page about the person where it has one."""
    # Authlib has checked the token's signature, issuer, audience, nonce and time before it put this here.
    claims = token.get("userinfo")
    if not claims:
        raise Refused("the provider sent no ID token")
    if remote.load_server_metadata().get("userinfo_endpoint"):
        page = remote.userinfo(token=token, timeout=TIMEOUT)
        if page.get("sub") != claims["sub"]:
            raise Refused("the provider's ID token and its user info are of two people")
        claims = {**page, **claims}
    return {
        "addresses": [(claims.get("email"), claims.get("email_verified"))],
        "account_domain": claims.get(options["domain_claim"]) if options["domain_claim"] else None,
        "groups": claims.get(options["groups_claim"]),
        "first_name": claims.get("given_name") or claims.get("name"),
        "last_name": claims.get("family_name"),
    }


def github(remote: Any, token: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return what GitHub says of a person: addresses, the own one first, and organisations and teams as "org" and
    "org/team".
    """

    def ask(path: str) -> Any:
        answer = remote.get(path, token=token, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    person = ask("user")
    addresses = sorted(ask("user/emails"), key=lambda address: not address.get("primary"))
    teams = ask("user/teams?per_page=100")
    return {
        "addresses": [(address.get("email"), address.get("verified")) for address in addresses],
        "account_domain": None,
        "groups": [org["login"] for org in ask("user/orgs?per_page=100")] +
        [f"{team['organization']['login']}/{team['slug']}" for team in teams],
        "first_name": person.get("name") or person.get("login"),
        "last_name": "",
    }


def domain(address: Any) -> str | None:
    """Return the domain of an address in lower case; None where it is no plain address."""
    # Compared as a whole, never by its end: neither evil-example.com nor example.com.evil.org is example.com. Letters
    # beyond ASCII are refused before they are made small, because some become a to z.
    found = ADDRESS.fullmatch(address.lower()) if isinstance(address, str) and address.isascii() else None
    return found[1] if found else None


def admit(person: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the user that FAB signs in; refuse everybody else."""
    domains, wanted = set(options["allowed_domains"]), set(options["allowed_groups"])
    if not domains and not wanted:
        raise Refused("neither allowed_domains nor allowed_groups says who may sign in")
    groups = person["groups"] if isinstance(person["groups"], (list, tuple)) else [person["groups"]]
    groups = [group for group in groups if isinstance(group, str) and group]

    plain = [address.lower() for address, _verified in person["addresses"] if domain(address)]
    if not plain:
        raise Refused("the provider told no e-mail address, or none that is plain")
    if options["require_verified_email"]:
        # Some providers write it as text.
        plain = [
            address.lower() for address, verified in person["addresses"]
            if domain(address) and verified in (True, "true")
        ]
        if not plain:
            raise Refused("the provider has not verified the e-mail address")
    fitting = [address for address in plain if not domains or domain(address) in domains]
    if not fitting:
        raise Refused(f"{plain[0]} is in none of the allowed domains")
    # Anybody can have an account with the provider under the address of a firm; this says that it is the firm's own.
    if domains and options["domain_claim"] and str(person["account_domain"]).lower() not in domains:
        raise Refused(f"the account of {fitting[0]} is not one of an allowed domain's organisation")
    if wanted and not wanted & set(groups):
        raise Refused(f"{fitting[0]} is in none of the allowed groups")
    # The name that is looked up among Airflow's users is an address that was proven, never one that the person chose.
    return {
        "username": fitting[0],
        "email": fitting[0],
        "first_name": str(person["first_name"] or fitting[0].partition("@")[0])[:64],
        "last_name": str(person["last_name"] or "")[:64],
        "role_keys": [*groups, fitting[0]],
    }


def user(remote: Any, token: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the user that FAB signs in, from the provider's answer."""
    return admit({"oidc": oidc, "github": github}[options["kind"]](remote, token, options), options)
