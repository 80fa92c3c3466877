#!/usr/bin/python3
"""Stand-in for the CloudWatch agent, for tests: its four commands in one file, told apart by name. Sends nothing
anywhere.

It does what a role can get wrong: translates the configuration at each start and refuses a bad one, gives its
directories to run_as_user and changes to it with the groups of /etc/group, and deletes configurations that fetch-config
did not bring.
"""
import argparse
import grp
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path("/opt/aws/amazon-cloudwatch-agent")
JSON = ROOT / "etc/amazon-cloudwatch-agent.json"
JSON_DIR = ROOT / "etc/amazon-cloudwatch-agent.d"
TOML = ROOT / "etc/amazon-cloudwatch-agent.toml"
SECTIONS = {"agent", "logs", "metrics", "traces", "opentelemetry", "csm"}
NO_JSON = 99


def load(paths):
    """Return the merged configuration, or end with a message as the real translator does."""
    merged = {}
    for path in paths:
        try:
            config = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            sys.exit(f"E! {path}: {error}")
        if not isinstance(config, dict) or not config or set(config) - SECTIONS:
            sys.exit(f"E! Invalid Json input schema: {path} may have the sections {sorted(SECTIONS)} and needs one")
        for name, section in config.items():
            if not isinstance(section, dict):
                sys.exit(f"E! Invalid Json input schema: {path}: {name} is not a mapping")
            merged.setdefault(name, {}).update(section)
    if not merged:
        print("No json config files found", file=sys.stderr)
        sys.exit(NO_JSON)
    return merged


def sources():
    """Return the files that a start reads."""
    return [path for path in [JSON, *sorted(JSON_DIR.glob("*"))] if path.is_file()]


def config_translator():
    """Check a configuration and write what was understood beside the output, as the real one does."""
    parser = argparse.ArgumentParser()
    for option in ("--input", "--input-dir", "--output", "--config"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--mode", choices=["ec2", "onPremise", "onPrem", "auto"])
    parser.add_argument("--multi-config", default="remove")
    args = parser.parse_args()
    if args.config and not args.config.is_file():
        sys.exit(f"E! Failed to open common-config file {args.config}")
    paths = [
        path for path in [args.input, *sorted(args.input_dir.glob("*") if args.input_dir else [])]
        if path and path.is_file()
    ]
    merged = load(paths)
    args.output.write_text(json.dumps(merged, indent=1))
    (args.output.parent / "env-config.json").write_text("{}")


def start():
    """Translate, change owner and user, become the agent."""
    log = ROOT / "logs/amazon-cloudwatch-agent.log"
    translator = [str(ROOT / "bin/config-translator"), "--output", str(TOML), "--mode", "auto", "--input", str(JSON)]
    translator += ["--input-dir", str(JSON_DIR), "--config", str(ROOT / "etc/common-config.toml")]
    result = subprocess.run(translator, capture_output=True, text=True, check=False)
    with log.open("a") as stream:
        stream.write(result.stdout + result.stderr)
    if result.returncode == NO_JSON:
        sys.exit(0)
    if result.returncode:
        sys.exit("E! Cannot translate JSON config into TOML")
    user = pwd.getpwnam(json.loads(TOML.read_text()).get("agent", {}).get("run_as_user", "root"))
    for directory in ("logs", "etc", "var"):
        for path in [ROOT / directory, *(ROOT / directory).rglob("*")]:
            if not path.is_symlink() and (path.is_dir() or not path.stat().st_mode & 0o113):
                os.chown(path, user.pw_uid, user.pw_gid)
    if user.pw_uid:
        os.setgroups([group.gr_gid for group in grp.getgrall() if user.pw_name in group.gr_mem])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    agent = str(ROOT / "bin/amazon-cloudwatch-agent")
    os.execv(agent, [agent])


def agent():
    """Listen where StatsD is configured, and write down the name of each metric once."""
    config = json.loads(TOML.read_text())
    (ROOT / "var/loaded-config.json").write_text(json.dumps(config, indent=1))
    address = (
        config.get("metrics", {}).get("metrics_collected", {}).get("statsd", {}).get("service_address", "127.0.0.1:0")
    )
    host, port = address.rsplit(":", 1)
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((host, int(port)))
    seen = set()
    while True:
        for line in listener.recv(65535).decode(errors="replace").splitlines():
            name = line.split(":", 1)[0]
            if name not in seen:
                seen.add(name)
                with (ROOT / "var/statsd-metrics.txt").open("a") as stream:
                    stream.write(name + "\n")


def ctl():
    """Status, start, stop, and fetch-config with its habit of deleting all other configurations."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-a", choices=["status", "start", "stop", "fetch-config"], required=True)
    parser.add_argument("-m", default="ec2")
    parser.add_argument("-c", default="")
    parser.add_argument("-s", action="store_true")
    args = parser.parse_args()
    unit = "amazon-cloudwatch-agent.service"
    if args.a == "status":
        active = subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0
        print(
            json.dumps({
                "status": "running" if active else "stopped",
                "version": (ROOT / "bin/CWAGENT_VERSION").read_text().strip()
            }))
        return
    if args.a == "fetch-config":
        source = Path(args.c.removeprefix("file:"))
        load([source])
        content = source.read_text()
        for path in sources():
            path.unlink()
        (JSON_DIR / f"file_{source.name}").write_text(content)
        shutil.copy(JSON_DIR / f"file_{source.name}", TOML)
    if args.a == "stop" or args.s:
        subprocess.run(["systemctl", "stop", unit], check=True)
    if args.a == "start" or args.s:
        subprocess.run(["systemctl", "enable", "--now", unit], check=True)


if __name__ == "__main__":
    {
        "amazon-cloudwatch-agent": agent,
        "amazon-cloudwatch-agent-ctl": ctl,
        "config-translator": config_translator,
        "start-amazon-cloudwatch-agent": start,
    }[Path(sys.argv[0]).name]()
