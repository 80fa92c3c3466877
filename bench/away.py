"""Restart units of Airflow once on this host, and measure it. Runs as root.

python3 away.py UNIT...: prints as JSON the seconds of the stop, of the restart, and those for which the API server
answered nobody.
"""

import json
import subprocess
import sys
import threading
import time
import urllib.request

URLS = ["http://127.0.0.1:8080/api/v2/monitor/health", "http://127.0.0.1:8080/health"]
# A proxy is for the outside.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url):
    """Return whether the API server can reach its database."""
    try:
        return json.load(opener.open(url, timeout=2))["metadatabase"]["status"] == "healthy"
    except (OSError, ValueError, KeyError):
        return False


def moments(unit):
    """Return the seconds since boot at which the unit was last told to stop, and at which it had stopped."""
    names = ["ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic"]
    command = ["systemctl", "show", unit, *(f"--property={name}" for name in names)]
    shown = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines())
    return [int(found[name]) / 1e6 for name in names]


def longest_gap(good):
    """Return the longest time between two answers in a row."""
    return max(two - one for one, two in zip(good, good[1:], strict=False))


def main(units):
    url = next(url for url in URLS if answers(url))
    good, done = [time.monotonic()], threading.Event()

    def watch():
        while not done.is_set():
            if answers(url):
                good.append(time.monotonic())
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        time.sleep(0.5)
        begin = time.monotonic()
        subprocess.run(["systemctl", "restart", *units], check=True)
        restart = time.monotonic() - begin
        limit = time.monotonic() + 60
        while good[-1] < begin + restart and time.monotonic() < limit:
            time.sleep(0.05)
    finally:
        done.set()
        watcher.join()
    if good[-1] < begin + restart:
        sys.exit("the API server did not come back within a minute")
    told, ended = zip(*(moments(unit) for unit in units), strict=True)
    print(json.dumps({"stop": max(ended) - min(told), "away": longest_gap(good), "restart": restart}))


if __name__ == "__main__":
    main(sys.argv[1:])
