"""A host that loses its power: all its processes end at once."""

import subprocess


def restart(name):
    """Stop every process of the host at once, and start it again. The machine below writes to the disk what the host had not written."""
    subprocess.run(["docker", "kill", name], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["docker", "start", name], check=True, stdout=subprocess.DEVNULL)
    started = "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.2; done"
    subprocess.run(["docker", "exec", name, "sh", "-c", started], check=True, timeout=180)
