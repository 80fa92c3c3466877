"""A command in a terminal, as a person runs it: prompts are answered, and what the screen shows is returned."""

import os
import pty
import re
import select
import signal
import time

# What this machine needs to reach a package index. Empty on most machines.
NEEDED_HERE = ("SSL_CERT_FILE", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "http_proxy", "https_proxy", "no_proxy")
# What colours a terminal.
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def type_in(command, answers, environment, cwd, timeout=1200):
    """Run a command in a terminal. `answers` maps the end of a prompt to what is typed there. Return the exit code and
    the text of the screen.
    """
    process, terminal = pty.fork()
    if process == 0:
        try:
            os.chdir(cwd)
            os.execvpe(command[0], command, environment)
        finally:
            # The copy of pytest must not go on.
            os._exit(127)
    shown, answered, end = "", 0, time.monotonic() + timeout
    while True:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            shown += f"\n(killed after {timeout} s)"
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            read = os.read(terminal, 65536)
        except OSError:
            # The other end is closed.
            break
        if not read:
            break
        shown += read.decode(errors="replace")
        for prompt, answer in answers.items():
            if shown[answered:].rstrip().endswith(prompt):
                os.write(terminal, answer.encode() + b"\n")
                answered = len(shown)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return code, CODES.sub("", shown).replace("\r\n", "\n")


def recap(shown):
    """Numbers of the last recap of ansible-playbook."""
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", shown[shown.rindex("PLAY RECAP"):])}


def changed_tasks(shown):
    """Names of the tasks that changed something, each with its role before it."""
    found, task = [], ""
    for line in shown.splitlines():
        if header := re.match(r"(?:TASK|RUNNING HANDLER) \[(.+)\] \*", line):
            task = header[1]
        elif task and line.startswith("changed: ["):
            # A loop has a line for each item.
            found.append(task)
            task = ""
    return found
