# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What the modules for Airflow's objects have in common: their options, and the one process in the host's virtualenv
that does the work.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils import (
    airflow_database,
    airflow_objects,
    carried,
    database_connection,
    spelling,
)

OPTIONS = {
    "python": {"type": "path", "default": "/opt/airflow/venv/bin/python"},
    "user": {"type": "str", "default": "airflow"},
    "environment": {
        "type": "dict", "default": {"AIRFLOW_HOME": "/var/lib/airflow", "AIRFLOW_CONFIG": "/etc/airflow/airflow.cfg"}
    },
}
CONNECTION_TYPES = {"connection_types": {"type": "list", "elements": "str", "default": []}}


def identity(user: str) -> dict[str, Any]:
    """What Popen needs to become the user; nothing where this process is that user already."""
    entry = pwd.getpwnam(user)
    if os.geteuid() == entry.pw_uid:
        return {}
    groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [entry.pw_gid, *groups]}


def ask(params: dict[str, Any], request: dict[str, Any]) -> Any:
    """Start the process, hand it the request, and return its answer."""
    command = [params["python"], "-"]
    modules = [airflow_database, airflow_objects, database_connection, spelling]
    # The components' own. Not as a parameter: it may hold secrets of the site, and Ansible shows parameters.
    components = os.path.join(os.path.dirname(params["environment"]["AIRFLOW_CONFIG"]), "environment")
    if os.path.exists(components):
        command = ["sh", "-c", 'set -a; . "$0"; exec "$@"', components, *command]
    done = subprocess.run(
        command,
        # Argument lists are for everybody to read.
        input=carried.program_of(modules, json.dumps(request)),
        env={
            "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
            **{name: str(value)
               for name, value in params["environment"].items()}
        },
        # A directory that the user may be in.
        cwd="/",
        text=True,
        capture_output=True,
        check=False,
        **identity(params["user"]),
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {
            "error": "{0} ended with {1}:\n{2}".format(
                params["python"], done.returncode, "\n".join(done.stderr.splitlines()[-5:])
            )
        }


def bring_about(module: AnsibleModule, declared: dict[str, Any], purge: bool = False, timeout: int = 0) -> None:
    """Make the database what is declared, in one go, and end the module."""
    sound, problems = airflow_objects.check(declared)
    if module.check_mode and not os.path.exists(module.params["python"]):
        # A host without Airflow: all would be made.
        changes = airflow_objects.plan(sound, {}, {}, False)
        answer: dict[str, Any] = {"problems": problems}
        answer.update(changes=airflow_objects.told(changes), diff=airflow_objects.diff(changes))
    else:
        answer = ask(
            module.params,
            {
                "declared": sound,
                "problems": problems,
                "purge": purge,
                "check": module.check_mode,
                "timeout": timeout,
                "types": module.params.get("connection_types", []),
                # A user of a role that is wrong is not wrong too.
                "role_names": [
                    name for name in declared.get("roles", {}) if airflow_objects.present(sound["roles"].get(name, {}))
                ],
            })
    if answer.get("problems"):
        refuse(module, answer["problems"])
    if "error" in answer:
        module.fail_json(msg="Nothing was changed: " + answer["error"])
    module.exit_json(changed=bool(answer["changes"]),
                     changes=answer["changes"],
                     **({"diff": answer["diff"]} if module._diff else {}))


def refuse(module: AnsibleModule, problems: list[str]) -> None:
    text = "{0} problem{1}. Nothing was changed.\n{2}".format(
        len(problems), "" if len(problems) == 1 else "s",
        "\n".join("{0}. {1}".format(number, problem) for number, problem in enumerate(problems, 1)))
    module.fail_json(msg=text)


def one_object(kind: str, options: dict[str, Any], **more: Any) -> None:
    """The main function of a module that is about one object of a kind. options are the object's fields; more is not.
    """
    states = {} if kind == "dag_state" else {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"}
    }
    module = AnsibleModule(
        argument_spec={"name": {"type": "str", "required": True}, **options, **states, **OPTIONS, **more},
        supports_check_mode=True,
    )
    fields = {field: module.params[field] for field in [*options, *states] if module.params[field] is not None}
    bring_about(module, {kind: {module.params["name"]: fields}}, timeout=module.params.get("timeout", 0))
