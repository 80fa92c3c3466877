#!/usr/bin/env python3
"""Count the tests of a JUnit report: junit_counts.py REPORT prints how many passed, failed and were skipped. A missing report counts as no test."""

import pathlib
import sys
import xml.etree.ElementTree as tree


def counts(report):
    """Return (passed, failed, skipped)."""
    found = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    if pathlib.Path(report).exists():
        for suite in tree.parse(report).iter("testsuite"):
            for key in found:
                found[key] += int(suite.get(key, 0))
    failed = found["failures"] + found["errors"]
    return max(found["tests"] - failed - found["skipped"], 0), failed, found["skipped"]


if __name__ == "__main__":
    print(*counts(sys.argv[1]))
