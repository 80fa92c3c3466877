"""Count the tests of bin/test: passed, failed and skipped.

count_results.py row NAME RC SECONDS [JUNIT]   print the line of one stage. Exit with 1 if the stage failed
count_results.py header                        print the line above the stages
count_results.py failures JUNIT...             print the first and the last lines of what each failed test said
count_results.py total FILE                    add up the lines in FILE and print the last line of bin/test. Exit with 1
if anything failed

RC is the exit code of the stage's command. JUNIT is the report of pytest, for each stage that runs pytest. Such a stage
fails if the report is absent or holds no test, and if a test was skipped for a reason that allowed_skips.yml does not
list. A stage counts as one check, and so does each of its tests. What is wrong is printed on standard error.
"""

import fnmatch
import pathlib
import re
import sys
from xml.etree import ElementTree

import yaml

ALLOWED = pathlib.Path(__file__).with_name("allowed_skips.yml")
LINE = "{0:<28} {1:<8} {2:>8} {3:>6} {4:>6} {5:>7}"


def allowed_skips():
    """Return the list of accepted skips."""
    return yaml.safe_load(ALLOWED.read_text(encoding="utf-8"))


def test_file(case):
    """Return the path of the file that a test case is in. Where a whole file was skipped, the file is the test's name.
    """
    path = (case.get("classname") or case.get("name")).split("[")[0].replace(".", "/")
    # The directories above the repository may have any name, and a test in a class has the class behind the file.
    match = re.search(r"(?:^|/)(tests/(?:.*/)?test_\w+)", path)
    return f"{match[1]}.py" if match else path


def is_allowed(file, reason, allowed):
    """Return whether a test of this file may be skipped for this reason."""
    return any(fnmatch.fnmatchcase(file, entry["tests"]) and re.fullmatch(entry["reason"], reason) for entry in allowed)


def wrong(case):
    """Return what a failed test said, or None. A fixture that fails is an error."""
    return next((found for found in map(case.find, ("failure", "error")) if found is not None), None)


def read(path, allowed):
    """Return (passed, failed, skipped, complaints) of a report. A skip that is not allowed is a failure."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        return 0, 1, 0, [f"no tests were counted: {path} cannot be read ({error}). Read the log of the stage."]
    if not cases:
        return 0, 1, 0, [f"{path} holds no test. Check what the stage passes to pytest."]
    passed = failed = skipped = 0
    complaints = []
    for case in cases:
        skip = case.find("skipped")
        if wrong(case) is not None:
            failed += 1
        elif skip is None:
            passed += 1
        elif is_allowed(test_file(case), skip.get("message", ""), allowed):
            skipped += 1
        else:
            failed += 1
            complaints.append(
                f"{test_file(case)}: {case.get('name')} was skipped: {skip.get('message', '') or 'no reason'}. "
                f"Make the test run, or list the reason in tests/{ALLOWED.name}.")
    return passed, failed, skipped, complaints


def row(name, rc, seconds, path=None):
    """Return (line, complaints, whether the stage is well)."""
    passed, failed, skipped, complaints = read(path, allowed_skips()) if path else (0, 0, 0, [])
    well = int(rc) == 0 and failed == 0
    # A stage whose tests failed, or whose command did, is itself one failed check.
    passed, failed = passed + well, failed + (not well)
    return LINE.format(name, "ok" if well else "FAILED", f"{seconds} s", passed, failed, skipped), complaints, well


def failures(path):
    """Return a text for each failed test of a report: its name, and what was wrong. A report that cannot be read says
    nothing.
    """
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return []
    return [
        "\n".join([f"{test_file(case)}: {case.get('name')}", *shortly(wrong(case))]) for case in cases
        if wrong(case) is not None
    ]


def shortly(found):
    """Return the lines in which pytest says what was wrong: of more than 20 the first and the last ten."""
    lines = [line[:300]
             for line in (found.text or "").splitlines() if line.startswith("E ")] or [found.get("message", "")[:300]]
    return lines if len(lines) <= 20 else [*lines[:10], "E  [...]", *lines[-10:]]


def total(text):
    """Return (last line of bin/test, whether all is well)."""
    counts = [[int(number) for number in line.split()[-3:]] for line in text.splitlines()]
    passed, failed, skipped = (sum(column) for column in zip(*counts)) if counts else (0, 0, 0)
    return f"{passed} passed, {failed} failed, {skipped} skipped", failed == 0 and passed > 0


def main(command, *arguments):
    """Run one command and return the exit code."""
    if command == "header":
        print(LINE.format("stage", "result", "time", "passed", "failed", "skipped"))
        return 0
    if command == "row":
        line, complaints, well = row(*arguments)
        print(line)
        for complaint in complaints:
            print(f"{arguments[0]}: {complaint}", file=sys.stderr)
        return int(not well)
    if command == "failures":
        print("\n\n".join(text for path in arguments for text in failures(path)))
        return 0
    if command == "total":
        line, well = total(pathlib.Path(arguments[0]).read_text(encoding="utf-8"))
        print(line)
        return int(not well)
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
