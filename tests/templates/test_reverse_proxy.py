"""Files of role reverse_proxy, rendered by Ansible's own engine without a host, and read by those who will read them."""

import datetime
import hashlib
import os
import pathlib
import pwd
import re
import subprocess

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/reverse_proxy"


def render(name, system="Debian-13", ipv6=True, **given):
    """As the template module does it: a line with nothing but a tag is none."""
    loader, merged = DataLoader(), {}
    for path in ("defaults/main.yml", "vars/main.yml", "vars/Debian.yml"):
        merged |= loader.load_from_file(str(ROLE / path), trusted_as_template=True)
    distribution, major = system.split("-")
    merged |= {
        "ansible_managed": "Managed by Ansible", "ansible_facts": {"distribution": distribution, "distribution_major_version": major},
        "__reverse_proxy_probe": {"stdout_lines": ["ipv6"] if ipv6 else []}, "reverse_proxy_url": "https://airflow.example.com",
    }
    text = "#jinja2: trim_blocks: True\n" + (ROLE / "templates" / name).read_text(encoding="utf-8")
    return Templar(loader=loader, variables=merged | given).template(trust_as_template(text), escape_backslashes=False)


def directives(name, **given):
    """Values of one directive of nginx's configuration, in their order."""
    return re.findall(rf"^\s*{name} (.*);$", render("airflow.conf.j2", **given), re.M)


def test_it_listens_on_all_addresses_that_the_host_has():
    assert directives("listen") == ["0.0.0.0:80 default_server", "[::]:80 default_server", "0.0.0.0:443 ssl default_server", "[::]:443 ssl default_server"]
    assert directives("listen", ipv6=False) == ["0.0.0.0:80 default_server", "0.0.0.0:443 ssl default_server"]


def test_it_listens_where_it_is_told():
    listen = directives("listen", reverse_proxy_listen_addresses=["10.0.0.5", "fd00::5"], reverse_proxy_http_port=8000, reverse_proxy_https_port=8443)
    assert listen == ["10.0.0.5:8000 default_server", "[fd00::5]:8000 default_server", "10.0.0.5:8443 ssl default_server", "[fd00::5]:8443 ssl default_server"]


@pytest.mark.parametrize(("system", "option"), [("Debian-12", True), ("Ubuntu-24", True), ("Debian-13", False), ("Amazon-2023", False)])
def test_http2_is_turned_on_as_this_nginx_knows_it(system, option):
    assert [" http2 " in line for line in directives("listen", system=system) if " ssl " in line] == [option] * 2
    assert directives("http2", system=system) == ([] if option else ["on"])


def test_everything_leads_to_the_one_name_with_its_port():
    given = {"reverse_proxy_url": "https://airflow.example.com:8443"}
    assert directives("return", **given) == ["301 https://airflow.example.com:8443$request_uri"] * 2
    assert directives("server_name", **given) == ["airflow.example.com"]
    assert "Host airflow.example.com:8443" in directives("proxy_set_header", **given)


def test_answers_are_collected_only_for_a_server_that_does_not_stream():
    assert directives("proxy_buffering") == ["on"]
    assert directives("proxy_buffering", reverse_proxy_buffering=False) == ["off"]


def test_a_certificate_of_the_site_is_read_where_it_is_and_text_is_written():
    files = {"reverse_proxy_tls_certificate": "/etc/ssl/a.pem", "reverse_proxy_tls_key": "/etc/ssl/a.key"}
    assert directives("ssl_certificate", **files) == ["/etc/ssl/a.pem"] and directives("ssl_certificate_key", **files) == ["/etc/ssl/a.key"]
    text = {"reverse_proxy_tls_certificate": "-----BEGIN CERTIFICATE-----", "reverse_proxy_tls_key": "-----BEGIN ..."}
    assert directives("ssl_certificate", **text) == directives("ssl_certificate_key", **text) == ["/etc/nginx/airflow.pem"]


def test_only_with_acme_does_port_80_serve_a_file():
    assert directives("root") == []
    assert directives("root", reverse_proxy_acme_email="ops@example.com") == ["/var/www/acme"]


# ---- certificates -----------------------------------------------------------------------------------------------------------------


