#!/usr/bin/env python3
"""Run site.yml again and again, killed with SIGKILL at another task each time: interrupt.py INVENTORY. Exits with 1 where a point is never reached."""

import sys
import time

import long_run
import power
from killed import run_until

HOST = "airflow-interrupted"
# A task's name, the seconds after its start that the run is killed, and whether the host loses its power too. An ordinary run has those of EACH_KIND,
# the long part "interrupted" all of them.
POINTS = [
    # In the middle of the work of dpkg.
    ("Install the system packages", 4, True),
    ("Begin to build the virtualenv", 4, True),
    # Of dpkg again, and of the build.
    ("packages | Install PostgreSQL", 8, True),
    ("Wait for the virtualenv", 1, False),
    ("Write the settings and who may connect", 0, False),
    ("Create the roles", 0, False),
    ("Write the secrets", 0, False),
    ("Write the configuration, once Airflow", 1, False),
    # In the middle of the schema, which the next run makes, and the one after finds made.
    ("Begin to bring the schema up to date", 3, True),
    ("Wait until the database is up to date", 0, False),
    ("Write the units", 0, False),
    ("Start or restart them together", 3, False),
]
EACH_KIND = {
    # With a loss of power: dpkg, the build in the background, the schema.
    "Install the system packages", "Begin to build the virtualenv", "Begin to bring the schema up to date",
    # Without: the build goes on by itself; a file is written; services start.
    "Wait for the virtualenv", "Write the secrets", "Start or restart them together",
}


def main(inventory):
    """Kill a run at every point."""
    delay_of = long_run.delays(long_run.SEED)
    for point, seconds, loses_power in POINTS:
        if long_run.PART != "interrupted" and point not in EACH_KIND:
            continue
        delay = delay_of(seconds)
        begin = time.monotonic()
        reached, said = run_until(["ansible-playbook", "-i", inventory, "site.yml"], point, delay)
        if not reached:
            print(said[-6000:])
            sys.exit(f"The run ended before it reached {point!r}: an earlier kill left what it could not repair, or the task has another name now.")
        if loses_power:
            power.restart(HOST)
        print(f"killed {delay:.1f} s into '{point}' ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
