"""Signing in as people do: with a browser, through nginx, by password and through an OpenID provider. Pictures are kept
in artifacts/screenshots.
"""

import datetime
import ipaddress
import json
import os
import re
import shlex
import ssl
import subprocess
import threading
import urllib.request

import oidc_provider_mock
import pytest
from airflow_api import Api
from conftest import ROOT, host_name
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playbook import play
from playwright.sync_api import expect, sync_playwright
from werkzeug.serving import make_server

# A page comes late on a machine that is busy with another scenario. The default is 5 s.
expect.set_options(timeout=30_000)
AUTHORITY = "/etc/ssl/provider.pem"
MARKER = "/etc/airflow/secrets/auth_secret"
# sub of a person: what the provider says of it.
PEOPLE = {
    "ann": {
        "email": "ann@example.com", "email_verified": True, "given_name": "Ann", "family_name": "Lee",
        "groups": ["data"]
    },
    "bob": {"email": "bob@example.com", "email_verified": True, "given_name": "Bob", "groups": []},
    "eve": {"email": "eve@example.com.evil.org", "email_verified": True, "given_name": "Eve", "groups": ["data"]},
    "mal": {
        "email": "mal@example.com", "email_verified": False, "given_name": "Mal", "groups": ["data"],
        "preferred_username": "admin"
    },
}


@pytest.fixture(scope="module")
def url(setting):
    return setting("airflow_api_base_url")


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def chromium(host, url, tmp_path_factory):
    """The distribution's browser, which knows the name of the site as that of the host.

    It gives up what it loads (ERR_NETWORK_CHANGED) as often as its machine gets or loses an address, which every
    container that starts or stops brings. So it has the host's network in place of this machine's, which root may give
    it.
    """
    address = host.check_output("hostname -I").split()[0]
    command = [os.environ.get("CHROMIUM", "/usr/bin/chromium")]
    if os.geteuid() == 0:
        process = subprocess.check_output(["docker", "inspect", "--format", "{{.State.Pid}}",
                                           host_name(host)],
                                          text=True).strip()
        command = ["nsenter", f"--net=/proc/{process}/ns/net", *command]
    wrapper = tmp_path_factory.mktemp("browser") / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=wrapper,
            args=[f"--host-resolver-rules=MAP {url.removeprefix('https://')} {address}", "--no-proxy-server"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, request):
    """A tab of a browser that was never here. What it shows in the end is kept."""
    context = chromium.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    yield page
    photograph(
        page, "_".join([
            request.node.originalname,
            *map(str, [value for key, value in request.node.callspec.params.items() if key == "person"])
        ]))
    context.close()


def photograph(page, name):
    page.screenshot(path=ROOT / "artifacts/screenshots" / os.environ["MOLECULE_SCENARIO_NAME"] / f"{name}.png")


def user(api, name):
    """What the REST API says of a user: its roles, or None."""
    status, body = api.ask("GET", f"/users/{name}", base="/auth/fab/v1" if api.major == 3 else None)
    assert status in (200, 404), body
    return sorted(role["name"] for role in body["roles"]) if status == 200 else None


# ---- by password -----------------------------------------------------------------------------------------------------


def test_by_password_to_the_grid_of_a_dag(page, api, url, major):
    run = api.start_run("example_dag")
    assert api.wait("example_dag", run) == "success"
    page.goto(f"{url}/dags/example_dag" + ("/grid" if major == 2 else ""))
    expect(page.get_by_text("Sign In").first).to_be_visible()
    photograph(page, "the_form_for_the_password")
    page.locator("#username").fill(api.user)
    page.locator("#password").fill(api.password
                                   or api.host.check_output(f"cat {api.config_dir}/secrets/admin_password"))
    page.locator("[type=submit]").click()
    # The grid: a row for each task, and in it a square for the run.
    square = "a[href*='/tasks/print_hello'][href*='/runs/']" if major == 3 else "[data-testid=task-instance]"
    expect(page.get_by_text("print_hello").first).to_be_visible(timeout=20000)
    expect(page.locator(square).first).to_be_visible(timeout=20000)


# ---- through a provider ----------------------------------------------------------------------------------------------


