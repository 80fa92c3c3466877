"""Texts that people read."""

import ast
import re

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from repository import ROOT, strings

FILES = sorted(path for pattern in ("roles/*/*/*.yml", "roles/*/*/*/*.yml", "playbooks/**/*.yml", "group_vars/*/*.yml")
               for path in ROOT.glob(pattern))


def test_no_message_shows_a_line_break_as_two_characters():
    r"""Ansible hands '\n' to Jinja as two characters, unless YAML has made a line break of it: so the text around it is
    in double quotes.
    """
    literal = re.compile(r"""(join\(|~ ?)(['"])[^'"]*\\n[^'"]*\2(?!\)\s*\|\s*hash)""")
    wrong = []
    for path in FILES:
        wrong += [f"{path.relative_to(ROOT)}: {match[0]}" for text in strings(path) for match in literal.finditer(text)]
    assert not wrong


def test_a_message_never_prints_half_of_a_command():
    """A command with arguments is there to be copied, so typed_command gives it the path, the inventory and -K with
    which it works where it is typed.
    """
    half = re.compile(r"ansible-playbook -|playbooks/[\w/]+\.yml(?: playbooks/[\w/]+\.yml)* -")
    wrong = []
    for path in FILES:
        wrong += [f"{path.relative_to(ROOT)}: {match[0]}" for text in strings(path) for match in half.finditer(text)]
    for path in sorted(path for pattern in ("plugins/*/*.py", "roles/*/files/*.py") for path in ROOT.glob(pattern)):
        texts = [
            node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
        ]
        wrong += [
            f"{path.relative_to(ROOT)}: {match[0]}" for text in texts if isinstance(text, str)
            for match in half.finditer(text)
        ]
    assert not wrong


def test_the_refusal_of_a_release_has_a_line_for_each_problem():
    tasks = DataLoader().load_from_file(str(ROOT / "roles/airflow_dags/tasks/steps/validate_release.yml"),
                                        trusted_as_template=True)
    (message,) = [task["ansible.builtin.assert"]["fail_msg"] for task in tasks if "Check that Airflow" in task["name"]]
    variables = {
        "__airflow_dags_label": "/srv/dags",
        "__airflow_dags_report": {"problems": ["a.py: no DAG", "b.py: SyntaxError"]}
    }
    text = Templar(loader=DataLoader(), variables=variables).template(trust_as_template(message))
    assert text.splitlines() == [
        "/srv/dags is not deployed. Problems to correct: 2", "a.py: no DAG", "b.py: SyntaxError"
    ]
