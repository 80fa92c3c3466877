"""Names the file where a file of variables cannot be read. Ansible's own plugin host_group_vars gives the reason
without the file.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: files_are_readable
short_description: Name the file of variables that cannot be read
version_added: 1.0.0
author: The Windsock contributors
description:
  - Reads the files in C(group_vars) and C(host_vars) before Ansible's own plugin
    P(ansible.builtin.host_group_vars#vars) does, and brings no variables.
  - A file that is not valid YAML, that no vault password opens, or that does not hold variables stops the run. The
    message names file, line and column.
options: {}
"""

import os

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.group import InventoryObjectType
from ansible.parsing.vault import AnsibleVaultError
from ansible.plugins.vars import BaseVarsPlugin
from ansible.utils.path import basedir

# (directory, name) of what was read already: this is called for every host.
SEEN: set[tuple[str, str]] = set()


VAULT = (
    "Give the password that the file was encrypted with: --ask-vault-pass, --vault-password-file, or "
    "vault_password_file in ansible.cfg."
)


def problem(path, loader):
    """What is wrong with the file, without a line of its content; None where it can be read."""
    try:
        data = loader.load_from_file(path, cache="all", unsafe=True, trusted_as_template=True)
    except AnsibleError as error:
        # Where the error is, the exception of YAML says; that of the vault does not.
        numbers = [
            str(number) for number in (getattr(error.obj, "line_num", None), getattr(error.obj, "col_num", None))
            if number
        ]
        return "{0}: Ansible cannot read this file of variables: {1}. {2} Then run the same command again.".format(
            ":".join([path, *numbers]),
            str(error).rstrip("."), VAULT if isinstance(error, AnsibleVaultError) else "Correct the file.")
    if data and not isinstance(data, dict):
        return ("{0}: this file of variables holds {1} where names with values belong. Valid are lines such as "
                "airflow_log_format: json.").format(
            path, "a list" if isinstance(data, list) else "a single value")
    return None


class VarsModule(BaseVarsPlugin):
    """Called by Ansible."""

    REQUIRES_ENABLED = False
    is_stateless = True

    def get_vars(self, loader, path, entities, cache=True):
        """Return no variables, or raise an error."""
        super().get_vars(loader, path, entities)
        for entity in entities if isinstance(entities, list) else [entities]:
            kind = "host_vars" if entity.base_type is InventoryObjectType.HOST else "group_vars"
            directory = os.path.join(os.path.realpath(basedir(path)), kind)
            if (directory, entity.name) in SEEN or entity.name.startswith(os.path.sep):
                continue
            SEEN.add((directory, entity.name))
            for file in loader.find_vars_files(directory, entity.name) if os.path.isdir(directory) else []:
                text = problem(file, loader)
                if text:
                    raise AnsibleParserError(text)
        return {}
