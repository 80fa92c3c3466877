"""nginx in front of the API server, asked as a browser does, and the server behind it, which believes nginx alone."""

import base64
import datetime
import json
import re
import time

import pytest
from airflow_api import Api, _quote
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playbook import play

PEM = "/etc/nginx/airflow.pem"
CONFIG = "/etc/nginx/conf.d/airflow.conf"
JSON = {"Content-Type": "application/json"}
LIES = {
    "X-Forwarded-Host": "evil.example.com", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "81",
    "X-Forwarded-Prefix": "/evil", "X-Forwarded-For": "192.0.2.66", "X-Forwarded-Ssl": "off",
    "Forwarded": "host=evil.example.com;proto=http"
}
# Run on the host, which need not be reached from here; by its own address, which is another than that of the proxy to
# Airflow.
CLIENT = r"""
import http.client, json, socket, ssl, subprocess, sys, time
request, address = json.load(sys.stdin), subprocess.check_output(["hostname", "-I"], text=True).split()[0]
connection = http.client.HTTPConnection(request["name"])
connection.sock = socket.create_connection((address, request["port"]), timeout=60)
if request["port"] == 443:
    connection.sock = ssl._create_unverified_context().wrap_socket(connection.sock, server_hostname=request["name"])
body = request["body"] and request["body"].replace("PAD", "x" * request["pad"])
connection.request(request["method"], request["path"], body, request["headers"])
response = connection.getresponse()
if "lines" in sys.argv:
    while line := response.readline():
        print(json.dumps([time.monotonic(), line.decode()]), flush=True)
else:
    print(json.dumps([response.status, response.getheaders(), response.read().decode(errors="replace")]))
"""

# In the place of Airflow, which may have a websocket in any release: it echoes a line on one, and answers all else with
# nothing.
WEBSOCKET = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        upgrade = self.headers["Upgrade"] == "websocket" and self.headers["Connection"] == "upgrade"
        self.send_response(101 if upgrade else 200)
        self.send_header(*("Upgrade", "websocket") if upgrade else ("Content-Length", "0"))
        self.send_header("Connection", "upgrade" if upgrade else "close")
        self.end_headers()
        if upgrade:
            self.wfile.write(self.rfile.readline())
        self.close_connection = True
http.server.ThreadingHTTPServer(("127.0.0.1", 18080), Handler).serve_forever()
"""
ASK_WEBSOCKET = r"""
import socket, ssl, sys
asks = "GET /socket HTTP/1.1\r\nHost: " + sys.argv[1] + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
plain = socket.create_connection(("127.0.0.1", 443), timeout=30)
with ssl._create_unverified_context().wrap_socket(plain, server_hostname=sys.argv[1]) as to:
    to.sendall(asks.encode())
    answer = to.makefile("rb")
    print(answer.readline().decode().strip())
    while answer.readline().strip():
        pass
    to.sendall(b"there and back\n")
    print(answer.readline().decode().strip())
"""


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


class Browser:
    """Asks nginx. Keeps cookies, and sends the same further headers each time."""

    def __init__(self, host, name, headers=None):
        self.host, self.name, self.headers, self.cookies, self.set_cookies = host, name, headers or {}, {}, []

    def request(self, path, body=None, method=None, headers=None, port=443, name=None, pad=0):
        """What CLIENT reads. So many characters take the place of PAD in the body."""
        cookies = {"Cookie": "; ".join(f"{key}={value}" for key, value in self.cookies.items())} if self.cookies else {}
        return json.dumps({
            "name": name or self.name, "port": port, "method": method or ("POST" if body else "GET"), "path": path,
            "body": body, "pad": pad, "headers": {**cookies, **self.headers, **(headers or {})}
        })

    def ask(self, *arguments, **options):
        said = self.host.check_output(
            f"python3 -c {_quote(CLIENT)} <<'REQUEST'\n{self.request(*arguments, **options)}\nREQUEST")
        answer = Answer(*json.loads(said))
        self.set_cookies += answer.header("set-cookie")
        self.cookies.update(cookie.split(";")[0].split("=", 1) for cookie in answer.header("set-cookie"))
        return answer


@pytest.fixture(scope="module")
def url(setting):
    return setting("airflow_api_base_url")


@pytest.fixture(scope="module")
def name(url):
    return url.removeprefix("https://")


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture
def browser(host, name):
    return Browser(host, name)


def s_client(host, *options):
    return host.run(f"openssl s_client -connect 127.0.0.1:443 {' '.join(options)} </dev/null").stdout_bytes.decode(
        errors="replace")


def test_the_site_has_a_server_of_its_own_beside_ours(host):
    """The scenario has a template of its own, which includes the role's."""
    ask = "import urllib.request as r; q = r.Request('http://127.0.0.1/', headers={'Host': 'status.example.com'})"
    said = host.check_output("python3 -c %s", f"{ask}; print(r.urlopen(q).read().decode(), end='')")
    assert said == "own server"


