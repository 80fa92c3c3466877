"""Run Ansible's modules as forks of one process that has compiled and loaded what each would: that is most of what a
module does.

Ansible pipes a module into its interpreter. Here that is <directory>/python, which hands the module, its environment
and its output over to this process, and ends with it. A module that waits for AWS waits for a moment only: the emulator
is never behind.

modules.py <directory>
"""

import contextlib
import functools
import gc
import json
import os
import pathlib
import signal
import socket
import struct
import sys
import sysconfig
import threading
import time
import traceback
import zipimport

import boto3
from botocore.loaders import JSONFileLoader

SERVICES = ("cloudwatch", "ec2", "elasticache", "iam", "logs", "rds", "s3", "secretsmanager", "sns", "ssm", "sts")
LONGEST_WAIT = 0.05
INTERPRETER = """#!%s -IS
import json, os, socket, struct, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(%r)
    request = {"module": sys.stdin.read(), "environment": dict(os.environ), "directory": os.getcwd()}
    request = json.dumps(request).encode()
    socket.send_fds(server, [struct.pack("!Q", len(request))], [1, 2])
    server.sendall(request)
    sys.exit(server.recv(1)[0])
"""


def shorten_waits():
    """Let time.sleep take a moment, whatever it is told."""
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, LONGEST_WAIT))


def load_services():
    """Read the descriptions of the services once, for all forks."""
    load = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    JSONFileLoader.load_file = lambda self, path: load(path)
    for service in SERVICES:
        boto3.session.Session().client(service,
                                       region_name="eu-central-1",
                                       aws_access_key_id="none",
                                       aws_secret_access_key="none")


def compile_sources():
    """Compile once what Ansible sends with each module, as source in a zip file."""
    compiled = {}
    for package in ("ansible/module_utils", "ansible_collections/amazon/aws/plugins/module_utils"):
        for path in pathlib.Path(sysconfig.get_path("purelib"), package).rglob("*.py"):
            source = path.read_bytes()
            compiled[source] = compile(source, path, "exec", dont_inherit=True)
    assert compiled
    compile_source = zipimport._compile_source
    zipimport._compile_source = lambda path, source: compiled.get(source) or compile_source(path, source)


def end_with(connection):
    """End where who waits for the module was killed."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def run(connection):
    """Run the module that is asked for, with the output of who asks; return its exit code."""
    header, outputs, _flags, _address = socket.recv_fds(connection, 8, 2)
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
        os.close(output)
    with connection.makefile("rb") as file:
        request = json.loads(file.read(*struct.unpack("!Q", header)))
    threading.Thread(target=end_with, args=(connection,), daemon=True).start()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.argv = [""]
    try:
        exec(compile(request["module"], "<module>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return end.code or 0
    return 0


def fork_and_run(connection):
    """Run it in a process of its own."""
    if os.fork():
        return
    code = 1
    try:
        code = run(connection)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(code)


def main(directory):
    shorten_waits()
    load_services()
    compile_sources()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "modules"))
        listening.listen()
        interpreter = directory / "python"
        interpreter.write_text(INTERPRETER % (sys.executable, str(directory / "modules")), encoding="utf-8")
        interpreter.chmod(0o755)
        while True:
            connection = listening.accept()[0]
            fork_and_run(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
