"""The objects that scenario deploy_dags declares, as JSON: 100 connections, 100 variables, 20 pools, 10 users. Always
the same ones.
"""

import json

# In every secret, so that a test can look for it.
MARKER = "horse-battery"
TRICKY = [
    "two words",
    "it's \"quoted\"",
    "100% & more",
    "{{ no.template }} {% raw %}",
    "line one\nline two\n",
    "Grüße, 世界 \N{BATTERY}",
    "back\\slash $HOME `id`",
    " blanks at the ends ",
    "a/b:c@d#e?f",
    "null",
]


def objects():
    connections = {}
    for number in range(90):
        tricky = TRICKY[number % len(TRICKY)]
        connections[f"connection-{number}"] = {
            "conn_type": ["postgres", "http", "aws", "generic", "kafka"][number % 5],
            "description": f"{number} {tricky}",
            "host": f"host-{number}.example.com",
            "login": f"login {tricky}",
            "password": f"{MARKER}-{number} {tricky}",
            "schema": f"schema {tricky}",
            "port": 1000 + number,
            "extra": {"number": number, "text": f"{MARKER} {tricky}", "deep": {"list": [tricky, True, None]}},
        }
    for number in range(90, 100):
        connections[f"connection-{number}"] = {
            "uri": f"http://me:{MARKER}-{number}%20%40%2F@https%3A%2F%2Fh-{number}.example.com:443/s?token={MARKER}&a=%26"
        }
    values = [30, 0.8, True, {"regions": ["eu", "us"], "limit": 5}, [1, "two", None]]
    variables = {
        f"variable {number}": {
            "value": values[number % 5] if number % 2 else f"{TRICKY[number % 10]} {MARKER}",
            "description": TRICKY[number % 10]
        }
        for number in range(100)
    }
    pools = {
        f"pool {number}": {
            "slots": number - 1, "description": TRICKY[number % 10], "include_deferred": number % 2 == 1
        }
        for number in range(20)
    }
    roles = {
        "Reader": {
            "permissions": {"DAGs": ["can_read"], "Website": ["can_read"], "My Profile": ["can_read", "can_edit"]}
        }
    }
    users = {
        f"user-{number}": {
            "email": f"user-{number}@example.com",
            "first_name": TRICKY[number][:20],
            "last_name": "Ünal",
            "roles": ["Reader", "Viewer"][:1 + number % 2],
            "password": f"{MARKER}-{number} {TRICKY[number]}",
        }
        for number in range(10)
    }
    return {"connections": connections, "variables": variables, "pools": pools, "roles": roles, "users": users}


if __name__ == "__main__":
    print(json.dumps(objects()))
