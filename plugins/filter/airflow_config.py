"""Compose airflow.cfg."""

from ansible.plugins.filter.core import combine, to_json
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_secrets import SECRETS_BACKENDS


def of_secrets_backend(backend, kwargs_path):
    """Return the options for airflow_secrets_backend. Its arguments may hold a token, so they are in a file."""
    name = backend["backend"]
    return {"secrets": {"backend": SECRETS_BACKENDS.get(name, name), "backend_kwargs_cmd": f"cat {kwargs_path}"}}


def of_remote_logs(folder, connection):
    """Return the options for airflow_remote_base_log_folder.

    delete_local_logs stays false: Airflow would also delete the logs of earlier attempts that were not uploaded.
    """
    options = {"remote_logging": True, "remote_base_log_folder": folder, "remote_log_conn_id": connection or None}
    return {"logging": options}


def of_ecs(ecs):
    """Return the options for airflow_ecs. Without a connection, Airflow uses the credentials of the host."""
    return {
        "aws_ecs_executor": {
            "conn_id": "",
            "region_name": ecs["region"],
            "cluster": ecs["cluster"],
            "task_definition": ecs["task_definition"],
            "container_name": ecs["container_name"],
            "subnets": ",".join(ecs["subnets"]),
            "security_groups": ",".join(ecs.get("security_groups", [])) or None,
            "launch_type": ecs.get("launch_type", "FARGATE"),
        }
    }


def airflow_config(settings):
    """Return {section: {option: value}}. A later layer overrides an earlier one; the site's own options come last."""
    backend, folder, ecs = settings["secrets_backend"], settings["remote_base_log_folder"], settings["ecs"]
    return combine(
        *settings["defaults"],
        of_secrets_backend(backend, settings["backend_kwargs_path"]) if backend else {},
        of_remote_logs(folder, settings["remote_log_conn_id"]) if folder else {},
        of_ecs(ecs) if ecs else {},
        settings["site"],
        recursive=True,
    )


def by_name(mapping):
    """Return the items in the order in which airflow.cfg has them."""
    return sorted(mapping.items(), key=lambda item: item[0].lower())


def airflow_cfg(config):
    """Return the sections of airflow.cfg as text, without options that are None and without empty sections."""
    lines = []
    for section, options in by_name(config):
        if options:
            lines += ["", f"[{section}]"]
        for key, value in by_name(options or {}):
            if value is not None:
                text = to_json(value) if isinstance(value, (dict, list, tuple)) else str(value)
                # configparser interpolates %, and continues a value on an indented line.
                lines.append(f"{key} = {text}".replace("%", "%%").replace("\n", "\n    "))
    return "\n".join(lines)


def airflow_schema_lines(config, environment):
    """Return the lines of airflow.cfg and of the environment that decide the database's schema, besides the version."""
    lines = []
    for section, option in (("core", "auth_manager"), ("database", "external_db_managers")):
        value, name = (config.get(section) or {}).get(option), f"AIRFLOW__{section}__{option}".upper()
        lines += [f"{option} = {value}"] if value else []
        lines += [f'{name}="{environment[name]}"'] if name in environment else []
    return lines


class FilterModule:
    def filters(self):
        return {
            "airflow_cfg": airflow_cfg,
            "airflow_config": airflow_config,
            "airflow_schema_lines": airflow_schema_lines,
        }
