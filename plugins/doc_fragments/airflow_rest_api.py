# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What the documentation of the modules that ask the REST API has in common."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description: Where the API server answers, without a path.
    type: str
    required: true
  prefix:
    description: Path of the API. Its last digit tells Airflow 2 (C(/api/v1)) from Airflow 3 (C(/api/v2)).
    type: str
    required: true
  token_path:
    description: Path that gives a token for user and password. Empty uses them themselves.
    type: str
    default: ""
  user:
    description: Who signs in.
    type: str
    required: true
  password:
    description: The user's password.
    type: str
    required: true
author:
  - The Windsock contributors
"""
