"""Find out which alarms differ from what is declared, and compose the dashboard."""

import itertools

# Options of cloudwatch_metric_alarm that cloudwatch_metric_alarm_info returns under another name.
RENAMED = {"name": "alarm_name", "description": "alarm_description", "comparison": "comparison_operator"}


def arguments(alarm, prefix, topic):
    """Return the options of module cloudwatch_metric_alarm for an alarm as vars/main.yml declares it."""
    wanted = {
        "name": "%s/%s" % (prefix, alarm["name"]),
        "description": "%s What to do: docs/alarms.md#%s" % (alarm["says"], alarm.get("section", alarm["name"])),
        "comparison": alarm["comparison"],
        "threshold": alarm["threshold"],
        "evaluation_periods": alarm["periods"],
        "treat_missing_data": alarm["missing"],
        "alarm_actions": alarm.get("actions", []) + [topic],
        "ok_actions": [topic],
    }
    period = alarm["minutes"] * 60
    if "query" in alarm:
        wanted["metrics"] = [{"id": "q1", "expression": alarm["query"], "period": period, "return_data": True}]
    else:
        wanted.update(alarm["metric"], statistic="Maximum", period=period)
    return wanted


def of_instances(alarm):
    """Return the alarm, or one alarm for each of its instances."""
    if "instances" not in alarm:
        return [alarm]
    return [
        {**alarm, "name": f"{alarm['name']}-{instance}", "says": alarm["says"].format(instance),
         "metric": {**alarm["metric"], "dimensions": {"InstanceId": instance}}}
        for instance in alarm["instances"]
    ]


def same(wanted, found):
    """Say whether all that is wanted is found; what AWS adds of its own does not count."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(same(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(map(same, wanted, found))
    return wanted == found


def aws_alarms_due(declared, found, prefix, topic):
    """Return the module's options for each alarm that is not as declared.

    The module itself takes every alarm on a query for a changed one.
    """
    known = {one["alarm_name"]: one for one in found}
    due = []
    for alarm in itertools.chain.from_iterable(map(of_instances, declared)):
        wanted = arguments(alarm, prefix, topic)
        compared = {RENAMED.get(key, key): value for key, value in wanted.items()}
        if "dimensions" in compared:
            compared["dimensions"] = [{"name": key, "value": value} for key, value in compared["dimensions"].items()]
        if not same(compared, known.get(wanted["name"])):
            due.append(wanted)
    return due


def aws_dashboard(declared, namespace, region, database=""):
    """Return the body of the dashboard: three charts in a row. database: the RDS instance, if there is one."""
    charts = []
    for chart in declared:
        by = chart.get("by")
        metrics = []
        for number, name in enumerate(chart["metrics"], 1):
            query = f'SELECT {chart["statistic"]}({name}) FROM "{namespace}"' + (f" GROUP BY {by}" if by else "")
            metrics.append([{"expression": query, "label": "" if by else name, "id": f"q{number}"}])
        charts.append({"title": chart["title"], "period": chart.get("minutes", 1) * 60, "metrics": metrics})
    if database:
        charts.append({"title": "Database connections", "period": 60, "stat": "Maximum",
                       "metrics": [["AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", database]]})
    return {"widgets": [
        {"type": "metric", "x": number % 3 * 8, "y": number // 3 * 6, "width": 8, "height": 6,
         "properties": {"region": region, "view": "timeSeries", **chart}}
        for number, chart in enumerate(charts)
    ]}


class FilterModule:
    """Filters of role aws_observability."""

    def filters(self):
        """Return them by name."""
        return {"aws_alarms_due": aws_alarms_due, "aws_dashboard": aws_dashboard}
