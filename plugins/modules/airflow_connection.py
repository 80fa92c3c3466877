#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep one connection of Airflow as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_connection
short_description: Keep a connection of Airflow
version_added: 1.0.0
description:
  - Makes, changes or removes one connection. Values are compared decrypted, so that an unchanged password is no change.
  - The connection is declared as a whole, a field that is left out is empty afterwards.
options:
  name:
    description: The connection's id (C(conn_id)).
    type: str
    required: true
  conn_type:
    description: Type, one of those of the installed providers or of O(connection_types). Needed where there is no
      O(uri).
    type: str
  description:
    description: What it is for.
    type: str
  host:
    description: Host name or address.
    type: str
  login:
    description: Login.
    type: str
  password:
    description: Password.
    type: str
  schema:
    description: Schema, or what the type takes this field for.
    type: str
  port:
    description: Port, 1 to 65535.
    type: int
  extra:
    description: What else the type knows, as JSON.
    type: json
  uri:
    description: All but the description as one URI in Airflow's form. Excludes the other fields.
    type: str
  connection_types:
    description: Connection types that are valid besides those of the installed providers.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
  - windsock.airflow.airflow_objects.state
seealso:
  - module: windsock.airflow.airflow_state
    description: All objects at once.
"""

EXAMPLES = r"""
- name: A connection to the warehouse
  windsock.airflow.airflow_connection:
    name: warehouse
    conn_type: postgres
    host: db.example.com
    schema: warehouse
    login: etl
    password: "{{ vault_warehouse_password }}"
    extra: {sslmode: require}

- name: The same as a URI
  windsock.airflow.airflow_connection:
    name: warehouse
    uri: >-
      postgres://etl:{{ vault_warehouse_password | urlencode | replace('/', '%2F')
      }}@db.example.com/warehouse?sslmode=require

- name: None
  windsock.airflow.airflow_connection:
    name: warehouse
    state: absent
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode. No values.
  returned: success
  type: list
  elements: dict
  sample: [{kind: connection, name: warehouse, action: update, fields: [password]}]
"""

from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import CONNECTION_TYPES, one_object


def main():
    one_object("connections", {
        "conn_type": {"type": "str"},
        "description": {"type": "str"},
        "host": {"type": "str"},
        "login": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "schema": {"type": "str"},
        "port": {"type": "int"},
        "extra": {"type": "json", "no_log": True},
        "uri": {"type": "str", "no_log": True},
    }, **CONNECTION_TYPES)


if __name__ == "__main__":
    main()
