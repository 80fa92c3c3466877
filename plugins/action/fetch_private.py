"""ansible.builtin.fetch for files that only the user of the controller may read: files get mode 0600, new directories
0700.

The builtin fetch has no mode, and a change of the mode afterwards would leave the file open to others while it arrives.
"""

from __future__ import annotations

import os

from ansible.plugins.action.fetch import ActionModule as Fetch


class ActionModule(Fetch):
    """The action. Its arguments and results are those of ansible.builtin.fetch."""

    def run(self, tmp=None, task_vars=None):
        """Fetch under a umask that also holds for the programs that the connection starts (sftp)."""
        before = os.umask(0o077)
        try:
            result = super().run(tmp, task_vars)
        finally:
            os.umask(before)
        path = result.get("dest")
        # A file of an earlier run keeps its mode when it is overwritten.
        if path and os.path.isfile(path) and os.stat(path).st_mode & 0o777 != 0o600:
            os.chmod(path, 0o600)
            result["changed"] = True
        return result
