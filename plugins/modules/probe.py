#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Documentation of action probe, which does all of the work on the controller."""

DOCUMENTATION = r"""
---
module: probe
short_description: Ask a host something, with a program or script that only reads
version_added: 1.0.0
description:
  - As C(ansible.builtin.command) with I(argv) and I(stdin), for questions. Never C(changed), and asked in check mode
    too.
  - Takes half of the time of a module, because no Python is sent to the host and compiled there. Where the connection
    has no pipelining
    (C(amazon.aws.aws_ssm), or turned off), it is C(ansible.builtin.command) that runs.
options:
  argv:
    description:
      - Program and arguments. Without it, I(stdin) is a script of the POSIX shell.
      - As with any command, they can be read in the host's list of processes. A secret goes into I(stdin).
    type: list
    elements: str
    default: [sh, -s]
  stdin:
    description: What the program reads from standard input, as it is.
    type: str
    default: ""
  removes:
    description: Where this path of the host is absent, nothing is run, and the answer is empty.
    type: str
  wait:
    description:
      - Seconds. While the program exits with 75, which means "not yet", it is run again at once, for so long. It paces
        itself, such as with
        C(flock --timeout 5).
      - The last line that it printed is shown every 30 seconds.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Reads only, so it is run.
  diff_mode:
    support: none
    description: Shows no difference.
notes:
  - An exit code other than 0 fails the task, as for C(ansible.builtin.command). 255 is what SSH says of a host that
    can't be
    reached. Neither arguments nor input are written to the host's log.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Ask what is there
  windsock.airflow.probe:
    stdin: |
      [ ! -e /etc/example ] || echo example
      systemctl is-active example.service || true
  register: asked
"""

RETURN = r"""
rc:
  description: Exit code of the program.
  returned: always
  type: int
  sample: 0
stdout:
  description: What it printed, without the last line break. C(stdout_lines), C(stderr) and C(stderr_lines) are there
    too.
  returned: always
  type: str
  sample: example
"""
