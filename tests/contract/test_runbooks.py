"""Runbooks: each opens with what an on-call engineer has to know, has a page of its name, and is found by a symptom."""

import re

import pytest
from ansible.template import Templar, trust_as_template
from repository import ROOT, load

RUNBOOKS = sorted(ROOT.glob("playbooks/runbooks/*.yml"))
PAGES = ROOT / "docs/runbooks"
HEADER = ["When to use:", "When not to:", "What it changes:", "Expected:", "Usage:", "How to undo:", "Next step:"]

by_runbook = pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)


def header_of(path):
    """Return the comment that the playbook begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "---"
    return [line for line in lines[1:] if line.startswith("#")]


@by_runbook
def test_it_opens_with_what_has_to_be_known(path):
    found = [(match[1], match[2]) for line in header_of(path) if (match := re.match(r"# ([A-Z][a-z ]+:)(.*)", line))]
    assert [title for title, _text in found] == HEADER
    assert not [title for title, text in found if not re.search(r"\w", text)], "titles without a text"


@by_runbook
def test_it_says_whether_it_changes_anything(path):
    """A runbook that only looks says so in these words; a bare run of one that needs a typed word is a report."""
    text = path.read_text(encoding="utf-8")
    changes = next(line for line in header_of(path) if line.startswith("# What it changes:"))
    assert changes.split(":", 1)[1].strip()
    if "confirm" in text:
        assert any("-e airflow_confirm=" in line for line in header_of(path)), "the header shows how to confirm"


@by_runbook
def test_it_has_a_page_that_a_symptom_leads_to(path):
    page = PAGES / f"{path.stem}.md"
    assert page.is_file()
    assert f"playbooks/runbooks/{path.name}" in page.read_text(encoding="utf-8"), "the page shows the command"
    rows = [
        line for line in (PAGES / "index.md").read_text(encoding="utf-8").splitlines() if f"]({path.stem}.md)" in line
    ]
    assert any(line.startswith("| ") for line in rows)


def test_no_page_is_without_its_runbook():
    assert {page.stem for page in PAGES.glob("*.md")} - {"index"} == {path.stem for path in RUNBOOKS}


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_link_that_names_a_runbook_leads_to_its_page(page):
    names = {path.stem for path in RUNBOOKS}
    links = re.findall(r"\[`?(\w+)`?\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert not [(text, link) for text, link in links if text in names and link != f"{text}.md"]


@pytest.mark.parametrize("name", ["check_health", "collect_support_bundle", "diagnose"])
def test_what_looks_at_everything_looks_at_hosts_without_airflow_too(name):
    (play,) = load(ROOT / f"playbooks/runbooks/{name}.yml")
    # By groups: airflow* would take in a host that is only called so.
    assert play["hosts"] == "airflow:airflow_postgres:airflow_proxy"


def test_the_table_of_faults_is_that_of_the_test():
    """bin/fault-table writes it from a run."""
    test = (ROOT / "tests/molecule/test_runbooks.py").read_text(encoding="utf-8")
    titles = re.findall(r'Fault\(\s*"([^"]+)"', test)
    rows = re.findall(r"^\| ([^|]+) \| (?:CRITICAL|WARN) ", (PAGES / "diagnose.md").read_text(encoding="utf-8"), re.M)
    assert len(titles) >= 20
    assert rows == titles


def test_no_playbook_takes_the_first_host_of_the_inventory():
    """A dynamic inventory changes its order, and what a run has kept on that host is not there for the next one."""
    assert [
        path.name for path in ROOT.glob("playbooks/**/*.yml")
        if re.search(r"hosts: airflow\[", path.read_text(encoding="utf-8"))
    ] == []


def test_a_session_that_rolls_back_for_minutes_is_waited_for_and_reported():
    (play,) = load(ROOT / "playbooks/runbooks/end_database_sessions.yml")
    (part,) = [task for task in play["tasks"] if task["name"].startswith("Wait until")]
    (wait,), (report,) = part["block"], part["rescue"]
    assert wait["retries"] * wait["delay"] >= 300
    templar = Templar(variables={"__sessions_left": {"query_result": [{"pid": 7}, {"pid": 8}]}})
    told = templar.template(trust_as_template(report["ansible.builtin.fail"]["msg"]))
    assert "session 7, 8. They end by themselves. Run the same command again" in told
