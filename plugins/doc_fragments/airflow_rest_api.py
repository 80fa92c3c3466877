# Copyright the Airflow installer's contributors
# Apache License 2.0 (see LICENSE)

"""What the documentation of the modules that ask the REST API has in common."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description: Where the API server listens.
    type: str
    required: true
  prefix:
    description: What the paths of the API begin with, C(/api/v1) or C(/api/v2).
    type: str
    required: true
  token_path:
    description: Path that gives a token; empty where the API takes user and password.
    type: str
    default: ""
  user:
    description: User that asks.
    type: str
    required: true
  password:
    description: The user's password.
    type: str
    required: true
author:
  - The Airflow installer's contributors
"""
