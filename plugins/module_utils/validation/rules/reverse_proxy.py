"""The proxy with TLS in front of the API server."""

from __future__ import annotations

import json
import re

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    check_patterns,
    check_ranges,
)

RANGES = {
    "reverse_proxy_http_port": (1, 65535),
    "reverse_proxy_https_port": (1, 65535),
    "reverse_proxy_hsts_seconds": (0, 1000000000),
    "reverse_proxy_max_body_mb": (1, 100000),
    "reverse_proxy_timeout": (1, 86400),
}
URL = r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?"
ROLE_PATTERNS = {
    "reverse_proxy_url": (URL, "valid is https:// and a host name in lower case, such as https://airflow.example.com."),
    "reverse_proxy_upstream": ("[A-Za-z0-9.-]+:[0-9]+", "valid is host:port, such as 127.0.0.1:8080."),
}
FILES = ["reverse_proxy_template"]
EXCLUSIVE = [("reverse_proxy_tls_certificate", "reverse_proxy_acme_email")]


def check_proxy(values: Values, site: Site) -> Problems:
    """What a host in group airflow_proxy needs."""
    url, address = values.get("airflow_api_base_url"), values.get("airflow_api_host")
    if url is not None and not re.fullmatch(URL, url):
        yield "airflow_api_base_url", (
            "is {0}, but the host is in group airflow_proxy, which puts TLS in front of the API server. Valid is "
            "https:// and "
            "the host name that browsers use, in lower case and without a path, such as https://airflow.example.com."
        ).format(json.dumps(url))
    if address is not None and address != "127.0.0.1":
        yield "airflow_api_host", (
            "is {0}, but the host is in group airflow_proxy, whose nginx is the only way to the API server. Valid is "
            "127.0.0.1, "
            "the default; reverse_proxy_listen_addresses says where nginx listens.").format(json.dumps(address))


CHECKS = (check_proxy,)


def check_role(values: Values, site: Site) -> Problems:
    yield from check_patterns(values, ROLE_PATTERNS)
    yield from check_ranges(values, RANGES)
    if values["reverse_proxy_http_port"] == values["reverse_proxy_https_port"]:
        yield "reverse_proxy_http_port", ("reverse_proxy_http_port and reverse_proxy_https_port are both {0}; valid "
                                          "are two different ports.").format(
            values["reverse_proxy_http_port"])
    certificate, key = values["reverse_proxy_tls_certificate"], values["reverse_proxy_tls_key"]
    # A path, a text, or neither.
    forms = {
        next((mark for mark in ("/", "-----BEGIN ") if text.strip().startswith(mark)), "")
        for text in (certificate, key)
    }
    if len(forms) > 1 or (forms == {""} and certificate + key):
        yield "reverse_proxy_tls_certificate", (
            "reverse_proxy_tls_certificate and reverse_proxy_tls_key go together; valid are two absolute paths on the "
            "host, two PEM texts, or neither."
        )
    if values["reverse_proxy_acme_email"] and values["__reverse_proxy_name_is_ip"]:
        yield "reverse_proxy_acme_email", (
            "reverse_proxy_acme_email is set, but reverse_proxy_url has the address {0}; valid with ACME is a host "
            "name."
        ).format(values["__reverse_proxy_name"])
