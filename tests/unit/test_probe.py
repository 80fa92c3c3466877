"""Action probe: questions to a host, with and without pipelining, as Ansible runs them."""

import importlib.util
import json
import os
import pathlib
import re
import types
from unittest import mock

import forks
import pytest
import yaml
from ansible import constants as C

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]


SCRIPT = {"windsock.airflow.probe": {"stdin": "echo \"one 'two'  ü\"\necho\necho three\necho aside >&2\n"}}
TASKS = {
    "script": SCRIPT,
    "script in a dry run": {**SCRIPT, "check_mode": True},
    "program": {
        "windsock.airflow.probe": {
            "argv": ["sh", "-c", 'cat; printf "%s|" "$VALUE" "$@"', "sh", "a b", "", "$HOME", "it's"],
            "stdin": "no line break"
        }, "environment": {"VALUE": "x y"}
    },
    "there": {"windsock.airflow.probe": {"argv": ["echo", "asked"], "removes": "{{ playbook_dir }}/it is"}},
    "away": {"windsock.airflow.probe": {"argv": ["echo", "asked"], "removes": "{{ playbook_dir }}/it is not"}},
    "exit code": {"windsock.airflow.probe": {"stdin": "echo because >&2; exit 3"}},
    "exit code that is allowed": {
        "windsock.airflow.probe": {"stdin": "exit 1"}, "failed_when": "answer.rc not in [0, 1]"
    },
    "not yet done": {
        "windsock.airflow.probe": {
            "stdin": 'echo x >> {{ playbook_dir }}/asked; [ "$(wc -l < {{ playbook_dir }}/asked)" -ge 3 ] && echo done '
                     '&& exit 0; '
            "echo waiting; exit 75", "wait": 60
        }
    },
    "never done": {"windsock.airflow.probe": {"stdin": "echo waiting; sleep 1; exit 75", "wait": 1}},
    "not done, and nobody waits": {"windsock.airflow.probe": {"stdin": "exit 75"}},
    "no such option": {"windsock.airflow.probe": {"cmd": "true"}},
}


@pytest.fixture(scope="module", params=["pipelining", "module"])
def answers(request, tmp_path_factory):
    """The results of all tasks on this machine, in one run for each of the two ways: most of the time goes into
    starting Ansible.
    """
    path, tasks = tmp_path_factory.mktemp("probe"), []
    (path / "it is").touch()
    for number, (name, task) in enumerate(TASKS.items()):
        tasks += [{"name": name, "register": "answer", "ignore_errors": True, **task},
                  {"ansible.builtin.copy": {"content": "{{ answer | to_json }}", "dest": str(path / f"{number}.json")}}]
    (path / "playbook.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]),
                                       encoding="utf-8")
    # Files that are kept have to be written first, so nothing is piped.
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_KEEP_REMOTE_FILES": str(request.param == "module"),
        "ANSIBLE_REMOTE_TMP": str(path / "remote"),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "1",
        # Otherwise a task is named after what it has said.
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"
    }
    run = forks.run(["ansible-playbook", "-vvv", "-i", "localhost,", "-c", "local", path / "playbook.yml"], env=env)
    assert run.returncode == 0, run.stdout + run.stderr
    found = {
        name: json.loads((path / f"{number}.json").read_text(encoding="utf-8"))
        for number, name in enumerate(TASKS)
    }
    said = dict(re.findall(r"^TASK \[(.+?)\].*?\n(.*?)(?=^TASK \[|\Z)", run.stdout, re.MULTILINE | re.DOTALL))
    for name, answer in found.items():
        assert ("AnsiballZ_command.py" in said[name]) is (request.param == "module" and "rc" in answer), name
    return found


@pytest.mark.parametrize("name", ["script", "script in a dry run"])
def test_a_script_is_answered_and_nothing_has_changed(answers, name):
    answer = answers[name]
    assert (answer["rc"], answer["changed"], answer.get("failed", False), answer.get("skipped", False)) == (
        0,
        False,
        False,
        False,
    )
    assert answer["stdout"] == "one 'two'  ü\n\nthree"
    assert answer["stdout_lines"] == ["one 'two'  ü", "", "three"]
    assert answer["stderr_lines"] == ["aside"]


