"""The pages that a user of the product reads: they lead to the end, name what they need, and are plain."""

import re

import pytest
from repository import OLD_PLAYBOOKS, ROOT, source_files, without_printed_blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")
# The road of a new user, and what is read at 3 a.m.
PLAIN = [
    "README.md", "files/site/README.md", "docs/install.md", "docs/update.md", "docs/remove.md",
    "docs/troubleshooting.md", "docs/runbooks/index.md"
]
TURNS = [
    "in place of", "need not", "for want of", "of those that", "is to be", "are to be", "has none", "sealed", "says no",
    "made good", "mends?"
]
# What a reader with a password of sudo or of the vault adds to a command, in these words on every page.
ADDED = "Add `-K` to each command if sudo asks for a password, and `--ask-vault-pass` if `vault.yml` is encrypted."
# open_ui asks a host without sudo, and playbooks/aws asks AWS. The login of an EC2 instance has sudo without a
# password.
WITHOUT_SUDO = re.compile(
    r"ansible-playbook (-i inventories/aws|(-i \S+ )?(playbooks/aws/|playbooks/runbooks/open_ui\.yml))")


def section(text, heading):
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def commands(text):
    """The lines after the prompt, without the comments behind them."""
    return [re.sub(r"\s+#.*", "", line) for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE)]


def test_the_readme_leads_to_a_dag_of_ones_own():
    typed = commands(section(README, "On your own server"))
    assert re.fullmatch(r"git clone (\S+) ~/airflow && cd ~/airflow", typed[0])
    first_playbook = next(number for number, command in enumerate(typed) if command.startswith("ansible-playbook"))
    assert any(re.fullmatch(r"ssh \S+@\S+ true", command) for command in typed[:first_playbook]), "the host key"
    (deploy,) = [number for number, command in enumerate(typed) if "deploy_dags.yml" in command]
    (run,) = [number for number, command in enumerate(typed) if "run_dag.yml" in command]
    assert deploy < run
    dag_id = re.search(r"dag_id=(\S+)", typed[run])[1]
    assert not (ROOT / f"files/dags/{dag_id}.py").exists(), "the release that was deployed has no example"


def test_the_readme_says_what_to_replace():
    text = section(README, "On your own server")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    typed = "\n".join(commands(text))
    for placeholder in (r"git clone (\S+)", r"--host (\S+)", r"--user (\S+)", r"dag_id=(\S+)"):
        assert f"`{re.search(placeholder, typed)[1]}`" in prose


def test_the_readme_lists_every_playbook():
    # The last play of site.yml, which only tells what comes next, and site.yml itself.
    own = {"playbooks/next_steps.yml", "playbooks/site.yml"}
    playbooks = {
        str(path.relative_to(ROOT))
        for pattern in ("playbooks/*.yml", "playbooks/aws/*.yml")
        for path in ROOT.glob(pattern)
    }
    playbooks -= set(OLD_PLAYBOOKS)
    assert playbooks - set(re.findall(r"^\| `(playbooks/\S+\.yml)` \|", README, re.MULTILINE)) == own


@pytest.mark.parametrize("page", [path for path in sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")])
                                  if "ansible-playbook " in path.read_text(encoding="utf-8")],
                                  ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_says_what_a_reader_with_a_password_adds(page):
    lines = without_printed_blocks(page.read_text(encoding="utf-8")).splitlines()
    bare = [number for number, line in enumerate(lines)
            if re.search(r"ansible-playbook .*\.yml", line) and " -K" not in line and not WITHOUT_SUDO.search(line)]
    # Above the first command, or in the line below a command that stands in a sentence.
    assert not bare or ADDED in "\n".join(lines[:bare[0] + 2]), lines[bare[0]]


def test_the_index_of_the_runbooks_and_the_site_say_what_to_add():
    for page in ("docs/runbooks/index.md", "files/site/README.md"):
        assert ADDED in (ROOT / page).read_text(encoding="utf-8"), page


def test_no_page_sends_the_reader_to_a_server_of_collections():
    """The collection is on none."""
    pages = [
        ROOT / "CHANGELOG.rst", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md"),
        *ROOT.glob("files/site/*.md")
    ]
    assert [
        str(page.relative_to(ROOT)) for page in pages if re.search(r"\bGalaxy\b", page.read_text(encoding="utf-8"))
    ] == []


def test_one_page_says_how_long_the_tests_take():
    assert re.search(r"`bin/test --fast` \|.* \d+ to \d+ min \|",
                     (ROOT / "docs/testing.md").read_text(encoding="utf-8"))
    for page in ("CONTRIBUTING.md", "README.md"):
        assert not re.search(r"bin/test.*\d (min|s)", (ROOT / page).read_text(encoding="utf-8")), page


def test_the_package_to_look_for_is_in_the_lock():
    """A reader who sees no output of the example would take the command for wrong."""
    pattern, lock = re.search(r"`grep -i '(\S+)' (locks/\S+)`",
                              (ROOT / "docs/dag_requirements.md").read_text(encoding="utf-8")).groups()
    assert re.search(pattern, (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE | re.IGNORECASE), pattern


def test_pages_reach_a_bastion_in_one_form():
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("docs/install.md", "files/site/hosts.yml")}
    forms = {name: re.findall(r"(-J |-o ProxyJump=)(?=\S+@bastion)", text) for name, text in texts.items()}
    assert forms == {"docs/install.md": ["-o ProxyJump="] * 2, "files/site/hosts.yml": ["-o ProxyJump="]}


@pytest.mark.parametrize("page", PLAIN)
def test_lines_are_short(page):
    """Outside of tables and blocks."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.lstrip().startswith("|")]


@pytest.mark.parametrize("page", PLAIN)
def test_turns_that_are_hard_to_read_do_not_come_back(page):
    text = re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8"))
    assert not [match[0] for match in re.finditer(rf".{{30}}\b(?:{'|'.join(TURNS)})\b.{{10}}", text)]


@pytest.mark.parametrize("command", ["stop", "disable"])
def test_commands_for_many_units_do_what_they_say(command):
    """systemctl stops the units of a pattern in a random order, one after the other, and disables none of them."""
    pattern = re.compile(rf"systemctl {command} [^;|&`\n]*\*")
    found = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in source_files()
        if path.relative_to(ROOT).parts[0] in ("docs", "playbooks", "plugins",
                                               "roles") and path.suffix in (".j2", ".md", ".py", ".yml")
        for line in pattern.findall(path.read_text(encoding="utf-8"))
    }
    assert {line
            for line in found if f"systemctl {command} airflow.target " not in line or command == "disable"} == set()
