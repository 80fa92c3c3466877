"""Who may sign in, as settings of Flask AppBuilder (FAB), which signs people in for Airflow.

webserver_config.py in the configuration directory takes them from here. sign_in.json beside it is made from
airflow_auth.

webserver_config FILE DIRECTORY    try a sign_in.json before it is put in place, with the secrets in DIRECTORY
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow_runtime import settings, sign_in


def oauth(options: dict[str, Any], secrets: Path) -> dict[str, Any]:
    """Return the settings for people whom an OAuth provider knows, and whom sign_in admits."""
    from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
    from flask_appbuilder.const import AUTH_OAUTH

    class SecurityManager(FabAirflowSecurityManagerOverride):
        """FAB's own would let in everybody whom the provider knows."""

        # FAB's form for people who ask for an account: with a provider, that account is made when they sign in.
        registeruseroauthview = staticmethod(lambda: None)

        def get_oauth_user_info(self, provider: str, resp: Any) -> dict[str, Any]:
            return sign_in.user(self.oauth_remotes[provider], resp, options)

    client = {"scope": options["scope"], "code_challenge_method": "S256", "default_timeout": sign_in.TIMEOUT}
    if options["ca_file"]:
        client["verify"] = options["ca_file"]
    application = {
        "client_id": options["client_id"],
        "client_secret": (secrets / "auth_secret").read_text(encoding="utf-8"),
        **options["endpoints"],
        "client_kwargs": client,
    }
    return {
        "AUTH_TYPE": AUTH_OAUTH,
        "SECURITY_MANAGER_CLASS": SecurityManager,
        "OAUTH_PROVIDERS": [{
            "name": options["name"], "icon": options["icon"], "token_key": "access_token", "remote_app": application
        }],
    }


def ldap(options: dict[str, Any], secrets: Path) -> dict[str, Any]:
    """Return the settings for people of an LDAP directory."""
    from flask_appbuilder.const import AUTH_LDAP

    search = options["search_filter"]
    if options["allowed_groups"]:
        from ldap.filter import escape_filter_chars

        groups = "".join(f"({options['group_field']}={escape_filter_chars(group)})"
                         for group in options["allowed_groups"])
        search = f"(&{search}(|{groups}))"
    found = {
        "AUTH_TYPE": AUTH_LDAP,
        "AUTH_LDAP_SERVER": options["server"],
        "AUTH_LDAP_USE_TLS": options["start_tls"],
        # Never on with a server that can't prove who it is: it gets the passwords.
        "AUTH_LDAP_TLS_DEMAND": True,
        "AUTH_LDAP_BIND_USER": options["bind_user"],
        "AUTH_LDAP_BIND_PASSWORD": (secrets / "auth_secret").read_text(encoding="utf-8"),
        "AUTH_LDAP_SEARCH": options["search"],
        "AUTH_LDAP_SEARCH_FILTER": search,
        "AUTH_LDAP_UID_FIELD": options["uid_field"],
        "AUTH_LDAP_GROUP_FIELD": options["group_field"],
    }
    return {**found, "AUTH_LDAP_TLS_CACERTFILE": options["ca_file"]} if options["ca_file"] else found


def database(_options: dict[str, Any], _secrets: Path) -> dict[str, Any]:
    """Return the settings for users of the metadata database."""
    from flask_appbuilder.const import AUTH_DB

    return {"AUTH_TYPE": AUTH_DB}


def configuration(file: Path | None = None, secrets: Path | None = None) -> dict[str, Any]:
    """Return all settings."""
    secrets = secrets or settings.config_dir() / "secrets"
    options = json.loads((file or settings.config_dir() / "sign_in.json").read_text(encoding="utf-8"))
    found = {"oauth": oauth, "ldap": ldap, "database": database}[options["type"]](options, secrets)
    if options["type"] != "database":
        found.update({
            # Who signs in for the first time becomes a user of Airflow.
            "AUTH_USER_REGISTRATION": options["default_role"] != "",
            "AUTH_USER_REGISTRATION_ROLE": options["default_role"],
            "AUTH_ROLES_MAPPING": options["roles"],
            # Whoever leaves a group loses its roles when signing in next.
            "AUTH_ROLES_SYNC_AT_LOGIN": bool(options["roles"]),
        })
    # Forms carry a token, so that another site can't send them in a user's name.
    found["WTF_CSRF_ENABLED"] = True
    if options["rate_limit_storage"]:
        # Attempts to sign in are counted for all processes of the server together; in each of them while the storage is
        # away.
        found["RATELIMIT_STORAGE_URI"] = (secrets / "rate_limit_storage").read_text(encoding="utf-8")
        found["RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"] = True
    else:
        # Attempts to sign in are counted in each process of the server.
        found["RATELIMIT_STORAGE_URI"] = "memory://"
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    configuration(Path(sys.argv[1]), Path(sys.argv[2]))
