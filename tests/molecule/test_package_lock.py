"""Another process uses apt, as the upgrades of a new host do: it is shown, waited for, and named where it takes too
long.
"""

import json
import os
import subprocess

import pytest
from conftest import ROOT, host_name
from playbook import SETTINGS

HOLD = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "time.sleep(int(sys.argv[2]))"
)


# A run waits for both in the same way, so each end is seen with one of them.
FRONTEND, LISTS = "/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock"


@pytest.fixture
def holder(host, request):
    """The pid of a process that has a lock of apt."""
    host.check_output("touch %s", request.param)
    host.check_output("systemd-run --quiet --unit hold-apt python3 -c %s %s 3600", HOLD, request.param)
    held = "until grep -q ' {} ' /proc/locks; do sleep 0.1; done"
    pid = host.check_output("systemctl show --property MainPID --value hold-apt")
    host.check_output("timeout 60 sh -c %s", held.format(pid))
    yield pid
    host.run("systemctl stop hold-apt")


def install(host, seconds):
    """Begin to see with the roles' module that a package is there, which it is."""
    return subprocess.Popen(
        [
            "ansible",
            "-i",
            os.environ["MOLECULE_INVENTORY_FILE"],
            host_name(host),
            "--become",
            "-m",
            "windsock.airflow.packages",
            "-a",
            json.dumps({"name": ["python3"], "manager": "apt"}),
            "-e",
            f"airflow_package_lock_timeout={seconds}",
        ],
        cwd=ROOT,
        env={**os.environ, **SETTINGS},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize("holder", [FRONTEND], indirect=True)
def test_it_is_shown_and_waited_for(host, holder):
    with install(host, 600) as process:
        said = ""
        for line in process.stdout:
            said += line
            if "waits for apt" in line:
                assert f"(pid {holder}," in line and "at most 600 s" in line
                host.check_output("systemctl stop hold-apt")
    assert process.returncode == 0 and "waits for apt" in said, said


@pytest.mark.long("site")
@pytest.mark.parametrize("holder", [LISTS], indirect=True)
def test_it_is_named_where_it_takes_too_long(host, holder):
    with install(host, 10) as process:
        said = " ".join(process.stdout.read().split())
    assert process.returncode != 0, said
    for words in (f"(pid {holder},", "python3", "airflow_package_lock_timeout", "run this again"):
        assert words in said