def certificate(address):
    """A self-signed certificate for an address, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(
        x509.random_serial_number()).not_valid_before(now - datetime.timedelta(
            days=1)).not_valid_after(now + datetime.timedelta(days=1)).add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
                critical=False).sign(key, hashes.SHA256()))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


class Provider:
    """An OpenID provider on this machine, at the address that the host has it under."""

    def __init__(self, host, directory):
        address = host.check_output("ip -4 route show default").split()[2]
        self.authority, key = certificate(address)
        (directory / "provider.pem").write_text(self.authority + key, encoding="utf-8")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "provider.pem")
        self.server = make_server(address,
                                  0,
                                  oidc_provider_mock.app(require_client_registration=True),
                                  threaded=True,
                                  ssl_context=context)
        self.issuer = f"https://{address}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(self, method, path, body):
        request = urllib.request.Request(self.issuer + path,
                                         json.dumps(body).encode(), {"Content-Type": "application/json"},
                                         method=method)
        handlers = urllib.request.ProxyHandler(
            {}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=self.authority))
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def say(self, person, **claims):
        """What it says of a person from now on."""
        self.ask("PUT", f"/users/{person}", {**PEOPLE[person], **claims})


def processes(host):
    """Unit: its main process."""
    shown = host.check_output("systemctl show 'airflow-*.service' --property Id,MainPID").split("\n\n")
    return {
        block["Id"]: block["MainPID"]
        for block in (dict(line.split("=", 1) for line in text.splitlines()) for text in shown)
    }


def configure(*arguments, **variables):
    return play("../site", "--tags", "configure,service", *arguments, **variables)


@pytest.fixture(scope="module")
def provider(host, url, major, tmp_path_factory):
    """Airflow asks the provider who somebody is, until the end of this file."""
    provider = Provider(host, tmp_path_factory.mktemp("provider"))
    back = f"{url}{'/auth' if major == 3 else ''}/oauth-authorized/company"
    client = provider.ask("POST", "/oauth2/clients", {"redirect_uris": [back]})
    for person in PEOPLE:
        provider.say(person)
    host.check_output(f"cat >{AUTHORITY} <<'PEM'\n{provider.authority}PEM")
    provider.auth = {
        "type": "oauth", "provider": "oidc", "name": "company", "issuer": provider.issuer, "ca_file": AUTHORITY,
        "client_id": client["client_id"], "client_secret": client["client_secret"], "allowed_domains": ["example.com"],
        "roles": {"data": ["Op"]}
    }
    before = processes(host)
    provider.done = configure("-vvv", "--diff", airflow_auth=provider.auth)
    assert not provider.done.failed, provider.done.output
    provider.restarted = {unit for unit, process in processes(host).items() if process != before[unit]}
    yield provider
    provider.server.shutdown()
    done = configure()
    assert not done.failed, done.output
    assert not host.file(MARKER).exists, "a secret that is used no more was left"


def test_only_the_server_was_restarted(provider, major):
    # The watchdog is one that watches, and is not missed.
    assert provider.restarted - {"airflow-watchdog.service"} == (
        {"airflow-api-server.service"} if major == 3 else {"airflow-webserver.service"}
    )


def test_again_nothing_changes(provider):
    """In the roles that read airflow_auth."""
    for playbook in ("airflow", "services"):
        done = play(playbook, airflow_auth=provider.auth)
        assert not done.failed and done.changed == 0, done.output


def test_the_providers_secret_is_in_its_file_alone(host, provider, setting):
    secret = provider.auth["client_secret"]
    file = host.file(MARKER)
    assert (file.content_string, file.user, file.group, file.mode) == (secret, "root", setting("airflow_group"), 0o640)
    assert secret not in provider.done.output
    found = host.run(
        f"grep -rlF -e {secret} /etc /opt/airflow/lib /run/systemd /var/log /usr/local/bin; journalctl -o cat | grep "
        f"-F -e {secret}"
    )
    assert found.stdout.split() == [MARKER]


def sign_in(page, url, person):
    page.goto(f"{url}/")
    page.get_by_text("Sign In with company").click()
    page.locator("input[name=sub]").fill(person)
    page.get_by_role("button", name="Authorize", exact=True).click()


def is_in(page, major):
    """Whether the browser may ask for what users may see."""
    return page.evaluate("path => fetch(path).then(answer => answer.status)", f"/api/v{major - 1}/dags") == 200


def test_a_person_of_the_domain_comes_in_with_the_roles_of_its_groups(page, api, provider, url, major):
    sign_in(page, url, "ann")
    expect(page).to_have_url(re.compile(rf"^{re.escape(url)}/(home)?(\?.*)?$"))
    expect(page.get_by_text("Dags" if major == 3 else "DAGs", exact=True).first).to_be_visible(timeout=20000)
    assert user(api, "ann@example.com") == ["Op", "Viewer"]
    assert is_in(page, major)


def test_without_a_group_the_first_sign_in_gives_the_default_role(page, api, provider, url, major):
    sign_in(page, url, "bob")
    expect(page).to_have_url(re.compile(rf"^{re.escape(url)}/(home)?(\?.*)?$"))
    assert user(api, "bob@example.com") == ["Viewer"]


def test_who_leaves_a_group_loses_its_role_at_the_next_sign_in(page, api, provider, url, major):
    provider.say("ann", groups=[])
    sign_in(page, url, "ann")
    expect(page).to_have_url(re.compile(rf"^{re.escape(url)}/(home)?(\?.*)?$"))
    assert user(api, "ann@example.com") == ["Viewer"]


@pytest.mark.parametrize(("person", "why"), [
    ("eve", "eve@example.com.evil.org is in none of the allowed domains"),
    ("mal", "the provider has not verified the e-mail address"),
])
def test_somebody_else_is_refused_and_the_journal_says_why(page, host, api, provider, url, major, person, why):
    before = host.check_output("date +%s")
    sign_in(page, url, person)
    expect(page.get_by_text("Invalid login. Please try again.").first).to_be_visible(timeout=20000)
    assert page.url.startswith(f"{url}/") and not is_in(page, major)
    assert user(api, PEOPLE[person]["email"]) is None
    look = f"journalctl -o cat --since @{before} -u 'airflow-*' | grep -F '{why}'"
    host.check_output(f"for i in 1 2 3 4 5; do {look} && exit; sleep 1; done; exit 1")


def test_nobody_asks_for_an_account_by_a_form(page, provider, url, major):
    assert page.goto(f"{url}{'/auth' if major == 3 else ''}/register/form").status == 404


def test_the_administrator_still_has_a_token_by_password(api, provider):
    api.token = None
    assert api.get("/dags")["total_entries"] >= 1
