#!/usr/bin/env python3
"""Run a long test, which no ordinary run of bin/test contains, and append its result to bench/long.md.

bin/test calls `long_tests.py scenarios PART` for the scenarios that the part needs, then `long_tests.py run PART
[--seeds A-B]`. Each seed runs the part's scenarios from a bare host. Tests take the part and the seed from
tests/molecule/long_run.py.
"""

import argparse
import datetime
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from count_results import allowed_skips, read

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOG_DIR = ROOT / "artifacts/logs"
TABLE = ROOT / "bench/long.md"
# Minutes that one call may take, and those of them that are kept for the removal of its hosts.
LIMIT, REMOVAL = 100, 2


class Part(NamedTuple):
    """Tests with the marker long("<name of the part>"), or what a scenario does before its tests."""

    scenarios: tuple
    runs: str
    # What the scenarios' molecule.yml read.
    environment: dict = {}


PARTS = {
    "debian12": Part(("new_user", ), "the README's road, from setup to removal, on a fresh Debian 12 server",
                     {"AIRFLOW_TEST_SYSTEM": "debian12"}),
    "deploys": Part(
        ("deploy_dags", "airflow2"),
        "twenty deploys under forty tasks, deploys killed in each of seven phases, in the order of the seed"),
    "diagnosis": Part(
        ("runbooks", ),
        "all faults, in the order of the seed; a scheduler that hangs five times in a row; a database that is away"),
    "environment": Part(
        ("environment", ),
        "site.yml twenty times on two hosts, in orders, with limits and from controllers of the seed; a refused stop"),
    "interrupted": Part(("interrupted", ),
                        "site.yml interrupted at twelve tasks, each after a delay from the seed, then run to its end"),
    "pages": Part(("new_user", ), "the commands of the pages on mail, time zones and requirements of DAGs"),
    "power": Part((
        "deploy_dags",
    ), "power is lost ten times after a build of the virtualenv and ten times after a DAG release, at moments of the "
       "seed"
                  ),
    "proxy": Part(("debian13", ),
                  "a reload of nginx that was never made, a certificate that has expired, one of an ACME server"),
    "removal": Part(
        ("default", ),
        "Airflow is removed, installed again beside the database that stayed, and removed with all that it has"),
    "restarts": Part(
        ("default", "airflow2"),
        "twenty running tasks outlive a restart of every component, in the order of the seed; stops, starts"),
    "rotations": Part(
        ("secrets", "airflow2", "alternative"),
        "rotations of secrets, killed at each of fifteen steps after a delay from the seed; on Airflow 2; in AWS"),
    "site": Part((
        "default",
    ), "site.yml with moved directories, another Fernet key, a locked apt, two controllers, umasks, and before a first "
       "deploy"
                 ),
    "stops": Part(("runbooks", ), "each operation that stops Airflow, under a running task"),
    "upgrade": Part((
        "airflow2",
    ), "a dry run on Airflow 2.11.2, which becomes 3.3.2 under running tasks, after a migration and a backup that "
       "failed"
                    ),
    "update": Part(("new_user", ),
                   "a site that commit 588c70d installed is moved, updated to this commit, and removed"),
}


def listing():
    return "parts:\n" + "\n".join(f"  {name:<13}{part.runs}" for name, part in PARTS.items())


