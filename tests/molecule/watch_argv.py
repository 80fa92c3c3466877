#!/usr/bin/env python3
"""Write down every command line of this host in /root/argv: each is for all its users to read.

It looks fifty times a second, so what lives for a shorter time can be missed.
"""

import os
import time

os.umask(0o077)
seen = set()
with open("/root/argv", "ab", buffering=0) as output:
    while True:
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    line = file.read()
            except OSError:  # it has ended
                continue
            if line not in seen:
                seen.add(line)
                output.write(line.replace(b"\0", b" ") + b"\n")
        time.sleep(0.02)
