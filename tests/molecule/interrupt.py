#!/usr/bin/env python3
"""Run site.yml again and again, interrupted at another task each time: interrupt.py INVENTORY.

Exits with 1 where a task is never reached, or where a run does not notice that it has lost its connection.
"""

import subprocess
import sys
import time

import long_run
import power
from killed import noticed, run_until, run_without_connection

HOST = "airflow-interrupted"
# A task's name, the seconds after its start that the run is interrupted, and how: KILL ends ansible-playbook with SIGKILL, POWER also stops every process
# of the host, and CONNECTION ends only the SSH sessions, so that ansible-playbook must notice. Ansible opens a lost connection again for the next task: it
# says UNREACHABLE for a task that runs meanwhile, and these take seconds.
KILL, POWER, CONNECTION = "killed", "without power", "without its connection"
POINTS = [
    # In the middle of the work of dpkg.
    ("Install the system packages", 4, POWER),
    ("Begin to build the virtualenv", 4, POWER),
    # Of dpkg again, and of the build.
    ("packages | Install PostgreSQL", 8, POWER),
    # Its build goes on.
    ("Wait for the virtualenv", 1, CONNECTION),
    ("Write the settings and who may connect", 0, KILL),
    ("Create the roles", 0, KILL),
    ("Write the secrets", 0, KILL),
    ("Write the configuration, once Airflow", 1, KILL),
    # In the middle of the schema, which the next run makes, and the one after finds made.
    ("Begin to bring the schema up to date", 3, POWER),
    ("Wait until the database is up to date", 0, KILL),
    ("Write the units", 0, KILL),
    # The start goes on.
    ("Start or restart them together", 3, CONNECTION),
]


def lose_connection():
    """Begin to end the login's sessions on the host, also new ones, for three seconds. The host and what they have started there go on."""
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
            sys.exit(f"The run ended before it reached {point!r}: an earlier interruption left what it could not repair, or the task has another name now.")
        if how == CONNECTION and not noticed(code, said):
            print(said[-6000:])
            sys.exit(f"The connection was lost {delay:.1f} s into {point!r}, and the run ended with {code}. It must say UNREACHABLE and end with 4.")
        if how == POWER:
            power.restart(HOST)
        print(f"{how} {delay:.1f} s into '{point}' ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
