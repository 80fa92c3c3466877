"""What the emulator of AWS was asked, in the words of IAM, and whether the policy that role aws_iam generates allows
it.
"""

import base64
import fnmatch
import importlib.util
import json
import os
import pathlib
import urllib.parse
import urllib.request

from conftest import ROOT

# What IAM calls the requests of S3.
OBJECTS = {"HEAD": "s3:GetObject", "GET": "s3:GetObject", "PUT": "s3:PutObject"}
PLACE = "eu-central-1:123456789012"


def emulator(verb):
    """Tell the emulator's recorder what to do."""
    request = urllib.request.Request(f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/recorder/{verb}-recording",
                                     method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def asked():
    """Yield (action, ARN of the resource) of each request since the recording began."""
    lines = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"],
                         "aws_requests").read_text(encoding="utf-8").splitlines()
    for entry in map(json.loads, lines):
        target = {name.lower(): value for name, value in entry["headers"].items()}.get("x-amz-target", "")
        if not target:
            bucket, _, key = urllib.parse.unquote(urllib.parse.urlsplit(entry["url"]).path).strip("/").partition("/")
            yield OBJECTS[entry["method"]] if key else "s3:ListBucket", f"arn:aws:s3:::{bucket}/{key}".rstrip("/")
            continue
        service, action = target.split(".")
        body = json.loads(base64.b64decode(entry["body"]))
        if service.startswith("AmazonEC2ContainerService"):
            yield f"ecs:{action}", f"arn:aws:ecs:{PLACE}:task-definition/{body.get('taskDefinition')}:1"
        elif service == "secretsmanager":
            yield f"{service}:{action}", f"arn:aws:secretsmanager:{PLACE}:secret:{body['SecretId']}"
        else:
            group = body.get("logGroupName", "")
            yield (
                f"logs:{action}",
                f"arn:aws:logs:{PLACE}:log-group:{group}"
                + (f":log-stream:{body['logStreamName']}" if "logStreamName" in body else ""),
            )


def refused(requests, **declared):
    """Return those requests that hosts may not make."""
    spec = importlib.util.spec_from_file_location("aws_iam_filter", ROOT / "plugins/filter/aws_iam.py")
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    region, account = PLACE.split(":")
    policy = plugin.aws_policy({
        "partition": "aws", "region": region, "account": account, "log_group_prefix": "/airflow/flow",
        "namespace": "Airflow/flow", "secret_prefix": "flow/", "buckets": [], "tables": [], "task_logs": False,
        "ecs": {}, **declared
    })
    allowed = {(action, resource)
               for statement in policy["Statement"]
               for action in statement["Action"]
               for resource in statement["Resource"]}
    return {(action, arn)
            for action, arn in requests
            if not any(action == may and fnmatch.fnmatchcase(arn, where) for may, where in allowed)}
