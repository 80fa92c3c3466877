#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep the secrets of an Airflow environment in AWS: in one secret of Secrets Manager, or in parameters of Systems
Manager.
"""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_aws_secrets
short_description: Keep the secrets of an Airflow environment in AWS
version_added: 1.0.0
description:
  - Reads the secrets under I(generate), makes those that are absent, and keeps them there.
  - In Secrets Manager all of them are one secret, a JSON object; what else the object holds stays. In Parameter Store
    each is a
    SecureString below a path.
  - Several controllers may run it at once. What is absent is written only where it still is, else the other one's is
    taken.
  - Not M(community.aws.secretsmanager_secret), which drops the resource policy and stops the rotation of a secret that
    it did not make.
options:
  store:
    description: Where the secrets are kept.
    type: str
    choices: [aws_secrets_manager, aws_ssm]
    required: true
  name:
    description: Name of the secret, or path of the parameters.
    type: str
    required: true
  region:
    description: Region of AWS. Empty, that of the controller's own settings (E(AWS_REGION), profile).
    type: str
    default: ""
  kms_key_id:
    description: KMS key that what is made is encrypted with. Empty, the account's own key of the service.
    type: str
    default: ""
  required:
    description: Names of I(generate) that are not made where they are absent, but refused.
    type: list
    elements: str
    default: []
requirements: [boto3]
notes:
  - Runs on the controller. Credentials, region and endpoint are those that boto3 finds there.
seealso:
  - module: windsock.airflow.airflow_secrets
extends_documentation_fragment:
  - windsock.airflow.airflow_secret_kinds
"""

EXAMPLES = r"""
- name: Read the secrets, and make what is absent
  windsock.airflow.airflow_aws_secrets:
    store: aws_secrets_manager
    name: airflow/prod
    region: eu-central-1
    generate:
      fernet_key: fernet
      jwt_secret: token
  delegate_to: localhost
  register: result
  no_log: true

- name: Make another one in its place
  windsock.airflow.airflow_aws_secrets:
    store: aws_ssm
    name: /airflow/prod
    generate:
      jwt_secret: token
    renew: [jwt_secret]
  delegate_to: localhost
  no_log: true
"""