@pytest.mark.parametrize(
    ("asked", "port"), [("airflow.example.com", 80), ("other.example.com", 80), ("other.example.com", 443)]
)
def test_http_and_other_names_lead_to_https_and_the_one_name(browser, url, asked, port):
    answer = browser.ask("/dags?x=1", port=port, name=asked)
    assert (answer.status, answer.header("location")) == (301, [f"{url}/dags?x=1"])
    assert answer.header("server") == ["nginx"], "it tells its version"


def test_browsers_are_told_to_come_by_https_only(browser, setting):
    for path in ("/", "/no-such-page", "/api/v2/dags"):
        assert browser.ask(path).header("strict-transport-security") == [
            f"max-age={setting('reverse_proxy_hsts_seconds')}"
        ]


def names(name):
    return x509.SubjectAlternativeName([x509.DNSName(name)])


def certificate_in(text):
    """The first one."""
    return x509.load_pem_x509_certificate(re.search(r"-----BEGIN CERT.*?-----END[^\n]*", text, re.DOTALL)[0].encode())


def test_the_certificate_is_for_the_name_and_its_key_is_roots(host, name):
    shown = certificate_in(s_client(host, "-servername", name))
    assert shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == names(name)
    assert (host.file(PEM).user, host.file(PEM).group, host.file(PEM).mode) == ("root", "root", 0o600)


