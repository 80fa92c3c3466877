"""A connection for tests: each host is a directory of this machine, which has the paths of PATHS_OF_TEST.

A host that holds a file named "cut" is out of reach.
"""

import json
import os

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: below
short_description: local, with a directory for each host
extends_documentation_fragment: [connection_pipelining]
options: {}
"""


class Connection(Local):
    """The connection. HOSTS_OF_TEST has the hosts. PATHS_OF_TEST says as JSON where on a host a path is."""

    transport = "below"
    has_pipelining = True

    def place(self, path):
        """Return the path of this machine that a path of the host is at."""
        for name, place in json.loads(os.environ["PATHS_OF_TEST"]).items():
            below = os.path.join(os.environ["HOSTS_OF_TEST"], self._play_context.remote_addr, place)
            path = path.replace(name, os.path.normpath(below))
        return path

    def exec_command(self, cmd, in_data=None, sudoable=True):
        answer = super().exec_command(
            self.place(cmd), self.place(in_data.decode()).encode() if in_data else in_data, sudoable
        )
        if os.path.exists(os.path.join(os.environ["HOSTS_OF_TEST"], self._play_context.remote_addr, "cut")):
            raise AnsibleConnectionFailure("the network is gone")
        return answer

    def put_file(self, in_path, out_path):
        super().put_file(in_path, self.place(out_path))

    def fetch_file(self, in_path, out_path):
        super().fetch_file(self.place(in_path), out_path)
