"""Tell what a playbook has found or done."""

ROLES = (
    "reverse_proxy",
    "cloudwatch_agent",
    "logrotate",
    "airflow_backup",
    "airflow_services",
    "airflow_config",
    "postgresql",
    "airflow_backups",
)
OTHERS = ("__airflow_user_removed", "postgresql_databases_removed", "postgresql_roles_removed")


def removed(hosts):
    """Return {paths: what the roles have removed, gone: other tasks that have removed something, kept: what is left}.

    hosts: variables of each host, with what the tasks have registered.
    """
    paths = [
        path for host in hosts for role in ROLES for path in host.get(f"__{role}_removed", {}).get("changed_paths", [])
    ]
    kept = [text for host in hosts for text in host.get("__airflow_kept", [])]
    return {
        "paths": sorted(dict.fromkeys(paths), key=str.lower),
        "gone": [name for host in hosts for name in OTHERS if host.get(name, {}).get("changed")],
        "kept": list(dict.fromkeys(kept)),
    }


def stuck_lines(stuck):
    """Return a line for each stuck task of module airflow_stuck_tasks."""
    return [
        "%s: %s for %d min; %s. Clearing %s."
        % (one["name"], one["state"], one["minutes"], one["why"], "helps" if one["clearing_helps"] else "does not help")
        for one in stuck
    ]


def space_lines(result, applied, host):
    """Return the lines of a report on the result of module airflow_disk_space."""
    lines = [
        "%s: %.1f of %.1f GB free (%d %%), inodes %d %% free"
        % (
            disk["path"],
            disk["free"] / 1e9,
            disk["size"] / 1e9,
            100 * disk["free"] / max(disk["size"], 1),
            disk["inodes_free_percent"],
        )
        for disk in result["disks"]
    ]
    for one in result["found"]:
        done = "only with -e airflow_everything=true" if not one["wanted"] else "removed" if applied else "could be had"
        lines.append(f"{done}: {one['bytes'] / 1e6:.1f} MB, {one['what']}. {one['means']}")
    end = (
        f"Got back {result['freed'] / 1e6:.1f} MB in all."
        if applied
        else f"Nothing was changed. To remove it: -e airflow_confirm={host}"
    )
    return [*lines, end, *result["problems"]]


class FilterModule:
    def filters(self):
        return {"airflow_removed": removed, "airflow_space_lines": space_lines, "airflow_stuck_lines": stuck_lines}