@pytest.mark.parametrize(("protocol", "good"), [("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_old_tls_is_refused(host, protocol, good):
    # The client itself would speak what the system's policy forbids.
    said = s_client(host, f"-{protocol}", "-cipher", "ALL:@SECLEVEL=0")
    assert bool(re.search(r"Cipher is (?!\(NONE\))", said)) is good, said


def test_http2_is_spoken(host):
    assert "ALPN protocol: h2" in s_client(host, "-alpn", "h2")


def test_only_nginx_is_reached_from_outside(host, setting):
    listening = {tuple(line.split()[3].rsplit(":", 1)) for line in host.check_output("ss -Htln").splitlines()}
    # The way in of the one who installs is none of the proxy's.
    assert {port for address, port in listening if not address.startswith(("127.", "[::1]"))} - {"22"} == {"80", "443"}
    assert [address for address, port in listening if port == str(setting("airflow_api_port"))] == ["127.0.0.1"]


@pytest.mark.parametrize("headers", [{}, LIES], ids=["plain", "forged headers"])
def test_signing_in_gives_secure_cookies_and_leads_to_the_outside_name(host, api, name, url, major, headers):
    browser = Browser(host, name, headers)
    needs_user, form = ("/api/v2/auth/login?next=/dags", "/auth/login/") if major == 3 else ("/home", "/login/")
    sent_away = browser.ask(needs_user)
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', browser.ask(form).body)[1]
    signed_in = browser.ask(form, f"csrf_token={token}&username={api.user}&password={password(api)}",
                            headers={"Content-Type": "application/x-www-form-urlencoded", "Referer": url + form})
    assert signed_in.status == 302
    for location in sent_away.header("location") + signed_in.header("location"):
        assert re.match(rf"{re.escape(url)}/|/(?!/|evil)", location), location
    assert {cookie.split("=")[0]
            for cookie in browser.set_cookies} >= ({"session", "_token"} if major == 3 else {"session"})
    assert [cookie for cookie in browser.set_cookies if "; secure" not in cookie.lower()] == []
    assert browser.ask("/api/v2/dags" if major == 3 else "/home").status == 200


@pytest.mark.major(3)
def test_airflow_knows_the_clients_address_from_nginx_alone(host, browser):
    marker = f"/no-such-page-{time.monotonic_ns()}"
    browser.ask(marker, headers=LIES)
    logged = host.check_output(
        f"for i in 1 2 3 4 5; do journalctl -t airflow-api-server -o cat --since -1min | grep {marker} && break; sleep "
        "1; done"
    )
    assert host.check_output("hostname -I").split()[0] in logged and "192.0.2.66" not in logged


def test_a_query_is_not_logged(host, browser):
    marker = f"code-{time.monotonic_ns()}"
    for port in (80, 443):
        browser.ask(f"/page-{marker}?code=secret-{marker}", port=port)
    assert len(host.check_output(f"grep -h page-{marker} /var/log/nginx/access.log").splitlines()) == 2
    assert host.run(f"grep -r secret-{marker} /var/log/nginx").stdout == ""


def password(api):
    return api.password or api.host.check_output(f"cat {api.config_dir}/secrets/admin_password")


def credentials(browser, api, major):
    """Headers with which the REST API knows the administrator."""
    if major == 2:
        return {"Authorization": "Basic " + base64.b64encode(f"{api.user}:{password(api)}".encode()).decode()}
    answer = browser.ask("/auth/token", json.dumps({"username": api.user, "password": password(api)}), headers=JSON)
    return {"Authorization": "Bearer " + json.loads(answer.body)["access_token"]}


def test_rest_api_takes_a_large_request_and_no_larger_one(browser, setting, api, major):
    headers = credentials(browser, api, major)
    variables = f"/api/v{major - 1}/variables"
    # Airflow 2 itself takes no more than [webserver] allowed_payload_size, a megabyte.
    sizes = (2_000_000 if major == 3 else 900_000), (setting("reverse_proxy_max_body_mb") << 20) + 1
    large, too_large = (browser.ask(variables,
                                    '{"key": "proxy", "value": "PAD"}',
                                    headers={**headers, **JSON},
                                    pad=size) for size in sizes)
    assert large.status in (200, 201), large.body
    assert too_large.status == 413
    assert browser.ask(f"{variables}/proxy", method="DELETE", headers=headers).status == 204


@pytest.mark.major(3)
def test_a_log_is_streamed(browser, api, major):
    run = api.start_run("example_dag")
    assert api.wait("example_dag", run) == "success"
    path = f"/api/v2/dags/example_dag/dagRuns/{run.replace('+', '%2B')}/taskInstances/print_hello/logs/1"
    answer = browser.ask(path, headers={**credentials(browser, api, major), "Accept": "application/x-ndjson"})
    assert answer.header("content-type") == ["application/x-ndjson"]
    assert "hello" in answer.body.lower() and all(json.loads(line) for line in answer.body.splitlines())


@pytest.mark.major(3)
def test_a_stream_comes_line_by_line_and_outlives_a_reload(host, browser, api, major):
    """Airflow tells the state of a run every half second, and the run of a paused DAG waits."""
    run = api.start_run("tutorial")
    api.ask("PATCH", "/dags/tutorial", {"is_paused": True})
    status, run = api.ask("POST", "/dags/tutorial/dagRuns", {"logical_date": None})
    assert status in (200, 201), run
    path = f"/dags/tutorial/dagRuns/{run['dag_run_id'].replace('+', '%2B')}"
    request = browser.request(f"/api/v2{path}/wait?interval=0.5", headers=credentials(browser, api, major))
    host.check_output(f"(python3 -c {_quote(CLIENT)} lines >/tmp/stream 2>&1 <<'REQUEST' &\n{request}\nREQUEST\n)")

    def lines():
        return [json.loads(line) for line in host.check_output("cat /tmp/stream").splitlines()]

    time.sleep(4)
    before = lines()
    assert len(before) >= 3 and before[-1][0] - before[0][0] > 1, "lines were held back"
    host.check_output("systemctl reload nginx")
    time.sleep(4)
    assert len(lines()) >= len(before) + 3, "the reload ended the stream"
    status, body = api.ask("PATCH", path, {"state": "success"})
    assert status == 200, body
    time.sleep(2)
    assert json.loads(lines()[-1][1])["state"] == "success"


# ---- the role, run again ---------------------------------------------------------------------------------------------


def pair(name, days):
    """A certificate that ends so many days from now, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(names(name), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def fingerprint(text):
    return certificate_in(text).fingerprint(hashes.SHA256())


def served(host, name):
    return fingerprint(s_client(host, "-servername", name))


# Each run of the role takes ten seconds and more, so an ordinary run has the harder of two cases, and "proxy", which is
# a long part, the other one.
@pytest.mark.parametrize("reload", [
    pytest.param("echo nonsense >/etc/nginx/conf.d/z.conf; ! systemctl reload nginx; rm "
                 "/etc/nginx/conf.d/z.conf", id="failed"),
    pytest.param("true", id="killed", marks=pytest.mark.long("proxy")),
])
def test_a_run_whose_reload_was_killed_or_failed_is_made_good(host, reload):
    host.check_output(f"touch {CONFIG}; {reload}")
    processes = "pgrep --parent $(systemctl show nginx.service --property MainPID --value)"
    before = host.check_output(processes).split()
    done = play("proxy")
    assert not done.failed and done.changed == 1, done.output
    assert not set(before) & set(host.check_output(processes).split())


@pytest.mark.parametrize("days", [29, pytest.param(-1, marks=pytest.mark.long("proxy"))])
def test_a_self_signed_certificate_is_replaced_before_and_after_its_end(host, name, days):
    certificate, key = pair(name, days)
    host.check_output(f"cat >{PEM} <<'PEM'\n{key}{certificate}PEM\nsystemctl reload nginx")
    done = play("proxy")
    assert not done.failed and done.changed == 2, done.output
    assert served(host, name) == fingerprint(host.check_output(f"cat {PEM}")) != fingerprint(certificate)
    assert host.check_output(f"openssl x509 -checkend {800 * 86400} -in {PEM}") == "Certificate will not expire"


def test_a_pair_that_does_not_fit_is_refused_before_anything_changes(host, name):
    before = served(host, name), host.file(CONFIG).content
    certificate, key = pair(name, 90)[0], pair(name, 90)[1]
    host.check_output(f"cat >/tmp/other.pem <<'PEM'\n{''.join(pair('other.example.com', 90))}PEM")
    done = play("proxy", "-vvv", reverse_proxy_tls_certificate=certificate, reverse_proxy_tls_key=key)
    assert done.failed and done.changed == 0 and "mismatch" in done.output
    assert key.splitlines()[1] not in done.output
    done = play("proxy", reverse_proxy_tls_certificate="/tmp/other.pem", reverse_proxy_tls_key="/tmp/other.pem")
    assert done.failed and done.changed == 0 and f"not valid for '{name}'" in done.output
    assert (served(host, name), host.file(CONFIG).content) == before


def test_a_configuration_that_nginx_refuses_is_not_put_in_place(host, browser):
    before = host.file(CONFIG).content
    host.check_output("echo nonsense >/etc/nginx/conf.d/z.conf")
    done = play("proxy", reverse_proxy_timeout=77)
    host.check_output("rm /etc/nginx/conf.d/z.conf")
    assert done.failed and re.search(rf"{CONFIG}\s+was\s+left\s+as\s+it\s+is.*z\.conf", done.output,
                                     re.DOTALL), done.output
    assert host.file(CONFIG).content == before
    assert host.service("nginx").is_running and browser.ask("/").status < 400


@pytest.fixture(scope="module")
def other_upstream(host, name):
    """Another server behind nginx, with the site's own certificate before it: (the run, certificate, key)."""
    certificate, key = pair(name, 90)
    host.check_output(f"systemd-run --quiet --collect --unit websocket python3 -c {_quote(WEBSOCKET)}")
    yield play("proxy",
               "-vvv",
               "--diff",
               reverse_proxy_upstream="127.0.0.1:18080",
               reverse_proxy_tls_certificate=certificate,
               reverse_proxy_tls_key=key), certificate, key
    host.check_output("systemctl stop websocket")
    assert not play("proxy").failed


def test_a_websocket_is_opened_and_goes_both_ways(host, name, other_upstream):
    assert not other_upstream[0].failed, other_upstream[0].output
    said = host.run(f"python3 -c {_quote(ASK_WEBSOCKET)} {name}")
    assert said.stdout.splitlines() == ["HTTP/1.1 101 Switching Protocols", "there and back"], said.stderr


def test_the_sites_own_certificate_is_served_and_its_key_is_shown_nowhere(host, name, other_upstream):
    done, certificate, key = other_upstream
    assert not done.failed, done.output
    assert key.splitlines()[1] not in done.output
    assert served(host, name) == fingerprint(certificate)
    assert host.file(PEM).mode == 0o600


# ---- ACME ------------------------------------------------------------------------------------------------------------

PEBBLE = {
    "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "httpPort": 80, "tlsPort": 443,
    "certificate": "/usr/local/share/ca-certificates/pebble.crt", "privateKey": "/tmp/pebble.key"
}


@pytest.fixture
def acme(host, name):
    """Address of an ACME server for tests, on the host itself, which trusts it. For it the name is that of this host.
    """
    host.check_output(f"""set -e
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q pebble
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost \
            -keyout {PEBBLE["privateKey"]} -out {PEBBLE["certificate"]}
        update-ca-certificates
        grep -q {name} /etc/hosts || echo 127.0.0.1 {name} >>/etc/hosts
        echo '{json.dumps({"pebble": PEBBLE})}' >/tmp/pebble.json
        systemd-run --unit pebble --setenv PEBBLE_VA_NOSLEEP=1 --setenv PEBBLE_WFE_NONCEREJECT=0 \\
            pebble -config /tmp/pebble.json"""
                      )
    yield "https://localhost:14000/dir"
    # It forgets its accounts, so certbot does too. Then the host is as the scenario says again.
    host.check_output("systemctl stop pebble; rm -rf /etc/letsencrypt")
    assert not play("proxy").failed


@pytest.mark.long("proxy")
def test_a_certificate_of_an_acme_server_is_put_in_place_and_renewed_by_its_client(host, name, acme):
    variables = {"reverse_proxy_acme_email": "ops@example.com", "reverse_proxy_acme_server": acme}

    def issued():
        assert "Pebble Intermediate CA" in host.check_output(f"openssl x509 -noout -issuer -in {PEM}") and host.file(
            PEM).mode == 0o600
        assert served(host, name) == fingerprint(host.check_output(f"cat {PEM}"))
        return served(host, name)

    done = play("proxy", **variables)
    assert not done.failed, done.output
    first = issued()
    assert play("proxy", **variables).changed == 0
    # A run that was killed after it had got the certificate.
    host.check_output(f"cat >{PEM} <<'PEM'\n{''.join(pair(name, 90))}PEM")
    assert not play("proxy", **variables).failed and issued() == first
    # What certbot's timer does, some months later.
    assert host.service("certbot.timer").is_running
    host.check_output("certbot renew --force-renewal --no-random-sleep-on-renew")
    # It has reloaded nginx, which may still be at it.
    time.sleep(2)
    assert issued() != first
