#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Ask Airflow's REST API whether a DAG release has arrived, and which releases are still in use."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_dag_verify
short_description: Ask Airflow whether a DAG release has arrived
version_added: 1.0.0
description:
  - C(arrived) waits until every DAG was parsed from the release and no file has an import error, and fails with what is
    wrong once that is certain
    or I(timeout) is over.
  - C(in_use) returns the releases that unfinished runs are pinned to. In Airflow 2 there are none.
  - C(reachable) only signs in.
options:
  question:
    description: What to ask.
    type: str
    choices: [arrived, in_use, reachable]
    required: true
  id:
    description: The release.
    type: str
    default: ""
  dags:
    description: Ids of the DAGs that the release has. Empty where it is not known; then the DAGs that Airflow knows are
      looked at.
    type: list
    elements: str
    default: []
  since:
    description: Clock of the host that parses, when the release was put in place there and its files' time of
      modification had passed.
    type: float
    default: 0
  timeout:
    description: Seconds to wait.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
    description: It only asks.
  diff_mode:
    support: none
    description: Shows no difference.
extends_documentation_fragment:
  - windsock.airflow.airflow_rest_api
"""

EXAMPLES = r"""
- name: Wait for a release
  windsock.airflow.airflow_dag_verify:
    question: arrived
    url: http://127.0.0.1:8080
    prefix: /api/v2
    token_path: /auth/token
    user: admin
    password: "{{ password }}"
    id: 1f0c5b0a93de
    dags: [tutorial]
    since: 1763728000.5
  no_log: true
"""

RETURN = r"""
dags:
  description: How many DAGs were seen.
  returned: question is arrived
  type: int
in_use:
  description: Releases that runs are pinned to.
  returned: question is in_use
  type: list
  elements: str
"""

import datetime
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_api import OPTIONS, Api, Refused, unreachable

SHOWN = 20


def seconds(text: str | None) -> float:
    """Return a time of the API as seconds."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0


def missing(dags: list, args: dict) -> dict:
    """Return {DAG id: what it lacks} of the DAGs that were not parsed from the release."""
    known = {dag["dag_id"]: dag for dag in dags}
    lacking = {name: "unknown to Airflow" for name in args["dags"] if name not in known}
    for name in args["dags"] or known:
        dag = known.get(name)
        if dag is None:
            continue
        if "bundle_version" in dag:
            # The path is that of the file that was parsed. The version alone would not do: Airflow stores a parse that
            # was under way during the switch under the new version.
            if dag["bundle_version"] != args["id"] or f"/releases/{args['id']}/" not in dag["fileloc"]:
                lacking[name] = f"still of release {dag['bundle_version']}, {dag['fileloc']}"
        elif seconds(dag["last_parsed_time"]) <= args["since"]:
            lacking[name] = f"not parsed since the switch, last at {dag['last_parsed_time']}"
    return lacking


def arrived(api: Api, args: dict) -> tuple:
    """Return (DAGs that are there, {DAG id: what it lacks}, import errors, whether these are final)."""
    dags = api.pages("dags", "dags", **({"exclude_stale": "true"} if api.three else {"only_active": "true"}))
    errors = api.pages("importErrors", "import_errors")
    final = all(seconds(error["timestamp"]) > args["since"] for error in errors)
    texts = [f"{error['filename']}: {(error['stack_trace'].strip().splitlines() or ['?'])[-1]}" for error in errors]
    return len(dags), missing(dags, args), texts, bool(errors) and final


def wait(args: dict) -> tuple:
    """Return (DAGs, problems): no problems once the release has arrived."""
    end = time.monotonic() + args["timeout"]
    while True:
        try:
            # Signed in each time: components may restart meanwhile.
            count, lacking, errors, final = arrived(Api(args), args)
        except (OSError, ValueError, KeyError) as error:
            count, lacking, errors, final = 0, {}, [f"the API server does not answer: {error}"], False
        if not lacking and not errors:
            return count, []
        if final or time.monotonic() > end:
            return count, errors + [
                f"DAG {name}: {text}"
                for name, text in sorted(lacking.items()) if not errors or text == "unknown to Airflow"
            ]
        time.sleep(0.5)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "question": {"type": "str", "choices": ["arrived", "in_use", "reachable"], "required": True},
            **OPTIONS,
            "id": {"type": "str", "default": ""},
            "dags": {"type": "list", "elements": "str", "default": []},
            "since": {"type": "float", "default": 0},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    args = module.params
    try:
        if args["question"] == "arrived":
            count, problems = wait(args)
            if problems:
                more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
                module.fail_json(
                    msg="\n".join([f"Release {args['id']} did not arrive in Airflow.", *problems[:SHOWN], *more]))
            module.exit_json(changed=False, dags=count)
        api = Api(args)
        if args["question"] == "reachable":
            api.pages("importErrors", "import_errors")
            module.exit_json(changed=False)
        runs = api.pages("dags/~/dagRuns", "dag_runs", state=["queued", "running"]) if api.three else []
        module.exit_json(changed=False,
                         in_use=sorted({run["bundle_version"]
                                        for run in runs if run.get("bundle_version")}))
    except (Refused, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=unreachable(args, error))


if __name__ == "__main__":
    main()
