"""Renders for module files what its items name as templates."""

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template


class ActionModule(ActionBase):
    """The action."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Run the module with contents in place of templates."""
        result = super().run(tmp, task_vars)
        files = [
            self.with_content(item, task_vars) if isinstance(item, dict) else item
            for item in self._task.args.get("files") or []
        ]
        result.update(
            self._execute_module("windsock.airflow.files", {**self._task.args, "files": files}, task_vars=task_vars))
        return result

    def with_content(self, item, task_vars):
        """Return the item as the module knows it."""
        rest = {key: value for key, value in item.items() if key not in ("template", "template_vars")}
        if item.get("template") is None:
            return rest
        if item.get("content") is not None:
            raise AnsibleActionFail(f"{item.get('path')}: content and template exclude each other.")
        return {**rest, "content": self.render(item["template"], item.get("template_vars") or {}, task_vars)}

    def render(self, name, more, task_vars):
        """Return what a template of the role gives. The lookup of that name does the same, but copies all variables
        first, each time.
        """
        try:
            path = self._find_needle("templates", name)
        except AnsibleError as error:
            raise AnsibleActionFail(str(error)) from error
        # The last one is for a template of the site, which ours include by its absolute path.
        places = [
            os.path.dirname(path),
            *(os.path.join(place, "templates") for place in task_vars.get("ansible_search_path", [])),
            "/",
        ]
        variables = {"ansible_managed": "Ansible managed", **task_vars, **more}
        templar = self._templar.copy_with_new_env(searchpath=places, available_variables=variables)
        text = templar.template(trust_as_template(self._loader.get_text_file_contents(path)),
                                escape_backslashes=False,
                                overrides={"trim_blocks": True})
        return text or ""
