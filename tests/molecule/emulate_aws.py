#!/usr/bin/env python3
"""Emulate AWS for as long as a test host is there: emulate_aws.py CONTAINER ADDRESS PORT.

It listens on loopback and on ADDRESS, under which the host reaches this machine: on nothing that others reach.
"""

import subprocess
import sys

from moto.server import ThreadedMotoServer

container, address, port = sys.argv[1:]
for one in ("127.0.0.1", address):
    ThreadedMotoServer(one, int(port), verbose=False).start()
subprocess.run(["docker", "wait", container], check=False, stdout=subprocess.DEVNULL)
