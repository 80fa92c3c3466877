"""The CloudWatch agent."""

from __future__ import annotations

import re

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    check_patterns,
    check_ranges,
    numbers,
)

RANGES = {"cloudwatch_agent_metrics_interval": (1, 172800, "1 to 172800 seconds")}
PATTERNS = {
    "cloudwatch_agent_statsd_address": ("|[^:]+:[0-9]{1,5}",
                                        'valid is <address>:<port>, such as 127.0.0.1:8125, or "" for none.')
}
# Sections of the agent's configuration. Its schema lets unknown ones pass.
SECTIONS = ("agent", "logs", "metrics", "traces", "opentelemetry")
READS_THE_JOURNAL = "1.300070"


def check_role(values: Values, site: Site) -> Problems:
    yield from check_package(values, site)
    source, version = values["cloudwatch_agent_log_source"], values["cloudwatch_agent_version"]
    if source == "journald" and values["__cloudwatch_agent_source"] != "repository" and version.startswith("1.") and \
            numbers(version) < numbers(READS_THE_JOURNAL):
        yield "cloudwatch_agent_log_source", (
            'cloudwatch_agent_log_source is "journald" and cloudwatch_agent_version is "{0}"; the agent reads the '
            'journal from {1} on: take a newer '
            'version or the source "files".').format(version, READS_THE_JOURNAL)
    if source == "files" and values.get("logrotate_component_files") is False:
        yield "cloudwatch_agent_log_source", (
            'cloudwatch_agent_log_source is "files" and logrotate_component_files is false, so nothing writes these '
            'files; take the source "journald", '
            "or have them written.")
    if not {"logs", "metrics"} & set(values["__cloudwatch_agent_built"]):
        yield "cloudwatch_agent_enabled", (
            "cloudwatch_agent_host_metrics, cloudwatch_agent_statsd_address and cloudwatch_agent_log_source leave the "
            "agent nothing to do; set one of them, "
            "or cloudwatch_agent_enabled to false.")
    yield from check_patterns(values, PATTERNS)
    yield from check_ranges(values, RANGES)
    if set(values["cloudwatch_agent_config"]) - set(SECTIONS):
        yield "cloudwatch_agent_config", ("cloudwatch_agent_config has the sections {0}; valid are {1}. The agent "
                                          "itself ignores others.").format(
            ", ".join(values["cloudwatch_agent_config"]), ", ".join(SECTIONS))


def check_package(values: Values, site: Site) -> Problems:
    source, suffix, url = values["__cloudwatch_agent_source"], values["__cloudwatch_agent_package_format"], values[
        "__cloudwatch_agent_url"]
    file, checksum = values["cloudwatch_agent_package_file"], values["cloudwatch_agent_package_checksum"]
    # The address is an argument of a program on the host, and in its messages.
    if source == "url" and re.search("//[^/ ]*@", url):
        yield "cloudwatch_agent_package_url", (
            "cloudwatch_agent_package_url has a login, which others on the host could read. Take the login out of the "
            "address, or set "
            "cloudwatch_agent_package_file to a package on the controller.")
        return
    if source == "url" and not re.match("[0-9a-fA-F]{64}$", checksum):
        yield "cloudwatch_agent_package_checksum", (
            'cloudwatch_agent_package_checksum is "{0}"; valid is the SHA-256 of {1} as 64 hexadecimal digits '
            '(sha256sum prints it), or set '
            "cloudwatch_agent_package_file to a package on the controller.").format(checksum, url)
    if source == "url" and ("/latest/" in url or not re.match(r"(https?|file)://.+\." + suffix + "$", url)):
        yield "cloudwatch_agent_package_url", (
            'cloudwatch_agent_package_url is "{0}"; valid is an address of https://, http:// or file:// that does not '
            'say "latest" and ends in .{1}.'
        ).format(values["cloudwatch_agent_package_url"], suffix)
    if source == "file" and not (file.endswith("." + suffix) and site.is_file(file)):
        yield "cloudwatch_agent_package_file", ('cloudwatch_agent_package_file is "{0}"; valid is a .{1} that exists '
                                                'on the controller.').format(
            file, suffix)
