# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What the documentation of the modules that make secrets has in common."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  generate:
    description:
      - Secrets to return, and to make where absent, name to kind.
      - "C(fernet): a Fernet key. C(token): 64 URL-safe characters. C(password): 32 letters and digits."
    type: dict
    default: {}
  renew:
    description:
      - Names of O(generate) that get a new secret although there is one.
      - A new Fernet key is put in front of those that are there, so that what they have encrypted stays readable.
    type: list
    elements: str
    default: []
  known:
    description:
      - Secrets of O(generate) as another place knows them, name to value.
      - A secret is made only if it is absent both here and there.
    type: dict
    default: {}
  values:
    description: Secrets to write, name to value.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Nothing is written; a secret that would be made is returned as a sample of its kind.
  diff_mode:
    support: none
    description: A difference would show secrets.
notes:
  - Returns the secrets of O(generate), so use C(no_log) on the task.
author:
  - The Windsock contributors
"""
