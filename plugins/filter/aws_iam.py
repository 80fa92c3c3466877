"""Build the policy of the hosts from what is declared."""

OBJECTS = {"read": ["s3:GetObject"], "write": ["s3:PutObject"], "read_write": ["s3:GetObject", "s3:PutObject"]}
READ_ITEMS = ["dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan"]
WRITE_ITEMS = ["dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
ITEMS = {"read": READ_ITEMS, "write": WRITE_ITEMS, "read_write": READ_ITEMS + WRITE_ITEMS}


def allow(name, actions, resources, condition=None):
    """Return a statement."""
    statement = {"Sid": name, "Effect": "Allow", "Action": sorted(actions), "Resource": resources}
    return dict(statement, Condition=condition) if condition else statement


def of_buckets(settings):
    """Yield the statements for S3: objects below a prefix, and the names of the bucket's."""
    for number, grant in enumerate(settings["buckets"], 1):
        bucket = "arn:%s:s3:::%s" % (settings["partition"], grant["bucket"])
        yield allow("Objects%d" % number, OBJECTS[grant["access"]], ["%s/%s*" % (bucket, grant["prefix"])])
        # Of the whole bucket: only who may list it is told that an object is not there (404, otherwise 403), and the
        # question names no prefix that a condition could ask for. Airflow asks before it writes a log, and so does
        # every sensor.
        yield allow("List%d" % number, ["s3:ListBucket"], [bucket])


def of_task_logs(settings, logs):
    """Yield the statements that Airflow needs to write task logs to CloudWatch and to show them, where there is a group
    for them.
    """
    if settings["task_logs"]:
        yield allow("TaskLogs", ["logs:GetLogEvents"], ["%s:%s/task:*" % (logs, settings["log_group_prefix"])])
        # It looks whether the group is there, and would make it if it were not told. AWS lets this be asked of all
        # groups only.
        yield allow("TaskLogGroup", ["logs:DescribeLogGroups"], ["*"])


def of_tables(settings, place):
    """Yield the statements for DynamoDB."""
    for number, grant in enumerate(settings["tables"], 1):
        table = "arn:%s:dynamodb:%s:table/%s" % (settings["partition"], place, grant["table"])
        yield allow("Table%d" % number, ITEMS[grant["access"]], [table, table + "/index/*"])


def of_ecs(settings, place):
    """Yield the statements for AwsEcsExecutor: it runs one task definition on one cluster, looks after its containers,
    and hands over their roles.
    """
    ecs, arn = settings["ecs"], "arn:" + settings["partition"]
    if ecs:
        cluster = "%s:ecs:%s:cluster/%s" % (arn, place, ecs["cluster"])
        definition = "%s:ecs:%s:task-definition/%s:*" % (arn, place, ecs["task_definition"])
        yield allow("EcsRun", ["ecs:RunTask"], [definition], {"ArnEquals": {"ecs:cluster": cluster}})
        yield allow("EcsTasks", ["ecs:DescribeTasks", "ecs:StopTask"],
                    ["%s:ecs:%s:task/%s/*" % (arn, place, ecs["cluster"])])
        yield allow("EcsRoles", ["iam:PassRole"], ecs["roles"],
                    {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}})


def aws_policy(settings):
    """Return the policy document. A wildcard stands for a whole resource only where AWS lets none be named."""
    place = "%s:%s" % (settings["region"], settings["account"])
    arn = "arn:" + settings["partition"]
    logs = "%s:logs:%s:log-group" % (arn, place)
    return {
        "Version": "2012-10-17",
        "Statement": [
            # Groups and their retention are made by the playbook: a host may not make more of them.
            allow("Logs", ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                  ["%s:%s/*" % (logs, settings["log_group_prefix"])]),
            *of_task_logs(settings, logs),
            allow("Metrics", ["cloudwatch:PutMetricData"], ["*"],
                  {"StringEquals": {"cloudwatch:namespace": settings["namespace"]}}),
            allow("Secrets", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                  ["%s:secretsmanager:%s:secret:%s*" % (arn, place, settings["secret_prefix"])]),
            allow("Parameters", ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
                  ["%s:ssm:%s:parameter/%s*" % (arn, place, settings["secret_prefix"])]),
            # AmazonSSMManagedInstanceCore would also read every parameter of the account.
            allow("SessionManager", ["ssm:UpdateInstanceInformation"], ["%s:ec2:%s:instance/*" % (arn, place)]),
            allow("Sessions", [
                "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel"
            ], ["*"]),
            *of_buckets(settings),
            *of_tables(settings, place),
            *of_ecs(settings, place),
        ],
    }


class FilterModule:
    """Filters of role aws_iam."""

    def filters(self):
        """Return them by name."""
        return {"aws_policy": aws_policy}
