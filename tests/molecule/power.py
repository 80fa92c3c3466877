"""A host that loses its power: all its processes end at once, and, where a test asks for that, what is not on its disk
is gone.
"""

import json
import pathlib
import subprocess
import tempfile
import time

from killed import kill

HERE = pathlib.Path(__file__).parent
# It ends once there is a mark that is newer than the command which makes it.
WAIT = 'until [ -n "$(find "$0" -mindepth 2 -maxdepth 2 -name "$1" -newer /run/begun)" ]; do sleep 0.1; done'


def restart(name):
    """Stop every process of the host at once, and start it again. The machine below writes to the disk what the host
    had not written.
    """
    subprocess.run(["docker", "kill", name], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["docker", "start", name], check=True, stdout=subprocess.DEVNULL)
    started = "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.2; done"
    subprocess.run(["docker", "exec", name, "sh", "-c", started], check=True, timeout=180)


def ask(name, program, *arguments):
    """Run a program of this directory on the host, and return what it prints."""
    done = subprocess.run(["docker", "exec", "-i", name, "python3", "-", *arguments],
                          input=(HERE / program).read_bytes(),
                          capture_output=True,
                          check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def lose_after(name, command, directory, mark, delay, **options):
    """Lose power and unwritten files these seconds after the command has made a new mark in a directory below this one.
    Return the files.
    """
    subprocess.run(["docker", "exec", name, "touch", "/run/begun"], check=True)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        run = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True, **options)
        marked = subprocess.Popen(["docker", "exec", name, "timeout", "900", "sh", "-c", WAIT, directory, mark])
        try:
            while marked.poll() is None and run.poll() is None:
                time.sleep(0.1)
            if marked.poll() != 0:
                said.seek(0)
                raise AssertionError(f"no new {mark} in {directory}\n{said.read()[-6000:]}")
            time.sleep(delay)
            lost = ask(name, "lose_unwritten.py", name)
        finally:
            marked.kill()
            if run.poll() is None:
                kill(run)
            run.wait()
    restart(name)
    return lost
