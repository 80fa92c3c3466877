"""count_results.py: what bin/test counts, and which skipped tests it accepts."""

import ast
import fnmatch
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("count_results", ROOT / "tests/count_results.py")
count_results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(count_results)
ALLOWED = count_results.allowed_skips()


@pytest.fixture
def count(tmp_path):
    """count("row", ...): run the program as bin/test does, on a report that pytest wrote of these tests."""

    def run(*arguments):
        return subprocess.run([sys.executable, ROOT / "tests/count_results.py", *arguments],
                              capture_output=True,
                              text=True,
                              check=False)

    return run


@pytest.fixture
def report(tmp_path):
    """report(text): the path of pytest's report on a file with these tests."""

    def make(text, name="tests/unit/test_backup.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"import pytest\n{text}", encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        # Without the plugins of this environment, which take seconds to load.
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={tmp_path}/junit.xml", file],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            check=False)
        return str(tmp_path / "junit.xml")

    return make


GOOD = "def test_a():\n    pass\n\n\ndef test_b():\n    pass\n\n\n"
BAD = (
    "def test_c():\n    assert False\n\n\n@pytest.fixture\ndef broken():\n    yield\n    raise ValueError\n\n\ndef "
    "test_d(broken):\n    pass\n\n\n"
)
SKIPPED = "def test_e():\n    pytest.skip('gpg is not installed here; the scenario has it')\n\n\n"
UNKNOWN = "@pytest.mark.skip(reason='later')\ndef test_f():\n    pass\n\n\n"


def test_what_failed_tests_said_is_printed_shortly(count, report):
    long = (
        "def test_g():\n    assert list(range(100)) == sorted(range(100), reverse=True), '\\n'.join(map(str, "
        "range(100)))\n\n\n"
    )
    done = count("failures", report(GOOD + BAD + long), "absent.xml")
    texts = done.stdout.strip().split("\n\n")
    assert [text.splitlines()[0].split(": ")[1] for text in texts] == ["test_c", "test_d", "test_g"]
    assert "E       assert False" in texts[0] and "ValueError" in texts[1]
    assert len(texts[2].splitlines()) == 22 and "E  [...]" in texts[2]


@pytest.mark.parametrize(("text", "rc", "line", "code"), [
    (GOOD, 0, "unit ok 12 s 3 0 0", 0),
    (GOOD + SKIPPED, 0, "unit ok 12 s 3 0 1", 0),
    (GOOD + BAD, 1, "unit FAILED 12 s 2 3 0", 1),
    # pytest does not fail for a skipped test; the stage does.
    (GOOD + UNKNOWN, 0, "unit FAILED 12 s 2 2 0", 1),
    # The command may fail after all tests have passed.
    (GOOD, 2, "unit FAILED 12 s 2 1 0", 1),
])
def test_the_line_of_a_stage(count, report, text, rc, line, code):
    done = count("row", "unit", str(rc), "12", report(text))
    assert (done.stdout.split(), done.returncode) == (line.split(), code)
    assert ("test_f was skipped: later. Make the test run, or list the reason in tests/allowed_skips.yml."
            in done.stderr) is (UNKNOWN in text)


@pytest.mark.parametrize("text", [
    "import no_such_module_1\n",
    "pytest.importorskip('no_such_module_1')\n",
    "pytest.skip('gpg is not installed here; all of it', allow_module_level=True)\n",
    "class TestIt:\n    def test_a(self):\n        pytest.skip('later')\n",
    "@pytest.mark.xfail(reason='known')\ndef test_a():\n    assert False\n",
    "@pytest.mark.skip\ndef test_a():\n    pass\n",
    "",
])
def test_no_file_disappears_without_a_word(count, report, text):
    done = count("row", "unit", "0", "1", report(text))
    assert done.returncode == 1 and done.stdout.split()[1] == "FAILED"


def test_a_report_that_is_absent_or_torn_is_a_failure(count, tmp_path):
    (tmp_path / "torn.xml").write_text("<testsuites><testsuite><testcase", encoding="utf-8")
    for name in ("none.xml", "torn.xml"):
        done = count("row", "unit", "0", "1", str(tmp_path / name))
        assert done.returncode == 1 and "no tests were counted" in done.stderr


def test_a_stage_without_tests_is_one_check(count):
    assert count("row", "ruff", "0", "3").stdout.split() == ["ruff", "ok", "3", "s", "1", "0", "0"]
    assert count("row", "ruff", "1", "3").stdout.split() == ["ruff", "FAILED", "3", "s", "0", "1", "0"]


REPORT = """case "$*" in *" --cov "*) echo coverage is measured ;; esac
cat > "${PYTEST_ADDOPTS#--junitxml=}" <<'XML'
<testsuite><testcase classname="tests.unit.test_backup" name="test_a">RESULT</testcase></testsuite>
XML
"""


@pytest.mark.parametrize("stage", ["--fast", "playbooks", "aws"])
@pytest.mark.parametrize(("result", "code"), [("", 0), ('<skipped message="later"/>', 1)], ids=["passed", "skipped"])
def test_bin_test_counts_the_skipped_tests_of_each_stage(tmp_path, stage, result, code):
    """With stand-ins for pytest, which has nothing to complain of, and for the lint tools."""
    for name in ("bin/test", "bin/lib.sh", "tests/count_results.py", "tests/allowed_skips.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    commands = tmp_path / ".venv/bin"
    commands.mkdir(parents=True)
    programs = dict.fromkeys(("ansible-lint", "yamllint", "shellcheck", "ruff", "python", "mypy", "lint-imports",
                              "../../.cache/tools/bin/python", "../../tests/lint/check_syntax"), "")
    programs |= {"pytest": REPORT.replace("RESULT", result), "python3": f'exec {sys.executable} "$@"\n'}
    programs |= {"../../bin/setup": ""}
    for name in ("requirements/tools.txt", ".cache/tools/lock.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in (".cache/tools/bin", "tests/lint"):
        (tmp_path / name).mkdir()
    for name, text in programs.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        (commands / name).chmod(0o755)
    done = subprocess.run([tmp_path / "bin/test", stage], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
                          check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("test_a was skipped: later. Make the test run" in done.stdout + done.stderr) is bool(result)
    logs = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("artifacts/logs/test-*.log"))
    assert ("coverage is measured" in logs) is (stage == "--fast")
    lint = 7 if stage == "--fast" else 0
    counted = f"{lint} passed, 2 failed, 0 skipped" if result else f"{lint + 2} passed, 0 failed, 0 skipped"
    assert done.stdout.splitlines()[-1] == counted


def test_lines_of_the_two_packages_that_no_test_runs_are_a_failure(tmp_path):
    shutil.copy(ROOT / ".coveragerc", tmp_path)
    (tmp_path / ".cache").mkdir()
    new = ["plugins/module_utils/validation/rules/new.py", "roles/airflow_runtime/files/airflow_runtime/new.py"]
    for path in [*new, "plugins/modules/other.py"]:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("A = 1\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--cov"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not reached" in done.stdout
    assert re.findall(r"^(\S+[.]py) +1 +1 +0%$", done.stdout, re.MULTILINE) == new


def test_a_skip_is_allowed_in_its_file_only(count, report):
    assert count("row", "x", "0", "1", report(GOOD + SKIPPED, "tests/unit/test_lock.py")).returncode == 1


def test_the_last_line_counts_all_and_the_table_is_aligned(count, tmp_path):
    rows = [count("row", "molecule default", "0", "700").stdout, count("row", "ruff", "0", "1").stdout]
    assert len({len(line) for line in [count("header").stdout, *rows]}) == 1
    (tmp_path / "results").write_text("".join(rows) + count_results.LINE.format("a", "ok", "1 s", 3396, 0, 11) + "\n",
                                      encoding="utf-8")
    done = count("total", str(tmp_path / "results"))
    assert (done.stdout, done.returncode) == ("3398 passed, 0 failed, 11 skipped\n", 0)
    with open(tmp_path / "results", "a", encoding="utf-8") as file:
        file.write(count("row", "yamllint", "1", "1").stdout)
    done = count("total", str(tmp_path / "results"))
    assert (done.stdout, done.returncode) == ("3398 passed, 1 failed, 11 skipped\n", 1)
    # No stage at all is no success.
    (tmp_path / "results").write_text("", encoding="utf-8")
    assert count("total", str(tmp_path / "results")).returncode == 1


@pytest.mark.parametrize(("classname", "name", "file"), [
    ("tests.unit.test_backup", "test_a[x.y]", "tests/unit/test_backup.py"),
    ("tests.unit.test_backup.TestIt", "test_a", "tests/unit/test_backup.py"),
    ("", "tests.unit.test_backup", "tests/unit/test_backup.py"),
    ("......work.tests.molecule.test_state", "test_a", "tests/molecule/test_state.py"),
])
def test_the_file_of_a_test_is_known(classname, name, file):
    assert count_results.test_file({"classname": classname, "name": name}) == file


# ---- the list of allowed skips


def text_of(node):
    """The text of a reason, with a word for each part that is computed."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "3" if "major" in ast.unparse(part) else "word"
                       for part in node.values)
    return node.value if isinstance(node, ast.Constant) else ""


def skips_in(path):
    """Yield the reason of each skip in a file of tests. importorskip is none: what it needs is in the controller's
    environment.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if name == "pytest.skip" or re.fullmatch(r"pytest\.mark\.(skip|skipif|xfail)", name):
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"
                     ] or (node.args[:1] if name == "pytest.skip" else [])
            yield text_of(given[0]) if given else ""


def test_the_skips_of_the_tests_are_those_that_are_allowed_and_each_has_a_reason():
    skips = [(str(path.relative_to(ROOT)), reason) for path in sorted(ROOT.glob("tests/**/*.py"))
             if path != pathlib.Path(__file__) for reason in skips_in(path)]
    assert len(skips) > 10
    assert not [(file, reason) for file, reason in skips if not count_results.is_allowed(file, reason, ALLOWED)]
    assert not [entry for entry in ALLOWED if not is_good(entry, skips)]


def is_good(entry, skips):
    return (set(entry) == {"tests", "reason", "why"} and len(entry["why"].split()) >= 5
            # An expression that matches anything would allow everything.
            and not re.fullmatch(entry["reason"], "later") and not re.fullmatch(entry["reason"], "") and any(
                fnmatch.fnmatchcase(file, entry["tests"]) and re.fullmatch(entry["reason"], reason)
                for file, reason in skips))
