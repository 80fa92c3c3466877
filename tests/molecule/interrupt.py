#!/usr/bin/env python3
"""Run site.yml again and again, killed with SIGKILL at another task each time: interrupt.py INVENTORY. Exits with 1 where a point is never reached.

What a killed run started on the host goes on there, as it does when a connection is lost.
"""

import os
import re
import signal
import subprocess
import sys
import time

HOST = "airflow-interrupted"
# A task's name, the seconds after its start that the run is killed, and whether the host loses its power too.
POINTS = [
    ("Begin to build the virtualenv", 4, True),
    # In the middle of the work of dpkg, and of the build again.
    ("Install PostgreSQL with apt", 8, True),
    ("Wait for the virtualenv", 1, False),
    ("Write the settings and who may connect", 0, False),
    ("Create the roles", 0, False),
    ("Write the secrets", 0, False),
    ("Write the configuration, once Airflow", 1, False),
    ("Bring the schema up to date", 3, False),
    ("Write the units", 0, False),
    ("Start or restart them together", 3, False),
    ("Install logrotate and rsyslog", 1, False),
]


def lose_power():
    """Stop every process of the host at once, and start it again."""
    subprocess.run(["docker", "kill", HOST], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["docker", "start", HOST], check=True, stdout=subprocess.DEVNULL)
    started = "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.2; done"
    subprocess.run(["docker", "exec", HOST, "sh", "-c", started], check=True, timeout=60)


def run_until(inventory, point, delay):
    """Start site.yml and kill it. Return whether the point was reached."""
    # Without it a task is named when its first result is there, which is when it has ended.
    environment = {**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
    process = subprocess.Popen(
        ["ansible-playbook", "-i", inventory, "site.yml"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment,
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if re.match(rf"TASK \[.*{re.escape(point)}", line):
            time.sleep(delay)
            # Ansible's workers have sessions of their own, and would wait for ever for the one that is gone.
            workers = subprocess.run(["pgrep", "--parent", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
            os.killpg(process.pid, signal.SIGKILL)
            for worker in workers:
                subprocess.run(["kill", "-KILL", worker], stderr=subprocess.DEVNULL, check=False)
            process.wait()
            return True
    process.wait()
    print("".join(seen[-60:]))
    return False


def main(inventory):
    """Kill a run at every point."""
    for point, delay, power in POINTS:
        begin = time.monotonic()
        if not run_until(inventory, point, delay):
            sys.exit(f"The run ended before it reached {point!r}: an earlier kill left what it could not repair, or the task has another name now.")
        if power:
            lose_power()
        print(f"killed {delay} s into '{point}' ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