def certificate(name="airflow.example.com", days=90, authority=None):
    """A certificate, its key, and what is needed to sign others with it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    issuer, signer = authority or (subject, key)
    end = now + datetime.timedelta(days=days)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - datetime.timedelta(days=1)).not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"certificate": made.public_bytes(serialization.Encoding.PEM).decode(), "key": private.decode()}


AUTHORITY = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]), ec.generate_private_key(ec.SECP256R1()))


def check_certificate(certificate, key, name):
    """Run what the task runs on a host."""
    tasks = DataLoader().load_from_file(str(ROLE / "tasks/validate.yml"), trusted_as_template=True)
    asked = next(task["windsock.airflow.probe"] for task in tasks if "check_certificate.py" in str(task))
    variables = {"ansible_search_path": [str(ROLE)], "reverse_proxy_tls_certificate": certificate}
    variables |= {"reverse_proxy_tls_key": key, "__reverse_proxy_name": name}
    asked = Templar(loader=DataLoader(), variables=variables).template(asked)
    # A list of processes shows the arguments to every user of the host.
    assert asked["argv"] == ["/usr/bin/python3", "-"]
    return subprocess.run(asked["argv"], input=asked["stdin"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("change", "told"), [
    ({}, ""), (certificate(authority=AUTHORITY), ""), ({"name": "other.example.com"}, "not valid for 'other.example.com'"),
    (certificate(days=-1), "has expired"), ({"key": certificate()["key"]}, "mismatch"), ({"certificate": "-----BEGIN nonsense"}, "PEM"),
    ({"certificate": "-----BEGIN \U0001f512 \"'\\"}, "PEM"),
])
@pytest.mark.parametrize("as_files", [True, False])
def test_a_pair_that_browsers_would_refuse(tmp_path, change, told, as_files):
    given = {**certificate(), "name": "airflow.example.com", **change}
    if as_files:
        for name in ("certificate", "key"):
            (tmp_path / name).write_text(given[name], encoding="utf-8")
            given[name] = str(tmp_path / name)
    done = check_certificate(**given)
    assert done.returncode == (1 if told else 0), done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_certificate_file_that_is_not_there():
    done = check_certificate("/no/such.pem", "/no/such.key", "airflow.example.com")
    assert done.returncode == 1 and "No such file" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def pem(tmp_path):
    """A self-signed certificate as the role makes it."""
    subprocess.run(["sh", "-s"], input=render("self_signed.sh.j2", __reverse_proxy_pem=str(tmp_path / "airflow.pem")), text=True, check=True)
    return tmp_path / "airflow.pem"


def well(pem, **given):
    """Whether the role would keep the certificate."""
    script = render("probe.sh.j2", __reverse_proxy_pem=str(pem), **given).replace("600 root", "600 " + pwd.getpwuid(os.getuid()).pw_name)
    return "certificate ok" in subprocess.run(["sh", "-s"], input=script, text=True, check=True, capture_output=True).stdout.splitlines()


def test_a_self_signed_certificate_is_for_the_name_and_only_its_owner_reads_the_key(pem):
    made = x509.load_pem_x509_certificate(pem.read_bytes())
    assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == ["airflow.example.com"]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert pem.stat().st_mode & 0o777 == 0o600 and os.listdir(pem.parent) == ["airflow.pem"]


def test_a_self_signed_certificate_is_kept_while_it_is_good(pem):
    assert well(pem)
    assert not well(pem, reverse_proxy_url="https://other.example.com"), "another name"
    assert not well(pem, __reverse_proxy_renew_days=826), "it ends within the time"
    assert not well(pem.with_name("none")), "there is none"
    pem.chmod(0o644)
    assert not well(pem), "others could read the key"


def test_a_certificate_with_the_key_of_another_is_not_kept(pem):
    pem.write_text(certificate()["key"] + certificate()["certificate"], encoding="utf-8")
    assert not well(pem)


def test_a_self_signed_certificate_for_an_address(pem):
    given = {"reverse_proxy_url": "https://192.0.2.10", "__reverse_proxy_pem": str(pem)}
    subprocess.run(["sh", "-s"], input=render("self_signed.sh.j2", **given), text=True, check=True)
    given.pop("__reverse_proxy_pem")
    assert well(pem, **given) and not well(pem)


@pytest.mark.parametrize(("place", "text", "foreign"), [
    ("link", "welcome", False), ("link", "a site", True), ("file", "welcome", True), ("other link", "welcome", True), ("", "welcome", False),
    ("dangling link", "", False),
])
def test_only_the_welcome_page_of_the_package_is_removed(tmp_path, place, text, foreign):
    """Whoever edits the page of the package, or puts a site there, loses it otherwise."""
    enabled, available = tmp_path / "sites-enabled/default", tmp_path / "sites-available/default"
    for path in (enabled, available, tmp_path / "bin/dpkg-query"):
        path.parent.mkdir()
    if text:
        available.write_text(text, encoding="utf-8")
    (tmp_path / "sites-available/shop").write_text("welcome", encoding="utf-8")
    if place == "file":
        enabled.write_text(text, encoding="utf-8")
    elif place:
        enabled.symlink_to("../sites-available/" + ("shop" if place == "other link" else "default"))
    query = tmp_path / "bin/dpkg-query"
    query.write_text(f"#!/bin/sh\necho ' {available} {hashlib.md5(b'welcome').hexdigest()}'\n", encoding="utf-8")
    query.chmod(0o755)
    script = render("probe.sh.j2", __reverse_proxy_default_site=str(enabled))
    said = subprocess.run(["sh", "-c", script], env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}, capture_output=True, text=True, check=False).stdout
    assert ("default foreign" in said.splitlines()) is foreign


@pytest.mark.parametrize(("text", "foreign"), [("server { listen 80; }\n", True), (None, False), ("ours", False)])
def test_a_site_of_somebody_else_is_told_from_ours(tmp_path, text, foreign):
    """A hand-made proxy of Airflow may have a file of this name, which would be replaced without a copy."""
    config = tmp_path / "airflow.conf"
    if text:
        config.write_text(render("airflow.conf.j2") if text == "ours" else text, encoding="utf-8")
    script = render("probe.sh.j2", __reverse_proxy_config=str(config), __reverse_proxy_default_site="")
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False).stdout
    assert ("site foreign" in said.splitlines()) is foreign
