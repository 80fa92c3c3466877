#!/usr/bin/env python3
"""Run site.yml again and again, interrupted at another kill point each time: interrupt.py INVENTORY.

Exits with 1 where a point is never reached, or where a run does not notice that it has lost its connection.
"""

import subprocess
import sys
import time

import long_run
import power
from killed import noticed, run_until, run_without_connection

HOST = "airflow-interrupted"
# A kill point, the seconds after it that the run is interrupted, and how: KILL ends ansible-playbook with SIGKILL,
# POWER also stops every process of the host, and CONNECTION ends only the SSH sessions, so that ansible-playbook must
# notice. Ansible opens a lost connection again for the next task: it says UNREACHABLE for a task that runs meanwhile,
# and these take seconds.
KILL, POWER, CONNECTION = "killed", "without power", "without its connection"
POINTS = [
    # In the middle of the work of dpkg.
    ("kill_point: install_packages", 4, POWER),
    ("kill_point: build_virtualenv", 4, POWER),
    # Of dpkg again, and of the build.
    ("kill_point: install_postgresql", 8, POWER),
    # Its build goes on.
    ("kill_point: wait_for_virtualenv", 1, CONNECTION),
    ("kill_point: configure_postgresql", 0, KILL),
    ("kill_point: create_roles", 0, KILL),
    ("kill_point: write_secrets", 0, KILL),
    ("kill_point: write_configuration", 1, KILL),
    # In the middle of the schema, which the next run makes, and the one after finds made.
    ("kill_point: begin_migration", 3, POWER),
    ("kill_point: wait_for_migration", 0, KILL),
    ("kill_point: write_units", 0, KILL),
    # The start goes on.
    ("kill_point: start_units", 3, CONNECTION),
]


def lose_connection():
    """Begin to end the login's sessions on the host, also new ones, for three seconds. The host and what they have
    started there go on.
    """
    end = "for _ in $(seq 30); do pkill -KILL -f '^sshd(-session)?: root@'; sleep 0.1; done"
    return subprocess.Popen(["docker", "exec", HOST, "sh", "-c", end])


def main(inventory):
    """Interrupt a run at every point."""
    command = ["ansible-playbook", "-i", inventory, "site.yml"]
    delay_of = long_run.delays(long_run.SEED)
    for point, seconds, how in POINTS:
        delay = delay_of(seconds)
        begin = time.monotonic()
        if how == CONNECTION:
            reached, code, said = run_without_connection(command, point, delay, lose_connection)
        else:
            reached, said = run_until(command, point, delay)
        if not reached:
            print(said[-6000:])
            sys.exit(
                f"The run ended before it reached {point!r}: an earlier interruption left what it could not repair.")
        if how == CONNECTION and not noticed(code, said):
            print(said[-6000:])
            sys.exit(
                f"The connection was lost {delay:.1f} s after {point!r}, and the run ended with {code}. It must say "
                "UNREACHABLE and end with 4."
            )
        if how == POWER:
            power.restart(HOST)
        print(f"{how} {delay:.1f} s after '{point}' ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
