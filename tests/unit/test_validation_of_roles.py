"""Rules of roles that may be used alone, on plain mappings of variables."""

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.windsock.airflow.plugins.module_utils.validation import owners
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Site
from ansible_collections.windsock.airflow.plugins.plugin_utils.collection import path

SITE = Site(where=lambda name: "", is_file=lambda name: name.startswith("/there"))
CHECKSUM = "0123456789abcdef" * 4
# What the roles work out from variables, of a good site.
DERIVED = {
    "logrotate": {"logrotate_components": ["scheduler"]},
    "reverse_proxy": {
        "reverse_proxy_url": "https://airflow.example.com", "__reverse_proxy_name": "airflow.example.com",
        "__reverse_proxy_name_is_ip": False
    },
    "cloudwatch_agent": {
        "__cloudwatch_agent_source": "repository", "__cloudwatch_agent_package_format": "deb",
        "__cloudwatch_agent_url": "https://x/1.3/agent.deb", "__cloudwatch_agent_built": {"metrics": {}},
        "cloudwatch_agent_log_source": "none"
    },
}


def told(role, **given):
    defaults = DataLoader().load_from_file(path("roles", role, "defaults/main.yml"))
    return [text for _name, text in owners.BY_ROLE[role]({**defaults, **DERIVED[role], **given}, SITE)]


@pytest.mark.parametrize("role", DERIVED)
def test_defaults_are_good(role):
    assert told(role) == []


@pytest.mark.parametrize(("role", "given", "words"), [
    ("logrotate", {"logrotate_directory": "/logs"},
     'logrotate_directory is "/logs"; valid is an absolute path of two levels'),
    ("logrotate", {"logrotate_directory": ""}, 'logrotate_directory is ""'),
    ("logrotate", {"logrotate_components": ["Scheduler"]}, "logrotate_components is ['Scheduler']; valid are names"),
    ("logrotate", {"logrotate_rotate": 0}, "logrotate_rotate is 0; valid is 1 or more."),
    ("logrotate", {"logrotate_rotate": "many"}, "logrotate_rotate is many; valid is 1 or more."),
    ("logrotate", {"logrotate_task_log_max_age_days": -1}, "valid is 0 (no limit) or more."),
    ("logrotate", {"logrotate_task_log_min_free_percent": 91}, "valid is 0 (off) to 90."),
    ("reverse_proxy", {"reverse_proxy_url": "http://airflow.example.com"},
     "valid is https:// and a host name in lower case"),
    ("reverse_proxy", {"reverse_proxy_url": ""}, 'reverse_proxy_url is "";'),
    ("reverse_proxy", {"reverse_proxy_upstream": "8080"}, "valid is host:port"),
    ("reverse_proxy", {"reverse_proxy_http_port": 443}, "are both 443; valid are two different ports."),
    ("reverse_proxy", {"reverse_proxy_tls_certificate": "/c.pem"}, "go together"),
    ("reverse_proxy", {"reverse_proxy_tls_certificate": "/c.pem", "reverse_proxy_tls_key": "-----BEGIN KEY-----"},
     "go together"),
    ("reverse_proxy", {"reverse_proxy_tls_certificate": "c.pem", "reverse_proxy_tls_key": "k.pem"},
     "two absolute paths on the host"),
    ("reverse_proxy", {"reverse_proxy_acme_email": "a@example.com", "__reverse_proxy_name": "10.0.0.1",
                       "__reverse_proxy_name_is_ip": True},
     "has the address 10.0.0.1; valid with ACME is a host name."),
    ("cloudwatch_agent", {"__cloudwatch_agent_source": "url",
                          "__cloudwatch_agent_url": "https://me:hush@x/1.3/agent.deb"},
     "cloudwatch_agent_package_url has a login, which others on the host could read."),
    ("cloudwatch_agent", {"__cloudwatch_agent_source": "url"},
     'cloudwatch_agent_package_checksum is ""; valid is the SHA-256 of https://x/1.3/agent.deb'),
    ("cloudwatch_agent", {"__cloudwatch_agent_source": "url", "cloudwatch_agent_package_checksum": CHECKSUM,
                          "__cloudwatch_agent_url": "https://x/latest/agent.deb"},
                          'does not say "latest" and ends in .deb.'),
    ("cloudwatch_agent", {"__cloudwatch_agent_source": "file", "cloudwatch_agent_package_file": "/gone.deb"},
     "valid is a .deb that exists"),
    ("cloudwatch_agent", {"__cloudwatch_agent_source": "file", "cloudwatch_agent_package_file": "/there.rpm"},
     "valid is a .deb that exists"),
    ("cloudwatch_agent", {"cloudwatch_agent_log_source": "journald", "__cloudwatch_agent_source": "file",
                          "cloudwatch_agent_version": "1.300069.0b1",
                          "cloudwatch_agent_package_file": "/there.deb"}, "reads the journal from 1.300070 on"),
    ("cloudwatch_agent", {"cloudwatch_agent_log_source": "files", "logrotate_component_files": False},
     "so nothing writes these files"),
    ("cloudwatch_agent", {"__cloudwatch_agent_built": {"agent": {}}}, "leave the agent nothing to do"),
    ("cloudwatch_agent", {"cloudwatch_agent_statsd_address": "8125"},
     'cloudwatch_agent_statsd_address is "8125"; valid is <address>:<port>'),
    ("cloudwatch_agent", {"cloudwatch_agent_metrics_interval": 0},
     "cloudwatch_agent_metrics_interval is 0; valid is 1 to 172800 seconds."),
    ("cloudwatch_agent", {"cloudwatch_agent_config": {"log": {}}}, "has the sections log; valid are agent, logs"),
])
def test_bad_values_are_refused_by_name(role, given, words):
    (text,) = told(role, **given)
    assert words in text


@pytest.mark.parametrize(("role", "given"), [
    ("reverse_proxy", {"reverse_proxy_tls_certificate": " -----BEGIN CERTIFICATE-----",
                       "reverse_proxy_tls_key": "-----BEGIN KEY-----"}),
    ("cloudwatch_agent", {"__cloudwatch_agent_source": "url", "cloudwatch_agent_package_checksum": CHECKSUM}),
    ("cloudwatch_agent", {"__cloudwatch_agent_source": "file", "cloudwatch_agent_package_file": "/there.deb",
                          "cloudwatch_agent_log_source": "journald",
                          "cloudwatch_agent_version": "1.300070.0b1"}),
    ("cloudwatch_agent", {"cloudwatch_agent_log_source": "files"}),
    ("cloudwatch_agent", {"cloudwatch_agent_statsd_address": ""}),
])
def test_good_values_pass(role, given):
    assert told(role, **given) == []
