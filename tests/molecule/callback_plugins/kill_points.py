"""Says each kill point that a run comes to, before its task begins: tests/molecule/killed.py."""

import linecache
import re

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Prints the comment `kill_point: <id>` below the name of a task, and that of an import at its first task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_NAME = "kill_points"

    def __init__(self):
        super().__init__()
        self.said = set()

    def v2_playbook_on_task_start(self, task, is_conditional):
        """Look at the line below that of the task, and below those of what it stands in: blocks and imports."""
        place = task
        while place is not None:
            path, _, number = (place.get_path() or "").rpartition(":")
            point = re.search(r"# (kill_point: \w+)", linecache.getline(path, int(number or -1) + 1))
            if point and point[1] not in self.said:
                self.said.add(point[1])
                self._display.display(point[1])
            place = place._parent
