"""A process that goes on after its Ansible task leaves the directory of the task.

Ansible removes it, and another user may not enter it.
"""

import ast
import re

import pytest
from repository import ROOT, source_files

DIRECTORIES = ("roles", "plugins", "playbooks", "molecule", "bin")
# A process of `with Popen` ends with its block.
ANYWHERE = r"\bos\.fork\(|start_new_session=True|^(?!\s*with ).*\bPopen\("
IN_PYTHON = re.compile(ANYWHERE + r"|[\"'](?:setsid|nohup|systemd-run)\b")
# A `&` that ends a command. Two of them join commands, and `>&` copies an output.
IN_SHELL = re.compile(ANYWHERE +
                      r"|\bsetsid [^\s(]|\bnohup\b|\bdisown\b|\bsystemd-run\b|poll: 0\b|(?<![&>])&\s*[\"')}]*$")
LEAVES = re.compile(r"""\bcd /(?![\w"{$])|os\.chdir\("/"\)|chdir: /$""", re.MULTILINE)
# (file, line): why this process stays.
STAYS = {
    ("bin/lib.sh", '("$@") >"$log" 2>&1 </dev/null &'): "the function waits for it",
    ("bin/test", 'run quietly "$name" &'): "the function waits for it",
    ("molecule/secrets/prepare.yml", "argv: [systemd-run, --unit=watch-argv, python3, /root/watch_argv.py]"):
        "systemd begins a unit in /",
    ("molecule/secrets/prepare.yml",
     "argv: [systemd-run, --unit=serve-package, python3, -m, http.server, --bind=127.0.0.1,"):
        "systemd begins a unit in /",
    ("playbooks/runbooks/open_ui.yml", "poll: 0"):
        "it runs on the controller, where ssh reads relative paths in the site's SSH options from this directory",
    ("plugins/action/airflow_environment_lock.py", "if os.fork():"):
        "it runs on the controller, where ssh reads relative paths in the site's SSH options",
    ("roles/airflow_runtime/files/airflow_runtime/validate_dags.py", "pid = os.fork()"): "its processes end with it",
    ("roles/airflow_services/tasks/steps/hold.yml",
     "systemd-run --quiet --collect --unit=airflow-hold.service --service-type=notify \\"):
        "systemd begins a unit in /",
}


def function_of(text, number):
    """Return the function of a Python program around a line, or the program."""
    around = [
        node for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.lineno <= number <= node.end_lineno
    ]
    return ast.get_source_segment(text, max(around, key=lambda node: node.lineno)) if around else text


def task_of(lines, number):
    """Return the task of a file of tasks around a line."""

    def indent(line):
        return len(line) - len(line.lstrip())

    begin = next((at for at in range(number - 1, -1, -1)
                  if lines[at].lstrip().startswith("- name:") and indent(lines[at]) < indent(lines[number - 1])), 0)
    end = next(
        (at for at in range(number, len(lines)) if lines[at].strip() and indent(lines[at]) <= indent(lines[begin])),
        len(lines))
    return "\n".join(lines[begin:end])


def paragraph_of(lines, number):
    """Return the function of a shell script around a line, or the lines without an empty one between."""
    begin = next((at for at in range(number - 1, -1, -1) if re.match(r"\}|\w+\(\) \{$", lines[at])), -1)
    if begin >= 0 and not lines[begin].startswith("}"):
        end = next((at for at in range(number, len(lines)) if lines[at].startswith("}")), len(lines))
    else:
        begin = next((at + 1 for at in range(number - 1, -1, -1) if not lines[at].strip()), 0)
        end = next((at for at in range(number, len(lines)) if not lines[at].strip()), len(lines))
    return "\n".join(lines[begin:end])


def begun(name, text):
    """(number of the line, the line, whether the process leaves its directory) of each process of a file that goes on
    in the background.
    """
    lines = text.splitlines()
    # Templates have other braces than Python.
    python = name.endswith(".py") or lines and re.match(r"#!.*python", lines[0]) and not name.endswith(".j2")
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#") or not (IN_PYTHON if python else IN_SHELL).search(line):
            continue
        around = function_of(text, number) if python else task_of(
            lines, number) if name.endswith(".yml") else paragraph_of(lines, number)
        yield number, line.strip(), bool(LEAVES.search(around))


def test_background_processes_leave_their_directory():
    found = []
    for path in source_files():
        name = str(path.relative_to(ROOT))
        if name.startswith(tuple(f"{directory}/" for directory in DIRECTORIES)) and not name.endswith(".md"):
            found += [(name, *one) for one in begun(name, path.read_text(encoding="utf-8"))]
    assert [
        f"{name}:{number}: {line}" for name, number, line, leaves in found if not leaves and (name, line) not in STAYS
    ] == []
    leave = {name for name, _number, _line, leaves in found if leaves}
    assert {
        "roles/airflow_virtualenv/tasks/steps/build.yml", "roles/airflow_runtime/files/airflow_runtime/database.py",
        "bin/lib.sh"
    } <= leave
    assert STAYS.keys() - {(name, line) for name, _number, line, _leaves in found} == set()


TASKS = """
- name: one
  ansible.builtin.shell: |
    cd /
    setsid sleep 1 < /dev/null &
- name: two
  ansible.builtin.command:
    argv:
      - sh
      - -c
      - |
        sleep 1 &
"""


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("tasks/one.yml", TASKS, {5: True, 12: False}),
    ("one.sh", "one() {\n  cd /\n  true\n}\n\ntwo() {\n  sleep 1 > log 2>&1 &\n}\n", {7: False}),
    ("one.sh", "one() {\n  cd / && sleep 1 &\n}\n\ncd /\n\nsh -c 'sleep 1 &'\ntrue &&\n  exec 2>&1\n",
     {2: True, 7: False}),
    ("one.py", "def one():\n    os.chdir('/')\n\n\ndef two():\n    subprocess.Popen(['sleep', '1'])\n", {6: False}),
    ("one.py", 'def one():\n    os.chdir("/")\n    return subprocess.Popen(["sleep"])\n', {3: True}),
    ("one.py", 'with open("x") as file, subprocess.Popen(["true"]):\n    pass\n', {}),
    ("tasks/one.yml", "- name: one\n  ansible.builtin.command: systemd-run sleep 1\n", {2: False}),
])
def test_only_the_same_task_or_function_counts(name, text, expected):
    assert {number: leaves for number, _line, leaves in begun(name, text)} == expected
