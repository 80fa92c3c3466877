"""Python looks for garbage less often in every playbook of the repository."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = """
import atexit, gc
from ansible.cli.playbook import main
atexit.register(lambda: print("THRESHOLD", gc.get_threshold()[0]))
main()
"""


def test_the_plugin_is_loaded():
    command = [
        sys.executable, "-c", PROGRAM, "-i", "inventories/single_node/hosts.yml", "playbooks/verify.yml", "--list-hosts"
    ]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert "THRESHOLD 50000" in done.stdout, done.stdout + done.stderr
