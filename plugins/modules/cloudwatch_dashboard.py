#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Make, change or remove a CloudWatch dashboard."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatch_dashboard
short_description: Make, change or remove a CloudWatch dashboard
version_added: 1.0.0
description:
  - For this there is no module in amazon.aws or community.aws.
  - Dashboards are compared by their content, whatever the order of keys and the blanks between them.
options:
  name:
    description: Name of the dashboard.
    type: str
    required: true
  body:
    description: The dashboard as CloudWatch defines it, as a mapping or as JSON. Required for O(state=present).
    type: json
  state:
    description: Whether it is there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Changes nothing and reports what it would change.
  diff_mode:
    support: full
    description: Shows the dashboard before and after.
seealso:
  - name: Structure of a dashboard
    description: What O(body) may hold.
    link: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
notes:
  - It needs the permissions cloudwatch:GetDashboard, cloudwatch:PutDashboard and cloudwatch:DeleteDashboards.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Make a dashboard
  windsock.airflow.cloudwatch_dashboard:
    name: airflow-production
    region: eu-central-1
    body:
      widgets:
        - {type: text, x: 0, y: 0, width: 24, height: 2, properties: {markdown: "# Airflow"}}

- name: Remove it
  windsock.airflow.cloudwatch_dashboard:
    name: airflow-production
    region: eu-central-1
    state: absent
"""

RETURN = r"""
name:
  description: Name of the dashboard.
  returned: always
  type: str
  sample: airflow-production
messages:
  description: What CloudWatch has to say about the body, such as a widget without metrics.
  returned: when it was made or changed
  type: list
  elements: dict
"""

import json

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    # AnsibleAWSModule says so.
    pass

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

ABSENT = ["ResourceNotFound", "DashboardNotFoundError"]


def found(client, name):
    """Return the body of the dashboard; None where there is none."""
    try:
        return json.loads(client.get_dashboard(DashboardName=name, aws_retry=True)["DashboardBody"])
    except is_boto3_error_code(ABSENT):
        return None


def apply(client, name, wanted):
    """Bring the dashboard about, or remove it; return what CloudWatch says about the body."""
    if wanted is None:
        client.delete_dashboards(DashboardNames=[name], aws_retry=True)
        return []
    return client.put_dashboard(DashboardName=name, DashboardBody=json.dumps(wanted),
                                aws_retry=True).get("DashboardValidationMessages", [])


def main():
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            body=dict(type="json"),
            state=dict(type="str", choices=["present", "absent"], default="present"),
        ),
        required_if=[["state", "present", ["body"]]],
        supports_check_mode=True,
    )
    name = module.params["name"]
    client = module.client("cloudwatch", retry_decorator=AWSRetry.jittered_backoff())
    try:
        wanted = json.loads(module.params["body"]) if module.params["state"] == "present" else None
        before, messages = found(client, name), []
        if before != wanted and not module.check_mode:
            messages = apply(client, name, wanted)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The dashboard %s can't be brought about" % name)
    except ValueError as error:
        module.fail_json(msg="body is no JSON: %s" % error)
    module.exit_json(changed=before != wanted,
                     name=name,
                     messages=messages,
                     diff={"before": before or {}, "after": wanted or {}})


if __name__ == "__main__":
    main()
