"""Run Ansible's commands and modules as forks of a process that has loaded what all of them load, which is most of their work.

run(command) runs a command of Ansible as subprocess.run does. interpreter() is a Python for modules: Ansible must pipe them into it
(ansible_pipelining). A test that kills a command or needs its process id starts the real command.
"""

import ast
import atexit
import contextlib
import functools
import gc
import importlib
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
import zipimport

# What a command of Ansible loads that reads neither the environment nor ansible.cfg.
LIBRARIES = ("ansible._internal", "ansible._internal._ssh._ssh_agent", "ansible.config.manager", "ansible.module_utils.distro",
             "ansible.utils.collection_loader", "configparser", "cryptography.hazmat.backends.openssl",
             "cryptography.hazmat.primitives.asymmetric.rsa", "csv", "difflib", "getpass", "importlib.metadata", "jinja2.nativetypes",
             "jinja2.sandbox", "multiprocessing.queues", "packaging.specifiers", "pty", "runpy", "syslog", "tarfile", "urllib.request")
COMMANDS = {"ansible": "adhoc", "ansible-doc": "doc", "ansible-playbook": "playbook"}
# What it imports takes no time.
CLIENT = """#!{python} -IS
import _socket, os, sys

if sys.argv[1:]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
request = repr(dict(module=sys.stdin.read(), environment=dict(os.environ), directory=os.getcwd(), umask=os.umask(0))).encode()
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
server.connect("{socket}")
outputs = b"".join(number.to_bytes(4, sys.byteorder) for number in (1, 2))
server.sendmsg([len(request).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, outputs)])
server.sendall(request)
sys.exit(server.recv(1)[0])
"""


# ---- in the process of the tests

@functools.cache
def start(kind):
    """Start the process that forks, and return the directory with its socket."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ansible-forks-"))
    # It ends when the tests do: its standard input is closed then.
    process = subprocess.Popen([sys.executable, __file__, kind, directory], stdin=subprocess.PIPE, cwd="/",
                               env={"PATH": os.environ["PATH"], "LC_CTYPE": "C.UTF-8"})

    def end():
        process.communicate()
        shutil.rmtree(directory)

    atexit.register(end)
    while not (directory / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return directory


def interpreter():
    """Return the path of a Python that runs a module that Ansible pipes into it, as a fork. With arguments it is Python itself."""
    return str(start("modules") / "python")


def run(command, cwd=None, env=None):
    """Run a command of Ansible, and its modules, and return what subprocess.run(..., capture_output=True, text=True) returns."""
    environment = {"ANSIBLE_PIPELINING": "true", "ANSIBLE_PYTHON_INTERPRETER": interpreter(), **(os.environ if env is None else env)}
    # As Python does when it starts in the C locale.
    if not any(environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG")):
        environment["LC_CTYPE"] = "C.UTF-8"
    os.umask(umask := os.umask(0))
    request = repr({"command": [str(word) for word in command], "python": interpreter(), "environment": environment,
                    "directory": str(cwd or os.getcwd()), "umask": umask}).encode()
    with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        server.connect(str(start("commands") / "socket"))
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [output.fileno(), errors.fileno()])
        server.sendall(request)
        code = server.recv(1)[0]
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(command, code, *said)


# ---- in the process that forks

def compile_sources(*packages):
    """Compile once what Ansible sends with each module, as source in a zip file."""
    compiled = {}
    for package in (*packages, "ansible/module_utils"):
        for path in pathlib.Path(sysconfig.get_path("purelib"), package).rglob("*.py"):
            source = path.read_bytes()
            compiled[source] = compile(source, path, "exec", dont_inherit=True)
    assert compiled
    compile_source = zipimport._compile_source
    zipimport._compile_source = lambda path, source: compiled.get(source) or compile_source(path, source)


def load_libraries():
    """Load what does not depend on a configuration, and read the metadata of Ansible's own collection."""
    for library in LIBRARIES:
        importlib.import_module(library)
    finder = sys.modules["ansible.utils.collection_loader._collection_finder"]
    finder._meta_yml_to_dict = functools.cache(finder._meta_yml_to_dict)
    metadata = pathlib.Path(sysconfig.get_path("purelib"), "ansible/config/ansible_builtin_runtime.yml").read_bytes()
    finder._meta_yml_to_dict(metadata, ("ansible.builtin", "runtime.yml"))
    assert "ansible.constants" not in sys.modules


def end_with(connection):
    """End where who waits for the module was killed."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def work(connection):
    """Run what is asked for, with the output of who asks; return its exit code."""
    header, outputs, _flags, _address = socket.recv_fds(connection, 8, 2)
    for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
        os.dup2(file, number)
        os.close(file)
    with connection.makefile("rb") as file:
        request = ast.literal_eval(file.read(int.from_bytes(header, "big")).decode())
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    os.umask(request["umask"])
    time.tzset()
    try:
        if "module" in request:
            threading.Thread(target=end_with, args=(connection,), daemon=True).start()
            sys.argv[:] = sys.path[:1] = [""]
            exec(compile(request["module"], "<module>", "exec"), {"__name__": "__main__"})
        else:
            name, *arguments = request["command"]
            sys.path[0] = str(pathlib.Path(sys.executable).parent)
            sys.argv[:] = [f"{sys.path[0]}/{name}", *arguments]
            # This is ansible_playbook_python, with which roles run modules on the controller.
            sys.executable = request["python"]
            importlib.import_module(f"ansible.cli.{COMMANDS[name]}").main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0


def fork_and_work(connection):
    """Do it in a process of its own."""
    if os.fork():
        return
    code = 1
    try:
        code = work(connection)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(code)


def serve(directory):
    """Fork for each request, until the tests end."""
    gc.freeze()
    interpreter = directory / "python"
    interpreter.write_text(CLIENT.format(python=sys.executable, socket=directory / "socket"), encoding="utf-8")
    interpreter.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
        listening.listen()
        (directory / "ready").touch()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            with listening.accept()[0] as connection:
                fork_and_work(connection)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    # What a fork has used counts as used by the tests once it was waited for.
    signal.alarm(5)
    with contextlib.suppress(ChildProcessError):
        while os.wait():
            pass


if __name__ == "__main__":
    if sys.argv[1] == "modules":
        compile_sources()
    else:
        load_libraries()
    serve(pathlib.Path(sys.argv[2]))