def seeds(text):
    """'3' or '3-7', as a range. Seed 0 is that of the ordinary run."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise argparse.ArgumentTypeError(f"{text!r}; valid are a number from 1 on and a range of them, such as 1-5")
    return range(first, last + 1)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bin/test --long",
                                     usage="bin/test --long PART [--seeds A-B]",
                                     epilog=listing(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", metavar="PART")
    parser.add_argument("--seeds",
                        type=seeds,
                        default=seeds("1"),
                        metavar="A-B",
                        help="each of them is a run from a bare host (default: 1)")
    given = parser.parse_args(arguments)
    if given.part not in PARTS:
        what = "no part is named" if given.part is None else f"there is no part {given.part!r}"
        sys.exit(f"bin/test --long: {what}\n  Do this: bin/test --long PART [--seeds A-B]\n{listing()}")
    return given


def span(numbers):
    """The text of a range of seeds."""
    return "none" if not numbers else str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def tree():
    """The commit, and whether files differ from it. The table itself does not count: each call changes it."""
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    changed = subprocess.check_output(["git", "status", "--porcelain", "--", ".", ":!bench/long.md"],
                                      cwd=ROOT,
                                      text=True).splitlines()
    return f"{commit} with {len(changed)} changed files" if changed else commit


class Stopped(Exception):
    """The time is up."""


def molecule(scenario, name, seed, log, end):
    """Run a scenario. Return its exit code; raise Stopped where it does not end in time."""
    environment = {**os.environ, "AIRFLOW_TEST_LONG": name, "AIRFLOW_TEST_SEED": str(seed), **PARTS[name].environment,
                   "PYTEST_ADDOPTS": f"--junitxml={log.with_suffix('.xml')}"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(["molecule", "test", "-s", scenario],
                                   cwd=ROOT,
                                   env=environment,
                                   stdin=subprocess.DEVNULL,
                                   stdout=file,
                                   stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            return process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Stopped from None
        finally:
            if process.poll() is None:
                stop(process)
                subprocess.run(["molecule", "destroy", "-s", scenario],
                               cwd=ROOT,
                               stdin=subprocess.DEVNULL,
                               stdout=file,
                               stderr=subprocess.STDOUT,
                               timeout=REMOVAL * 60,
                               check=False)


def stop(process, wait=20):
    """End a process and what it has started: its group, and the workers of Ansible, which have groups of their own."""
    # Asked before anything ends: the parents of what is left are unknown then.
    groups = {process.pid, *descendants(process.pid)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                continue
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue


def descendants(process):
    """Groups of the processes below this one."""
    found = set()
    for line in subprocess.run(["ps", "-o", "pid=,pgid=", "--ppid", str(process)],
                               capture_output=True,
                               text=True,
                               check=False).stdout.splitlines():
        pid, group = map(int, line.split())
        found |= {group, *descendants(pid)}
    return found


def run(name, wanted, minutes=LIMIT):
    """Run the part once for each seed, as far as the time allows. Return the row for the table, and whether all went
    well.
    """
    commit, begun = tree(), time.monotonic()
    end, longest = begun + (minutes - REMOVAL) * 60, 0
    total, failed, done = [0, 0, 0], [], []
    reason = ""
    try:
        for seed in wanted:
            started = time.monotonic()
            # A seed that cannot finish in time is not begun.
            if started + longest > end:
                raise Stopped
            for scenario in PARTS[name].scenarios:
                log = LOG_DIR / f"long-{name}-{scenario}-{seed}.log"
                log.with_suffix(".xml").unlink(missing_ok=True)
                print(f"=== {name}, seed {seed}, scenario {scenario}: begins; its log is {log.relative_to(ROOT)}",
                      flush=True)
                code = molecule(scenario, name, seed, log, end)
                total = [sum(pair) for pair in zip(total, read(log.with_suffix(".xml"), allowed_skips())[:3])]
                print(
                    f"=== {name}, seed {seed}, scenario {scenario}: {'ok' if code == 0 else 'FAILED'} after "
                    f"{time.monotonic() - started:.0f} s",
                    flush=True)
                if code:
                    failed.append(f"{seed} ({scenario})")
            done.append(seed)
            longest = max(longest, time.monotonic() - started)
    except Stopped:
        reason = f"the limit of {minutes} minutes"
    except KeyboardInterrupt:
        reason = "Ctrl-C"
    result = [f"FAILED: seed {', '.join(failed)}" if failed else "incomplete" if reason else "ok"]
    if reason:
        result.append(f"of seeds {span(wanted)} stopped by {reason}")
    passed, bad, skipped = total
    result.append(f"tests: {passed} passed, {bad} failed, {skipped} skipped")
    took = (time.monotonic() - begun) / 60
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    row = f"| {date} | {commit} | {name} | {span(done)} | {took:.0f} | {'; '.join(result)} |"
    return row, not failed and not reason


def main(arguments):
    what, given = arguments[0], parse(arguments[1:])
    if what == "scenarios":
        print(*PARTS[given.part].scenarios, sep="\n")
        return 0
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    row, well = run(given.part, given.seeds)
    with TABLE.open("a", encoding="utf-8") as file:
        print(row, file=file)
    print(f"\nbench/long.md has a new row:\n{row}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
