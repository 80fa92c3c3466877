"""The proxy with TLS in front of the API server."""

from __future__ import annotations

import json
import re

RANGES = {
    "reverse_proxy_http_port": (1, 65535),
    "reverse_proxy_https_port": (1, 65535),
    "reverse_proxy_hsts_seconds": (0, 1000000000),
    "reverse_proxy_max_body_mb": (1, 100000),
    "reverse_proxy_timeout": (1, 86400),
}
EXCLUSIVE = [("reverse_proxy_tls_certificate", "reverse_proxy_acme_email")]


def check_proxy(values, site):
    """What a host in group airflow_proxy needs."""
    url, address = values.get("airflow_api_base_url"), values.get("airflow_api_host")
    if url is not None and not re.fullmatch(r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?", url):
        yield "airflow_api_base_url", (
            "airflow_api_base_url ({0}): is {1}, but the host is in group airflow_proxy, which puts TLS in front of the API server. Valid is https:// and "
            "the host name that browsers use, in lower case and without a path, such as https://airflow.example.com."
        ).format(site.where("airflow_api_base_url"), json.dumps(url))
    if address is not None and address != "127.0.0.1":
        yield "airflow_api_host", (
            "airflow_api_host ({0}): is {1}, but the host is in group airflow_proxy, whose nginx is the only way to the API server. Valid is 127.0.0.1, "
            "the default; reverse_proxy_listen_addresses says where nginx listens."
        ).format(site.where("airflow_api_host"), json.dumps(address))


CHECKS = (check_proxy,)