def test_a_program_has_its_arguments_its_input_and_its_environment(answers):
    assert answers["program"]["stdout"] == "no line breakx y|a b||$HOME|it's|"


def test_the_input_is_in_no_output(answers):
    """The fixture asks for -vvv, where a module shows what it was given."""
    assert [name for name, answer in answers.items() if name != "no such option" and "invocation" in answer] == []


def test_the_module_that_stands_in_writes_no_input_into_the_hosts_journal(action, monkeypatch):
    given = {}
    monkeypatch.setattr(action, "_execute_module",
                        lambda _name, args, task_vars: given.update(args, task_vars=task_vars) or {"rc": 0})
    action.by_module({"argv": ["cat"], "stdin": "a password"}, {"inventory_hostname": "one"})
    assert given["stdin"] == "a password" and given["task_vars"]["inventory_hostname"] == "one"
    # What _execute_module decides by.
    assert C.config.get_config_value("DEFAULT_NO_TARGET_SYSLOG", variables=given["task_vars"]) is True


@pytest.mark.parametrize(("name", "said"), [("there", "asked"), ("away", "")])
def test_nothing_is_run_where_what_is_to_be_asked_is_not_there(answers, name, said):
    assert (answers[name]["rc"], answers[name]["stdout"]) == (0, said)


def test_an_exit_code_fails_the_task(answers):
    answer = answers["exit code"]
    assert (answer["failed"], answer["rc"], answer["stderr"], answer["msg"]) == (
        True,
        3,
        "because",
        "non-zero return code",
    )
    answer = answers["exit code that is allowed"]
    assert (answer["failed"], answer["rc"]) == (False, 1)


def test_an_option_that_there_is_not_is_refused(answers):
    answer = answers["no such option"]
    assert answer["failed"] and "Unsupported parameters" in answer["msg"] and "cmd" in answer["msg"]


def test_what_is_not_yet_done_is_asked_again(answers):
    answer = answers["not yet done"]
    assert (answer["rc"], answer["stdout"], answer.get("failed", False)) == (0, "done", False)


def test_what_is_never_done_fails(answers):
    answer = answers["never done"]
    assert answer["failed"] and (answer["rc"], answer["stdout"]) == (75, "waiting")
    assert answers["not done, and nobody waits"]["failed"]


@pytest.fixture
def probe():
    spec = importlib.util.spec_from_file_location("probe_action", ROOT / "plugins/action/probe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def action(probe):
    task = mock.MagicMock(args={"stdin": "x", "wait": 100}, async_val=0, check_mode=False)
    return probe.ActionModule(task, mock.MagicMock(), types.SimpleNamespace(check_mode=False), mock.MagicMock(),
                              mock.MagicMock(), None)


def test_the_last_line_is_shown_while_it_is_waited_for(probe, action, monkeypatch):
    clock, shown, answers = [0], [], [75] * 8 + [0]
    monkeypatch.setattr(probe, "time", types.SimpleNamespace(monotonic=lambda: sum(clock)))
    monkeypatch.setattr(probe.Display, "display", lambda self, line, *args, **kwargs: shown.append(line))
    action.directly = lambda args: clock.append(
        10) or {"rc": answers.pop(0), "stdout": "", "stdout_lines": ["first", f"at {sum(clock)}"]}
    assert action.run(task_vars={"inventory_hostname": "one"})["rc"] == 0
    assert shown == ["  one: at 30 (30 s of at most 100 s)", "  one: at 60 (60 s of at most 100 s)"]


def test_the_environment_of_a_validation_is_no_argument_of_a_module_that_logs():
    """ansible.builtin.command writes its standard input into the host's journal."""
    tasks = yaml.safe_load((ROOT / "roles/airflow_dags/tasks/steps/validate_release.yml").read_text(encoding="utf-8"))
    (task,) = [task for task in tasks if "airflow_dags_validation_environment" in str(task)]
    assert "__airflow_dags_question" in task["windsock.airflow.probe"]["stdin"]
