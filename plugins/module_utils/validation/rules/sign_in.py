"""airflow_auth: who may sign in, and that it does not let in everybody."""

from __future__ import annotations

import json
import re
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Problems, Site, Values

SECRETS = {"airflow_auth_rate_limit_storage": {"shortest": 1}}
# Keys that each type needs, and those that it may have besides; for OAuth the same for each provider.
TYPES: dict[str, dict[str, list[str]]] = {
    "database": {"needs": [], "may": []},
    "ldap": {
        "needs": ["server", "bind_user", "bind_password", "search"],
        "may": [
            "default_role", "roles", "allowed_groups", "ca_file", "start_tls", "search_filter", "uid_field",
            "group_field"
        ],
    },
    "oauth": {
        "needs": ["provider", "client_id", "client_secret"],
        "may": ["default_role", "roles", "allowed_domains", "require_verified_email", "name"],
    },
}
PROVIDERS: dict[str, dict[str, list[str]]] = {
    "google": {"needs": [], "may": []},
    "github": {"needs": [], "may": ["allowed_groups"]},
    "okta": {"needs": ["issuer"], "may": ["allowed_groups", "groups_claim", "scope", "ca_file"]},
    "cognito": {"needs": ["issuer"], "may": ["allowed_groups", "groups_claim", "scope", "ca_file"]},
    "oidc": {"needs": ["issuer"], "may": ["allowed_groups", "groups_claim", "scope", "ca_file"]},
}
# Anybody gets an address there.
PUBLIC_DOMAINS = (
    "gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "yahoo.com", "icloud.com",
    "me.com", "aol.com", "gmx.de", "gmx.net", "web.de", "proton.me", "protonmail.com", "yandex.com", "yandex.ru",
    "mail.ru", "qq.com", "163.com")


def check_auth(values: Values, site: Site) -> Problems:
    """airflow_auth: what each kind of sign-in needs, and that it does not let in everybody."""
    auth = values.get("airflow_auth")
    if not auth:
        return
    page = " docs/sign_in.md has an example for each."
    kind = auth.get("type")
    if kind is None:
        yield "airflow_auth", "lacks type; valid are {0}.{1}".format(", ".join(TYPES), page)
        return
    allowed = [TYPES[kind]]
    what = "type {0}".format(kind)
    if kind == "oauth":
        provider = auth.get("provider")
        if provider is None:
            yield "airflow_auth", "lacks provider; valid are {0}.{1}".format(", ".join(PROVIDERS), page)
            return
        allowed.append(PROVIDERS[provider])
        what = "provider {0}".format(provider)
    needs, may = [key for rule in allowed for key in rule["needs"]], [key for rule in allowed for key in rule["may"]]
    missing = [key for key in needs if auth.get(key) in (None, "", [])]
    if missing:
        yield "airflow_auth", "{0} lacks {1}.{2}".format(what, ", ".join(missing), page)
    foreign = sorted(set(auth) - {"type"} - set(needs) - set(may))
    if foreign:
        yield (
            "airflow_auth",
            "{0} has no {1}; valid are {2}.".format(
                what, ", ".join(foreign), ", ".join(sorted(["type"] + needs + may))
            ),
        )
    for key, roles in (auth.get("roles") or {}).items():
        if not (isinstance(roles, (list, tuple)) and all(isinstance(role, str) for role in roles)):
            yield "airflow_auth", "roles: {0} is to be a list of roles, such as [Op].".format(json.dumps(key))
    if kind == "oauth":
        yield from check_oauth(auth, values, site)
    if kind == "ldap":
        yield from check_ldap(auth)


def check_oauth(auth: dict[str, Any], values: Values, site: Site) -> Problems:
    """A provider proves who somebody is, not that they may come in."""
    domains = auth.get("allowed_domains") or []
    if not domains and not auth.get("allowed_groups"):
        yield "airflow_auth", (
            "neither allowed_domains nor allowed_groups is set, so everybody with an account of the provider could "
            "sign in. Set one of them, such as "
            "allowed_domains: [example.com].")
    for domain in domains:
        if not re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?", domain.lower()):
            yield "airflow_auth", (
                "allowed_domains has {0}, which is no domain. Valid is what follows the @ of the addresses, whole and "
                "without a wildcard, such as "
                "example.com; a subdomain is another one.").format(json.dumps(domain))
        elif domain.lower() in PUBLIC_DOMAINS and not auth.get("allowed_groups"):
            yield "airflow_auth", (
                "allowed_domains has {0}, where anybody gets an address. Take the domain of your organisation, or "
                "allowed_groups."
            ).format(json.dumps(domain))
    issuer = auth.get("issuer")
    if issuer and (not re.fullmatch(r"https://[^\s/?#@]+(/[^\s?#]*)?", issuer) or "/.well-known" in issuer):
        yield "airflow_auth", (
            "issuer is {0}; valid is the provider's address, https://..., without what its configuration has below it "
            "(/.well-known/...)."
        ).format(json.dumps(issuer))
    name = auth.get("name", "x")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name):
        yield "airflow_auth", ("name is {0}; valid are lower-case letters, digits and -, because it is part of an "
                               "address.").format(
            json.dumps(name))
    url = values.get("airflow_api_base_url")
    if url is not None and not url.startswith("https://"):
        yield "airflow_auth", (
            "people come back from the provider with a code that signs them in, so airflow_api_base_url ({0}) has to "
            "be https://...; it is {1}. Put the host "
            "into group airflow_proxy, or set the address that your own proxy has.").format(
                site.where("airflow_api_base_url"), json.dumps(url))


def check_ldap(auth: dict[str, Any]) -> Problems:
    """The directory gets the passwords."""
    server, start_tls = auth.get("server") or "", auth.get("start_tls", False)
    if server and not re.fullmatch(r"ldaps?://[^\s/:]+(:[0-9]+)?", server):
        yield "airflow_auth", "server is {0}; valid is ldaps://host or ldaps://host:port.".format(json.dumps(server))
    elif server.startswith("ldap://") and not start_tls:
        yield "airflow_auth", ("server is {0}, which sends passwords in clear. Take ldaps://, or set start_tls: "
                               "true.").format(
            json.dumps(server))
    elif server.startswith("ldaps://") and start_tls:
        yield "airflow_auth", "server is {0}, which is encrypted already; leave start_tls out, or take ldap://.".format(
            json.dumps(server))
    own = auth.get("search_filter") or "()"
    if not (own.startswith("(") and own.endswith(")") and own.count("(") == own.count(")")):
        yield "airflow_auth", ("search_filter is {0}; valid is an LDAP filter in brackets, such as "
                               "(objectClass=person).").format(
            json.dumps(own))


CHECKS = (check_auth,)
