"""Run Ansible's commands and modules as forks of a process that has loaded what all of them load, which is most of
their work.

What one fork has compiled, the later ones read from a file.

run(command) runs a command of Ansible as subprocess.run does. interpreter() is a Python for modules: Ansible must pipe
them into it (ansible_pipelining). A test that kills a command or needs its process id starts the real command.
"""

import ast
import atexit
import contextlib
import functools
import gc
import hashlib
import importlib
import inspect
import marshal
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
LIBRARIES = ("ansible._internal", "ansible._internal._ssh._ssh_agent", "ansible.config.manager",
             "ansible.module_utils.distro", "ansible.utils.collection_loader", "configparser",
             "cryptography.hazmat.backends.openssl", "cryptography.hazmat.primitives.asymmetric.rsa", "csv", "difflib",
             "getpass", "importlib.metadata", "jinja2.nativetypes", "jinja2.sandbox", "multiprocessing.queues",
             "packaging.specifiers", "pty", "runpy", "syslog", "tarfile", "urllib.request")
# It is read by setting it, and tests run commands in threads.
UMASK = threading.Lock()
COMMANDS = {"ansible": "adhoc", "ansible-doc": "doc", "ansible-playbook": "playbook"}
# What it imports takes no time.
CLIENT = """#!{python} -IS
import _socket, os, sys

if sys.argv[1:]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
request = dict(module=sys.stdin.read(), environment=dict(os.environ), directory=os.getcwd(), umask=os.umask(0))
request = repr(request).encode()
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
    """Return the path of a Python that runs a module that Ansible pipes into it, as a fork. With arguments it is Python
    itself.
    """
    return str(start("modules") / "python")


def run(command, cwd=None, env=None):
    """Run a command of Ansible, and its modules, and return what subprocess.run(..., capture_output=True, text=True)
    returns.
    """
    environment = {
        "ANSIBLE_PIPELINING": "true", "ANSIBLE_PYTHON_INTERPRETER": interpreter(),
        **(os.environ if env is None else env)
    }
    # As Python does when it starts in the C locale.
    if not any(environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG")):
        environment["LC_CTYPE"] = "C.UTF-8"
    with UMASK:
        os.umask(umask := os.umask(0))
    request = repr({"command": [str(word) for word in command], "python": interpreter(), "environment": environment,
                    "directory": str(cwd or os.getcwd()), "umask": umask}).encode()
    with socket.socket(
            socket.AF_UNIX) as server, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
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


class Files:
    """Results by what they depend on, for processes that end before the next one asks."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def path(self, key):
        return self.directory / hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()

    def get(self, key):
        try:
            return marshal.loads(self.path(key).read_bytes())
        except FileNotFoundError:
            return None

    def __setitem__(self, key, value):
        path = self.path(key)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(marshal.dumps(value))
        partial.replace(path)


def compile_templates_once(compiled):
    """Have Jinja take what it has compiled from this mapping. Ansible compiles a template each time that something
    reads a variable.
    """
    import jinja2
    from ansible._internal._templating._jinja_bits import _TemplateCompileContext

    # What the code of a template depends on.
    options = list(inspect.signature(jinja2.Environment).parameters)[:12]
    assert options[-1] == "keep_trailing_newline"
    compile_template = jinja2.Environment.compile

    def compile_once(self, source, *arguments, **named):
        context = _TemplateCompileContext.current(optional=True)
        key = repr((type(self), source, arguments, named, [getattr(self, name) for name in options], context
                    and context.escape_backslashes))
        code = compiled.get(key)
        if code is None:
            code = compiled[key] = compile_template(self, source, *arguments, **named)
        return code

    jinja2.Environment.compile = compile_once


def find_imports_once(found):
    """Have Ansible take from this mapping what a module imports. It parses each file that a module may need."""
    from ansible.executor import module_common

    parse, finder = module_common._compile_module_ast, module_common.ModuleDepFinder
    find = finder.__init__

    class Tree:
        """Parsed where more than the imports is wanted."""

        def __init__(self, name, source):
            self.name, self.source = name, source

        @property
        def body(self):
            return parse(self.name, self.source).body

    def find_once(self, name, tree, is_package=False):
        key = repr((name, is_package, tree.source))
        imports = found.get(key)
        if imports is None:
            find(self, name, parse(tree.name, tree.source), is_package)
            imports = found[key] = (self.submodules, self.optional_imports)
        self.submodules, self.optional_imports = imports

    module_common._compile_module_ast, finder.__init__ = Tree, find_once


def load_filters_once():
    """Have a command load filters and tests before it forks: each of its tasks would."""
    from ansible.executor.task_queue_manager import TaskQueueManager
    from ansible.plugins import loader

    run_play = TaskQueueManager.run

    def run(self, play):
        for plugins in (loader.filter_loader, loader.test_loader):
            # A name that nothing has: to look for it loads them all. A test may have no collection.
            with contextlib.suppress(KeyError):
                plugins.get("windsock.airflow.none")
        return run_play(self, play)

    TaskQueueManager.run = run


def end_with(connection):
    """End where who waits for the module was killed."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def work(connection, directory):
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
            main = importlib.import_module(f"ansible.cli.{COMMANDS[name]}").main
            compile_templates_once(Files(directory / "templates"))
            find_imports_once(Files(directory / "imports"))
            load_filters_once()
            main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0


def fork_and_work(connection, directory):
    """Do it in a process of its own."""
    if os.fork():
        return
    code = 1
    try:
        code = work(connection, directory)
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
                fork_and_work(connection, directory)
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
