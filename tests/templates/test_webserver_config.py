"""sign_in.json for each kind of sign-in, rendered by Ansible's own engine without a host, and webserver_config.py, run
as Airflow runs it.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types

import pytest
from airflow_runtime import sign_in
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from shared_variables import shared_variables

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"
RUNTIME = ROLES / "airflow_runtime/files"
NASTY = "it's \"100%\" \\n {{ x }} \N{SNOWMAN}\N{GRINNING FACE}"
OAUTH = {
    "type": "oauth", "provider": "google", "client_id": NASTY, "client_secret": "s3cret-of-the-client",
    "allowed_domains": ["Example.com"]
}
LDAP = {
    "type": "ldap", "server": "ldaps://ldap.example.com", "bind_user": "cn=reader," + NASTY,
    "bind_password": "s3cret-of-the-reader", "search": "ou=people,dc=example,dc=com"
}


def escape(text):
    """What python-ldap does."""
    return text.translate({ord(character): f"\\{ord(character):02x}" for character in "\\*()"})


def variables(**given):
    return Templar(loader=DataLoader(),
                   variables={**shared_variables(), "ansible_managed": "Managed by Ansible", **given})


@pytest.fixture
def load(host_settings, monkeypatch):
    """load(airflow_auth, ...): the settings that FAB gets, the text of sign_in.json, and the secrets that they need."""

    def run(auth, **given):
        config = host_settings / "config"
        templar = variables(airflow_auth=auth, airflow_config_dir=str(config), **given)
        secrets = {
            name: value
            for name, value in templar.template(trust_as_template("{{ __airflow_auth_secrets }}")).items() if value
        }
        for name, value in secrets.items():
            (config / "secrets" / name).write_text(value, encoding="utf-8")
        text = templar.template(trust_as_template("{{ __airflow_sign_in | to_nice_json }}"))
        (config / "sign_in.json").write_text(text, encoding="utf-8")
        # What Airflow's virtualenv has.
        override = types.SimpleNamespace(FabAirflowSecurityManagerOverride=object)
        for name, module in (
            ("flask_appbuilder", types.ModuleType("flask_appbuilder")),
            ("flask_appbuilder.const", types.SimpleNamespace(AUTH_DB=1, AUTH_LDAP=2, AUTH_OAUTH=4)),
            ("ldap", types.ModuleType("ldap")),
            ("ldap.filter", types.SimpleNamespace(escape_filter_chars=escape)),
            *(
                (name, types.ModuleType(name))
                for name in (
                    "airflow",
                    "airflow.providers",
                    "airflow.providers.fab",
                    "airflow.providers.fab.auth_manager",
                    "airflow.providers.fab.auth_manager.security_manager",
                )
            ),
            ("airflow.providers.fab.auth_manager.security_manager.override", override),
        ):
            monkeypatch.setitem(sys.modules, name, module)
        settings = {}
        exec(
            compile((ROLES / "airflow_config/files/webserver_config.py").read_text(encoding="utf-8"),
                    "webserver_config.py", "exec"), settings)
        return {name: value for name, value in settings.items() if name.isupper()}, text, secrets

    return run


def test_users_of_the_database_are_the_default(load):
    settings, _text, secrets = load({})
    assert settings == {"AUTH_TYPE": 1, "WTF_CSRF_ENABLED": True, "RATELIMIT_STORAGE_URI": "memory://"
                        } and secrets == {}


@pytest.mark.parametrize(
    ("given", "metadata", "scope", "groups", "domain"),
    [
        (
            {"provider": "google"},
            "https://accounts.google.com/.well-known/openid-configuration",
            "openid email profile",
            "groups",
            "hd",
        ),
        (
            {"provider": "okta", "issuer": "https://acme.okta.com/oauth2/default"},
            "https://acme.okta.com/oauth2/default/.well-known/openid-configuration",
            "openid email profile groups",
            "groups",
            "",
        ),
        (
            {"provider": "cognito", "issuer": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_x"},
            "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_x/.well-known/openid-configuration",
            "openid email profile",
            "cognito:groups",
            "",
        ),
        (
            {
                "provider": "oidc",
                "issuer": "https://id.example.com/realms/a/",
                "groups_claim": "roles",
                "scope": "openid email roles",
            },
            "https://id.example.com/realms/a/.well-known/openid-configuration",
            "openid email roles",
            "roles",
            "",
        ),
        ({"provider": "github"}, None, "read:user user:email read:org", "groups", ""),
    ],
)
def test_a_provider_is_data(load, given, metadata, scope, groups, domain):
    settings, text, _secrets = load({**OAUTH, **given})
    (provider,) = settings["OAUTH_PROVIDERS"]
    assert provider["name"] == given["provider"] and provider["token_key"] == "access_token"
    assert provider["remote_app"].get("server_metadata_url") == metadata
    assert provider["remote_app"]["client_kwargs"] == {
        "scope": scope, "code_challenge_method": "S256", "default_timeout": 20
    }
    options = json.loads(text)
    assert (options["groups_claim"], options["domain_claim"]) == (groups, domain)
    assert options["kind"] == ("github" if given["provider"] == "github" else "oidc")
    assert settings["SECURITY_MANAGER_CLASS"].registeruseroauthview() is None


def test_whom_the_site_lets_in_reaches_the_judge(load, monkeypatch):
    asked = []
    monkeypatch.setattr(sign_in, "user", lambda remote, token, options: asked.append((remote, token, options)))
    for given, verified in (({"allowed_groups": [NASTY], "require_verified_email": "no"}, False), ({}, True)):
        manager = load({**OAUTH, **given})[0]["SECURITY_MANAGER_CLASS"]()
        manager.oauth_remotes = {"google": "its client"}
        manager.get_oauth_user_info("google", "a token")
        remote, token, options = asked.pop()
        assert (remote, token) == ("its client", "a token")
        assert options["allowed_domains"] == ["example.com"] and options["allowed_groups"] == given.get(
            "allowed_groups", [])
        assert options["require_verified_email"] is verified


@pytest.mark.parametrize("auth", [OAUTH, LDAP], ids=["oauth", "ldap"])
def test_a_secret_is_in_its_file_and_not_in_the_configuration(load, auth):
    settings, text, secrets = load(auth)
    assert secrets == {"auth_secret": auth.get("client_secret") or auth["bind_password"]}
    assert "s3cret" not in text and "s3cret" in str(settings)


@pytest.mark.parametrize("auth", [OAUTH, LDAP], ids=["oauth", "ldap"])
def test_roles_follow_from_groups_and_the_first_sign_in(load, auth):
    settings = load(auth)[0]
    assert (settings["AUTH_USER_REGISTRATION"], settings["AUTH_USER_REGISTRATION_ROLE"]) == (True, "Viewer")
    assert (settings["AUTH_ROLES_MAPPING"], settings["AUTH_ROLES_SYNC_AT_LOGIN"]) == ({}, False)
    settings = load({**auth, "default_role": "", "roles": {NASTY: ["Op", "User"]}})[0]
    assert (settings["AUTH_USER_REGISTRATION"], settings["AUTH_ROLES_SYNC_AT_LOGIN"]) == (False, True)
    assert settings["AUTH_ROLES_MAPPING"] == {NASTY: ["Op", "User"]}


def test_ldap(load):
    settings = load(LDAP)[0]
    assert settings["AUTH_LDAP_SERVER"] == LDAP["server"] and settings["AUTH_LDAP_BIND_USER"] == LDAP["bind_user"]
    assert settings["AUTH_LDAP_BIND_PASSWORD"] == LDAP["bind_password"] and settings["AUTH_LDAP_SEARCH_FILTER"] == ""
    assert settings["AUTH_LDAP_TLS_DEMAND"] is True and settings[
        "AUTH_LDAP_USE_TLS"] is False and "AUTH_LDAP_TLS_CACERTFILE" not in settings
    assert load({**LDAP, "ca_file": "/etc/ssl/ca.pem",
                 "start_tls": True})[0]["AUTH_LDAP_TLS_CACERTFILE"] == "/etc/ssl/ca.pem"


def test_a_group_of_the_directory_is_text_and_not_a_part_of_the_filter(load):
    groups = ["cn=data,dc=example", r"cn=a\, b (x*)"]
    assert load({**LDAP, "allowed_groups": groups})[0]["AUTH_LDAP_SEARCH_FILTER"] == \
        r"(&(|(memberOf=cn=data,dc=example)(memberOf=cn=a\5c, b \28x\2a\29)))"
    given = load(
        {**LDAP, "allowed_groups": groups[:1], "search_filter": "(objectClass=person)", "group_field": "isMemberOf"})[0]
    assert given["AUTH_LDAP_SEARCH_FILTER"] == "(&(objectClass=person)(|(isMemberOf=cn=data,dc=example)))"


@pytest.mark.parametrize("auth", [{}, OAUTH, LDAP], ids=["database", "oauth", "ldap"])
def test_attempts_are_counted_where_the_site_says(load, auth):
    settings, text, secrets = load(auth, airflow_auth_rate_limit_storage="redis://:p%40ss@10.0.0.5:6379/0")
    assert settings["RATELIMIT_STORAGE_URI"] == secrets["rate_limit_storage"] == "redis://:p%40ss@10.0.0.5:6379/0"
    assert settings["RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"] is True and "p%40ss" not in text


OURS = ["/etc/airflow/webserver_config.py", "/etc/airflow/sign_in.json",
        *(f"/opt/airflow/lib/airflow_runtime/{name}.py" for name in ("settings", "sign_in", "webserver_config"))]


@pytest.mark.parametrize(("auth", "given", "files"), [
    ({}, {}, OURS),
    (OAUTH, {}, [*OURS, "/etc/airflow/secrets/auth_secret"]),
    (LDAP, {"airflow_auth_rate_limit_storage": "redis://x"},
     [*OURS, "/etc/airflow/secrets/auth_secret", "/etc/airflow/secrets/rate_limit_storage"]),
    ({}, {"airflow_webserver_config_file": "/site.py"}, ["/etc/airflow/webserver_config.py"]),
])
def test_the_server_is_restarted_for_what_it_reads(auth, given, files):
    found = variables(airflow_auth=auth, **given).template(trust_as_template("{{ __airflow_auth_files }}"))
    assert found == files
    modules = [RUNTIME / path[len("/opt/airflow/lib/"):] for path in found if path.startswith("/opt/airflow/lib/")]
    # A change of what these import is a change of the sign-in too.
    imported = {
        name
        for path in modules
        for line in re.findall(r"^from airflow_runtime import (.*)", path.read_text(encoding="utf-8"), re.M)
        for name in line.split(", ")
    }
    assert imported <= {path.stem for path in modules}


# As vars/main.yml writes them.
CONFIG, SIGN_IN = "{{ airflow_config_dir }}/webserver_config.py", "{{ __airflow_sign_in_path }}"


def what_is_done(file, **given):
    """What role airflow_config does about the file."""
    data = DataLoader().load_from_file(str(ROLES / "airflow_config/vars/main.yml"), trusted_as_template=True)
    number = next(number for number, item in enumerate(data["__airflow_config_files_of_both"]) if item["path"] == file)
    templar = variables(
        **{**data, "ansible_search_path": [str(ROLES / "airflow_config")], "__airflow_release_dir": "/venv", **given})
    return templar.template(trust_as_template("{{ __airflow_config_files_of_both[%d] }}" % number))


def test_a_file_of_the_site_takes_its_place_as_it_is_and_is_not_shown(tmp_path):
    (tmp_path / "own.py").write_text("AUTH_TYPE = 1  # {{ not a template }}\n\n", encoding="utf-8")
    item = what_is_done(CONFIG, airflow_webserver_config_file=str(tmp_path / "own.py"))
    assert item["content"] == "AUTH_TYPE = 1  # {{ not a template }}\n\n" and item["secret"] is True
    assert what_is_done(SIGN_IN, airflow_webserver_config_file=str(tmp_path / "own.py"))["state"] == "absent"
    ours = what_is_done(CONFIG)
    assert ours["secret"] is False and ours["content"] == (
        ROLES / "airflow_config/files/webserver_config.py").read_text(encoding="utf-8")
    assert what_is_done(SIGN_IN)["state"] == "file"


@pytest.mark.parametrize(("text", "good"),
                         [("import sys\nAUTH_TYPE = 1\n", True), ("AUTH_TYPE = no_such_name\n", False)])
def test_a_file_is_tried_by_the_virtualenv_that_comes_next(tmp_path, text, good):
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "own.py").write_text(text, encoding="utf-8")
    command = what_is_done(CONFIG,
                           airflow_webserver_config_file=str(tmp_path / "own.py"),
                           __airflow_release_dir=str(tmp_path / "venv"))["validate"]
    done = subprocess.run([word.replace("%s", str(tmp_path / "own.py")) for word in shlex.split(command)],
                          capture_output=True,
                          text=True,
                          check=False)
    assert (done.returncode == 0) is good, done.stderr


@pytest.mark.parametrize(("auth", "fab", "good"), [(LDAP, True, True), (LDAP, False, False), ({}, False, None)])
def test_a_sign_in_is_tried_by_the_virtualenv_that_comes_next(tmp_path, auth, fab, good):
    """Without FAB, or LDAP's package, the server would not start."""
    for name, text in {
            "venv/lib/flask_appbuilder/__init__.py": "",
            "venv/lib/flask_appbuilder/const.py": "AUTH_LDAP = 2" if fab else "", "secrets/auth_secret": "s3cret",
            "libexec/airflow_runtime.json": "not asked"
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "libexec/airflow_runtime").symlink_to(RUNTIME)
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\nPYTHONPATH={tmp_path}/venv/lib exec {sys.executable} \"$@\"\n", encoding="utf-8")
    python.chmod(0o755)
    given = {
        "airflow_auth": auth, "airflow_install_dir": str(tmp_path), "airflow_config_dir": str(tmp_path),
        "__airflow_release_dir": str(tmp_path / "venv")
    }
    item = what_is_done(SIGN_IN, **given)
    assert bool(item["validate"]) is (good is not None)
    if item["validate"]:
        (tmp_path / "new.json").write_text(item["content"], encoding="utf-8")
        words = [word.replace("%s", str(tmp_path / "new.json")) for word in shlex.split(item["validate"])]
        done = subprocess.run(words,
                              env={"PATH": os.environ["PATH"], "AIRFLOW_CONFIG": "/dev/null"},
                              capture_output=True,
                              text=True,
                              check=False)
        assert (done.returncode == 0) is good, done.stderr
