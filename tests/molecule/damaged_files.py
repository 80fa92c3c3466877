"""Compare a virtualenv with what its packages say of themselves: damaged_files.py VIRTUALENV. Runs on a test host.

Prints as JSON how many files have a hash in a RECORD, and the files that are damaged.
"""

import base64
import csv
import hashlib
import json
import os
import sys
from pathlib import Path

VENV = Path(sys.argv[1]).resolve()
# Of the installer, and always empty.
EMPTY = [VENV / ".lock"]


def digest(path):
    """The hash of a file, as a RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()


recorded = {}
for record in VENV.glob("lib/python*/site-packages/*.dist-info/RECORD"):
    with open(record, encoding="utf-8", newline="") as file:
        recorded |= {
            Path(os.path.normpath(record.parents[1] / name)): value
            for name, value, _size in csv.reader(file) if value
        }
damaged = [path for path, value in recorded.items() if not path.is_file() or digest(path) != value]
# Bytecode, the RECORDs themselves and what belongs to no package have no hash. None of them is empty.
damaged += [
    path for path in VENV.rglob("*")
    if path.is_file() and path not in recorded and path not in EMPTY and not path.stat().st_size
]
print(json.dumps({"recorded": len(recorded), "damaged": sorted(map(str, damaged))}))
