"""A dry run on an installed host tells the truth: nothing would change."""

import os
import re
import subprocess

from conftest import LOG_PATH, ROOT


def test_dry_run_on_the_installed_host_predicts_no_change():
    run = subprocess.run(
        ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "--check", "--diff", "site.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true", "ANSIBLE_LOG_PATH": LOG_PATH},
        text=True,
        capture_output=True,
        check=False,
    )
    code, counts = run.returncode, [int(number) for number in re.findall(r" changed=(\d+)", run.stdout)]
    assert code == 0, run.stdout + run.stderr
    assert counts, run.stdout
    assert sum(counts) == 0, run.stdout
