"""Molecule's scenarios: docs/testing.md says what each proves, and no test is left out of all of them."""

import collections
import re

import pytest
from long_tests import PARTS
from repository import ROOT, load

SCENARIOS = sorted(ROOT.glob("molecule/*/molecule.yml"))
BASE = load(ROOT / ".config/molecule/config.yml")


def test_documentation_says_what_each_scenario_proves():
    text = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| Proves .+\. \|$", text, re.MULTILINE) == [path.parent.name for path in SCENARIOS]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_listed_tests_exist(path):
    listed = load(path)["verifier"]["additional_files_or_dirs"]
    assert [name for name in listed if not (path.parent / name).is_file()] == []


def test_every_test_against_a_host_is_run_by_a_scenario():
    listed = {(path.parent / name).resolve()
              for path in SCENARIOS
              for name in load(path)["verifier"]["additional_files_or_dirs"]}
    assert set((ROOT / "tests/molecule").glob("test_*.py")) - listed == set()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_no_scenario_leaves_out_idempotence(path):
    sequence = load(path).get("scenario", {}).get("test_sequence", BASE["scenario"]["test_sequence"])
    if "converge" not in sequence:
        # Its tests are the user who runs the playbooks.
        tests = [(path.parent / name).read_text(encoding="utf-8")
                 for name in load(path)["verifier"]["additional_files_or_dirs"]]
        assert any('["changed"] == 0' in text for text in tests)
        return
    assert sequence.index("converge") < sequence.index("idempotence") < sequence.index("verify")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_hosts_have_the_name_of_their_scenario_and_an_image_that_can_be_built(path):
    for platform in load(path)["platforms"]:
        # A host name has no underscore.
        assert platform["name"].startswith(f"airflow-{path.parent.name}".replace("_", "-"))
        image = re.sub(r"\$\{AIRFLOW_TEST_SYSTEM:-(.+)\}", r"\1", platform["image"])
        assert re.fullmatch(r"airflow-host:debian1[23](-installed)?", image)
        assert "privileged" not in platform


# How each scenario reaches its hosts: as a login whose sudo asks for a password, as root, or past SSH through Docker;
# and the mode of the login's home, where "" is the default of the system. A server of a user has only SSH, and
# bin/sandbox only Docker: so one scenario uses Docker, and no more. Root with a closed home is in a scenario of the
# ordinary run.
USUAL = ("ops", "0700")
LOGINS = {
    "airflow2": ("root", "0700"), "alternative": ("docker", "0700"), "debian13": ("ops", ""), "default": USUAL,
    "deploy_dags": USUAL, "environment": USUAL, "interrupted": ("root", "0700"), "new_user": USUAL, "runbooks": USUAL,
    "secrets": USUAL
}


def test_one_scenario_reaches_its_hosts_through_docker():
    create = (ROOT / "molecule/shared/create.yml").read_text(encoding="utf-8")
    name, mode = re.search(
        r"""default_login: \{name: "\{\{ '(\w+)' if ephemeral else 'docker' \}\}", home_mode: "(\d+)"\}""",
        create).groups()
    usual = {"name": name, "home_mode": mode}
    found = {
        path.parent.name: {
            tuple({**usual, **platform.get("login", {})}.values())
            for platform in load(path)["platforms"]
        }
        for path in SCENARIOS
    }
    assert found == {scenario: {login} for scenario, login in LOGINS.items()}
    assert [login for login, _mode in LOGINS.values()].count("docker") == 1
    assert any(login == ("root", "0700") for scenario, login in LOGINS.items() if scenario not in long_only())


def test_each_kill_point_is_one_task_and_some_test_has_it():
    """It stands below the name of a task, in a line of its own: `# kill_point: write_secrets`."""
    point = r"kill_point: \w+"
    paths = {path.resolve() for place in ("roles", "playbooks") for path in (ROOT / place).rglob("*.yml")}
    texts = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    tasks = re.findall(rf"^ *- name: .*\n *# ({point})$", texts, re.MULTILINE)
    assert sorted(tasks) == sorted(set(tasks)) == sorted(re.findall(point, texts))
    tests = [path for path in (ROOT / "tests/molecule").glob("*.py") if path.name != "killed.py"]
    assert set(re.findall(point, "".join(path.read_text(encoding="utf-8") for path in tests))) == set(tasks)


def test_runs_are_interrupted_as_often_as_the_scenario_says():
    script = (ROOT / "tests/molecule/interrupt.py").read_text(encoding="utf-8")
    kinds = re.findall(r'^    \("kill_point: \w+", \d+, (\w+)\),$', script, re.MULTILINE)
    assert collections.Counter(kinds) == {"POWER": 4, "CONNECTION": 2, "KILL": 6}


def long_only():
    """Scenarios that no ordinary run of bin/test contains."""
    return re.search(r"^LONG_ONLY=\((.*)\)$", (ROOT / "bin/test").read_text(encoding="utf-8"), re.MULTILINE)[1].split()


def test_a_scenario_outside_the_ordinary_run_has_a_long_part():
    assert [name for name in long_only() if not any(part.scenarios == (name,) for part in PARTS.values())] == []


def marked():
    """{file: the parts that its tests are marked with}."""
    found = {
        path: set(re.findall(r'mark\.long\("(.+?)"', path.read_text(encoding="utf-8")))
        for path in (ROOT / "tests/molecule").glob("test_*.py")
    }
    return {path: parts for path, parts in found.items() if parts}


def test_each_long_test_belongs_to_a_part_whose_scenario_runs_its_file():
    stray = []
    for path, parts in marked().items():
        running = {
            scenario.parent.name
            for scenario in SCENARIOS
            for name in load(scenario)["verifier"]["additional_files_or_dirs"] if path.name in name
        }
        stray += [(path.name, part) for part in parts if part not in PARTS or not set(PARTS[part].scenarios) & running]
    assert not stray


def test_each_part_has_scenarios_and_marks_tests_or_makes_its_scenario_differ():
    assert not [
        scenario for part in PARTS.values()
        for scenario in part.scenarios if not (ROOT / "molecule" / scenario / "molecule.yml").is_file()
    ]
    differ = set(
        re.findall(r'PART [!=]= "(.+?)"',
                   "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/molecule").glob("*.py"))))
    differ |= {name for name, part in PARTS.items() if part.environment or set(part.scenarios) <= set(long_only())}
    assert set(PARTS) == differ | set().union(*marked().values())


def test_documentation_gives_the_minutes_and_the_long_part_of_each_scenario():
    rows = re.search(r"<!-- BEGIN minutes -->\n(.*)<!-- END minutes -->",
                     (ROOT / "docs/testing.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    given = dict(re.findall(r"^\| `(\w+)` \| \d+ \| [^|]*\| ([^|]*)\|$", rows, re.MULTILINE))
    parts = {
        path.parent.name: [name for name, part in PARTS.items() if path.parent.name in part.scenarios]
        for path in SCENARIOS
    }
    assert {name: re.findall(r"\w+", text) for name, text in given.items()} == parts


def test_documentation_lists_the_long_parts():
    text = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--long (\w+)` \| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert [(name, tuple(re.findall(r"\w+", scenarios)))
            for name, scenarios in rows] == [(name, part.scenarios) for name, part in PARTS.items()]


def test_what_runs_playbooks_on_stand_ins_is_left_out_of_the_fast_run():
    texts = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/unit/test_*.py")}
    assert [
        path.name for path, text in texts.items()
        if "import hosts_of_test" in text and "\npytestmark = pytest.mark.playbook\n" not in text
    ] == []
