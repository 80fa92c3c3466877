"""Build the configuration of the CloudWatch agent from plain settings."""

MEASUREMENTS = {
    "cpu": {
        "measurement": ["usage_active", "usage_iowait", "usage_steal"],
        "totalcpu": True,
        # One series for the host, not one a core.
        "resources": None,
    },
    "mem": {"measurement": ["used_percent", "available"]},
    "swap": {"measurement": ["used_percent"]},
    "disk": {
        "measurement": ["used_percent", "inodes_free"],
        # A device name would start a new series with every replaced volume.
        "drop_device": True,
    },
    "net": {"measurement": ["bytes_sent", "bytes_recv", "drop_in", "drop_out"]},
}

# Of each process: percent of one core, and bytes.
PROCESS_MEASUREMENTS = ["cpu_usage", "memory_rss"]


def merge(base, over):
    """Return base with over merged in: mappings are merged, all else is replaced, None removes. Neither is changed."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(merged.get(key, {} if isinstance(value, dict) else None), value)
    return {key: value for key, value in merged.items() if value is not None}


def logs(settings):
    """Return the collected logs: one log group for each component."""
    common = [
        (name,
         {"log_group_name": "%s/%s" % (settings["log_group_prefix"], name), "log_stream_name": settings["log_stream"]})
        for name in settings["components"]
    ]
    if settings["log_source"] == "journald":
        entries = [dict(entry, units=["airflow-%s.service" % name]) for name, entry in common]
    elif settings["log_source"] == "files":
        entries = [
            dict(
                entry,
                file_path="%s/%s.log" % (settings["log_directory"].rstrip("/"), name),
                multi_line_start_pattern=settings["multi_line_start_pattern"],
            )
            for name, entry in common
        ]
    else:
        entries = []
    return {settings["log_source"]: {"collect_list": entries}} if entries else {}


def metrics(settings):
    """Return the collected metrics: of the host, and what is sent to the StatsD address."""
    resources = {"disk": settings["disk_paths"], "net": settings["net_interfaces"]}
    collected = {
        name: merge(MEASUREMENTS[name],
                    {"resources": resources.get(name), "metrics_collection_interval": settings["metrics_interval"]})
        for name in settings["host_metrics"]
    }
    if settings["processes"]:
        collected["procstat"] = [
            {
                "pattern": pattern,
                "measurement": PROCESS_MEASUREMENTS,
                # The agent knows no systemd units, and a pattern is nothing for people.
                "append_dimensions": {"component": name},
                "metrics_collection_interval": settings["metrics_interval"],
            }
            for name, pattern in settings["processes"].items()
        ]
    if settings["statsd_address"]:
        collected["statsd"] = {
            "service_address": settings["statsd_address"],
            "metrics_collection_interval": 10,
            "metrics_aggregation_interval": 60,
        }
    return collected


def cloudwatch_agent_config(settings, overrides=None):
    """Return the whole configuration as a dict. Sections without content are left out: the agent rejects them."""
    config = {"agent": {"run_as_user": settings["user"], "metrics_collection_interval": settings["metrics_interval"]}}
    if settings["region"]:
        config["agent"]["region"] = settings["region"]
    if logs(settings):
        # No retention here: the role of the host needs no right to change it.
        config["logs"] = {"logs_collected": logs(settings)}
    if metrics(settings):
        config["metrics"] = {"namespace": settings["namespace"], "metrics_collected": metrics(settings)}
        if settings["append_dimensions"]:
            config["metrics"]["append_dimensions"] = dict(settings["append_dimensions"])
    return merge(config, overrides or {})


class FilterModule:
    """Filters of role cloudwatch_agent."""

    def filters(self):
        """Return them by name."""
        return {"cloudwatch_agent_config": cloudwatch_agent_config}