RETURN = r"""
secrets:
  description: The secrets named by I(generate), as AWS holds them now.
  returned: always
  type: dict
  sample: {"jwt_secret": "..."}
written:
  description: Names of the secrets that were written.
  returned: always
  type: list
  elements: str
  sample: [jwt_secret]
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_secret_kinds import (
    ARGUMENTS,
    plan,
    problem,
    refuse,
)

try:
    import boto3
    from botocore import exceptions
    from botocore.config import Config
except ImportError:
    boto3 = None

POLICY = "files/iam/airflow-secrets-source.json"
UNAUTHENTICATED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "UnrecognizedClientException",
)


class Refused(Exception):
    """The text is for the person who runs the playbook."""


def code_of(error: Exception) -> str:
    """Return the code of an error of AWS, or an empty string."""
    return getattr(error, "response", {}).get("Error", {}).get("Code", "")


class SecretsManager:
    """One secret that is a JSON object."""

    service = "secretsmanager"

    def __init__(self, client, name: str, kms_key_id: str) -> None:
        self.client, self.name = client, name
        self.key = {"KmsKeyId": kms_key_id} if kms_key_id else {}
        self.found = None

    def read(self) -> dict:
        """Return all that it holds."""
        self.found = None
        try:
            text = self.client.get_secret_value(SecretId=self.name).get("SecretString", "")
        except self.client.exceptions.ResourceNotFoundException:
            return {}
        try:
            self.found = json.loads(text)
        except ValueError:
            pass
        if not isinstance(self.found, dict):
            raise Refused(
                f'secret {self.name} is no JSON object such as {{"fernet_key": "..."}}. Make it one, or name another '
                'secret in airflow_secrets_name.'
            )
        return self.found

    def write(self, due: dict) -> dict:
        """Write these, and return what is there now in their place."""
        if self.found is None:
            try:
                self.client.create_secret(Name=self.name,
                                          SecretString=json.dumps(due),
                                          Description="Secrets of an Apache Airflow environment",
                                          **self.key)
                return due
            except self.client.exceptions.ResourceExistsException:
                # Somebody was faster, or made it beforehand without a value.
                due = {**due, **{name: value for name, value in self.read().items() if name in due}}
        if {**(self.found or {}), **due} != self.found:
            self.client.put_secret_value(SecretId=self.name, SecretString=json.dumps({**(self.found or {}), **due}))
        return due


class ParameterStore:
    """Parameters below one path."""

    service = "ssm"

    def __init__(self, client, name: str, kms_key_id: str) -> None:
        self.client, self.name = client, name
        self.key = {"KeyId": kms_key_id} if kms_key_id else {}
        self.found: dict[str, str] = {}

    def read(self) -> dict:
        """Return all that are there."""
        pages = self.client.get_paginator("get_parameters_by_path").paginate(Path=self.name, WithDecryption=True)
        self.found = {
            entry["Name"].rpartition("/")[2]: entry["Value"]
            for page in pages
            for entry in page["Parameters"]
        }
        return self.found

    def write(self, due: dict) -> dict:
        """Write these, and return what is there now in their place."""
        now = {}
        for name, value in due.items():
            path = f"{self.name}/{name}"
            try:
                self.client.put_parameter(Name=path,
                                          Value=value,
                                          Type="SecureString",
                                          Overwrite=name in self.found,
                                          **self.key)
                now[name] = value
            except self.client.exceptions.ParameterAlreadyExists:
                # Somebody was faster.
                now[name] = self.client.get_parameter(Name=path, WithDecryption=True)["Parameter"]["Value"]
        return now


STORES: dict[str, Any] = {"aws_secrets_manager": SecretsManager, "aws_ssm": ParameterStore}


def advice(error: Exception, name: str) -> str:
    """Return what went wrong in AWS, and what to do about it."""
    code, text = code_of(error), str(error)
    if isinstance(error, exceptions.NoRegionError):
        return "no region is known. Set airflow_secrets_region, such as eu-central-1, or AWS_REGION on the controller."
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError,
                          exceptions.ProfileNotFound)) or code in UNAUTHENTICATED:
        return (
            f"the controller has no valid AWS credentials ({text}). Sign in, such as with `aws sso login`, or set "
            "AWS_PROFILE."
        )
    if "AccessDenied" in code:
        return f"{text}. Allow the controller's identity what {POLICY} lists."
    if isinstance(error,
                  (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError, exceptions.InvalidRegionError)):
        return f"AWS can't be reached ({text}). Check airflow_secrets_region, and the controller's way to AWS."
    if code == "InvalidRequestException" and "marked" in text:
        return (
            f"{text.rstrip('.')}. Bring it back with `aws secretsmanager restore-secret --secret-id {name}`, "
            "or name another one in airflow_secrets_name."
        )
    return text


def bring_about(store, args: dict, check_mode: bool) -> tuple[dict, list]:
    """Return the secrets of generate and the names of what was written."""
    found = store.read()
    absent = [name for name in args["required"] if not found.get(name)]
    if absent:
        raise Refused(
            f"{args['name']} lacks {', '.join(absent)}, which is not ours to make up. "
            f"Put it there, or set {', '.join('airflow_' + name for name in absent)}."
        )
    wrong = [
        f"its {name} {problem(kind, found[name])}" for name, kind in args["generate"].items()
        if found.get(name) and problem(kind, found[name])
    ]
    if wrong:
        raise Refused(f"{args['name']}: {'; '.join(wrong)}. Mend it there.")
    kept = plan(args["generate"], args["renew"],
                {name: found.get(name) or args["known"].get(name)
                 for name in args["generate"]})
    due = {name: value for name, value in {**kept, **args["values"]}.items() if value != found.get(name)}
    if due and not check_mode:
        now = store.write(due)
        kept.update({name: value for name, value in now.items() if name in kept})
    return kept, sorted(due)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "store": {"type": "str", "choices": list(STORES), "required": True},
            "name": {"type": "str", "required": True},
            "region": {"type": "str", "default": ""},
            "kms_key_id": {"type": "str", "default": ""},
            "required": {"type": "list", "elements": "str", "default": []},
            **ARGUMENTS,
            "values": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    args = module.params
    if boto3 is None:
        module.fail_json(
            msg=f"{missing_required_lib('boto3')} The environment of this repository has it: . .venv/bin/activate")
    refuse(module, args["generate"], args["renew"])
    title = f"airflow_secrets_source is {args['store']}: "
    kind = STORES[args["store"]]
    try:
        # Its own limit would keep a run waiting for minutes where there is no way to AWS.
        client = boto3.client(kind.service,
                              region_name=args["region"] or None,
                              config=Config(connect_timeout=10, retries={"mode": "standard"}))
        kept, written = bring_about(kind(client, args["name"], args["kms_key_id"]), args, module.check_mode)
    except Refused as error:
        module.fail_json(msg=f"{title}{error}")
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        module.fail_json(msg=title + advice(error, args["name"]))
    module.exit_json(changed=bool(written), secrets=kept, written=written)


if __name__ == "__main__":
    main()
