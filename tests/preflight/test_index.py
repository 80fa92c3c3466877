"""The package index is asked before anything is changed, and the message names the variable to correct."""

import base64
import contextlib
import datetime
import http.server
import ipaddress
import ssl
import threading

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Site
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import airflow, host
from ansible_collections.windsock.airflow.plugins.modules import validate as module
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ports import free_port

pytestmark = pytest.mark.playbook

SITE = Site(where=lambda name: "f")
FILE = "group_vars/all/main.yml:"


class Index(http.server.BaseHTTPRequestHandler):
    """A page for uv, for who signs in where `login` is set."""

    login = ""

    def do_GET(self):
        wanted = "Basic " + base64.b64encode(self.login.encode()).decode() if self.login else None
        status = 404 if self.path != "/simple/uv/" else 401 if wanted and self.headers[
            "Authorization"] != wanted else 200
        self.send_response(status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def certificate(directory):
    """A certificate that has signed itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "index")])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256()))
    pem = directory / "ca.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return pem, directory / "key.pem"


@contextlib.contextmanager
def served(directory=None, login=""):
    """(address, certificate) of an index; with TLS where there is a directory for its key."""
    pem = None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("WithLogin", (Index,), {"login": login}))
    if directory:
        context, (pem, key) = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate(directory)
        context.load_cert_chain(pem, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if directory else 'http'}://127.0.0.1:{server.server_port}/simple", pem
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)


def kind(url, page="uv", bundle=""):
    return module.index_problem(url, page, bundle, 5).get("kind", "")


def test_an_index_that_answers():
    with served() as (url, _pem):
        assert kind(url) == kind(url + "/") == ""
        assert module.index_problem(url, "pip", "", 5) == {"kind": "status", "said": "404 Not Found"}


def test_an_index_that_wants_a_login(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with served(login="me:p@ss") as (url, _pem):
        assert module.index_problem(url, "uv", "", 5) == {"kind": "status", "said": "401 Unauthorized"}
        assert kind(url.replace("://", "://me:p%40ss@")) == ""
        assert kind(url.replace("://", "://me:other@")) == "status"
        # The installer reads it, and this does not.
        (tmp_path / "netrc").write_text("")
        assert kind(url) == ""
        assert kind(url.replace("://", "://me:other@")) == "status"


def test_an_index_behind_a_private_authority(tmp_path):
    with served(tmp_path) as (url, pem):
        assert kind(url, bundle=pem.read_text()) == ""
        assert kind(url) == "trust"
        # The bundles of Fedora and Red Hat have names such as this one in their comments.
        assert kind(url, bundle="# F\u0151tan\u00fas\u00edtv\u00e1ny\n" + pem.read_text() + "# \u00e9nd\n") == ""
        assert kind(url, bundle="no certificate") == kind(url, bundle="k\u00e9in Zertifikat") == "bundle"
        assert kind(url.replace("127.0.0.1", "localhost"), bundle=pem.read_text()) == "name"


def test_a_host_that_trusts_nobody_yet(tmp_path, monkeypatch):
    nothing = ssl.DefaultVerifyPaths(None, None, "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    with served(tmp_path) as (url, _pem):
        assert kind(url) == ""


def test_an_index_that_is_not_there():
    assert kind("http://127.0.0.1:{0}/simple".format(free_port())) == "reach"
    assert kind("http://no-such-index.invalid/simple") == "reach"


def test_it_is_asked_only_where_a_virtualenv_is_built(tmp_path, monkeypatch):
    probe = {
        "built": str(tmp_path / "venvs/3.3.2-py*/release.json"), "page": "uv", "bundle": "", "timeout": 5, "given": True
    }
    url = "http://127.0.0.1:{0}/simple".format(free_port())
    assert module.ask_index(url, probe)["kind"] == "reach"
    assert module.ask_index("", {}) == {}
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://other")
    assert module.ask_index(url, probe) and not module.ask_index(url, {**probe, "given": False})
    (tmp_path / "venvs/3.3.2-py3.11-1").mkdir(parents=True)
    assert module.ask_index(url, probe)
    (tmp_path / "venvs/3.3.2-py3.11-1/release.json").write_text("")
    assert module.ask_index(url, probe) == {}


@pytest.mark.parametrize(
    ("values", "said", "told"),
    [
        (
            {},
            {"kind": "reach", "said": "timed out"},
            "airflow_index_url (f): the host cannot reach the package index https://pypi.org/simple within 10 s",
        ),
        (
            {"airflow_index_url": "https://me:horse@i/simple"},
            {"kind": "status", "said": "401 No"},
            "airflow_index_url (f): the package index https://i/simple answers",
        ),
        (
            {},
            {"kind": "trust", "said": "self-signed"},
            "airflow_ca_bundle (f): the host does not trust the certificate of https://pypi.org/simple: self-signed. "
            "Set "
            "airflow_ca_bundle to the authority's PEM",
        ),
        (
            {},
            {"kind": "name", "said": "Hostname mismatch"},
            "airflow_index_url (f): the certificate of the package index https://pypi.org/simple is for another",
        ),
        (
            {"airflow_ca_bundle": "/x.pem"},
            {"kind": "bundle", "said": "no start line"},
            "airflow_ca_bundle (f): /x.pem holds no certificates",
        ),
    ],
)
def test_messages(values, said, told):
    values = {
        "airflow_index_url": "", "airflow_ca_bundle": "", "airflow_installer": "uv", "preflight_index_timeout": 10,
        **values
    }
    variable, text = host.index_text(values, SITE, said)
    assert text.startswith(told) and text.startswith(variable) and "horse" not in text


@pytest.mark.parametrize(("url", "good"), [
    ("https://pypi.example.com/simple", True),
    ("https://me:horse@pypi.example.com:8443/simple/", True), ("file:///srv/simple", True),
    ("http://[::1]/simple", True),
    ("pypi.example.com/simple", False), ("me:horse@pypi.example.com/simple", False),
    ("htps://me:horse@pypi.example.com", False), ("https:///simple", False),
])
def test_addresses(url, good):
    found = airflow.check_packages({"airflow_index_url": url}, SITE)
    texts = [text for name, text in found if name == "airflow_index_url"]
    assert len(texts) == (not good)
    assert "horse" not in " ".join(texts)


def test_a_run_against_an_index_that_fails(site, tmp_path):
    with served(tmp_path, login="me:horse-battery") as (url, pem):
        wrong = url.replace("://", "://me:horse-batter@")
        run = site.run("-vvv", airflow_wheel_dir="", airflow_index_url=wrong)
        run.refuses("airflow_ca_bundle", "set it in", "does not trust the certificate of {0}: ".format(url))
        assert "horse-batter" not in run.output
        run = site.run(airflow_wheel_dir="", airflow_index_url=wrong, airflow_ca_bundle=str(pem))
        run.refuses("airflow_index_url", FILE, "the package index {0} answers 401".format(url))
        run = site.run(airflow_wheel_dir="",
                       airflow_index_url=url.replace("://", "://me:horse-battery@"),
                       airflow_ca_bundle=str(pem))
        assert run.code == 0, run.output
