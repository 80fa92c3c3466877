"""tests/forks.py keeps what a run has compiled. A later run with another source of the same name gets its own."""

import json

import forks
import pytest

pytestmark = pytest.mark.playbook

MODULE = """
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.{0} import WORD

AnsibleModule(argument_spec={{}}).exit_json(word=WORD)
"""


def test_a_changed_source_is_compiled_again(tmp_path):
    for name in ("library", "module_utils"):
        (tmp_path / name).mkdir()
    for word in ("one", "two"):
        (tmp_path / f"module_utils/{word}.py").write_text(f"WORD = {word!r}\n", encoding="utf-8")
        (tmp_path / "library/say.py").write_text(MODULE.format(word), encoding="utf-8")
        tasks = [{"say": {}, "register": "said"},
                 {"ansible.builtin.debug": {"msg": f"{{{{ said.word }}}} is {{{{ '{word}' | upper }}}}"}}]
        (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]),
                                           encoding="utf-8")
        done = forks.run(["ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml"], cwd=tmp_path)
        assert f"{word} is {word.upper()}" in done.stdout, done.stdout + done.stderr
