"""docs/troubleshooting.md: each message of ours that the page quotes is one that the code prints."""

import functools
import re

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils.validation import owners
from repository import ROOT

PAGE = ROOT / "docs/troubleshooting.md"
# The sections whose messages come from other programs.
FOREIGN = ("Messages of Ansible, SSH and sudo", "Messages of the build of the virtualenv")
# "…" stands for a name, a number or a path. A shorter piece between two of them would match anything.
SHORTEST = 6
CODE = [
    "site.yml", "bin/*", "playbooks/**/*.yml", "playbooks/**/*.py", "plugins/**/*.py", "roles/*/files/*",
    "roles/*/files/*/*.py", "roles/*/tasks/**/*.yml", "roles/*/templates/*", "roles/*/vars/*.yml"
]


def rows():
    """Each row of the page's tables: (section, message)."""
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif match := re.match(r"\| ``? ?(.+?) ?``? \|", line):
            yield section, match[1]


def pieces(message):
    """The fixed parts of a message."""
    found = [piece.strip() for piece in message.split("…")]
    return [piece for piece in found if len(piece) >= SHORTEST]


def plain(text):
    """Code as one line, with strings that stand side by side joined as their language joins them."""
    text = re.sub(r"[\"'][ \t]*\n\s*f?[\"']", "", text)
    return re.sub(r"\s+", " ", text.replace("\\\"", "\"").replace("'\\''", "'"))


@functools.cache
def code():
    found = {str(path.relative_to(ROOT)): plain(path.read_text(encoding="utf-8"))
             for pattern in CODE for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".pyc"}
    # Messages of rules that are data, as core.py writes them.
    return found | {name: f"{name} (…): is …; {valid}" for name, (_pattern, valid) in owners.DATA["PATTERNS"].items()}


OURS = [message for section, message in rows() if section not in FOREIGN]


def test_the_page_quotes_messages_of_ours_and_of_others():
    assert len(OURS) >= 40
    assert sum(section in FOREIGN for section, _message in rows()) >= 8


@pytest.mark.parametrize("message", OURS)
def test_a_quoted_message_is_printed_by_one_file(message):
    """By one file, because the pieces of one message stand side by side."""
    wanted = pieces(message)
    assert wanted, "the quotation has no piece of {0} characters or more".format(SHORTEST)
    assert [name for name, text in code().items() if all(piece in text for piece in wanted)]


def test_the_tables_are_ordered_by_message():
    sections = {}
    for section, message in rows():
        sections.setdefault(section, []).append(re.sub(r"\W", "", message).lower())
    for section, messages in sections.items():
        assert messages == sorted(messages), section


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", PAGE.read_text(encoding="utf-8"))
    assert not [link for link in links if not link.startswith("http") and not (PAGE.parent / link).exists()]
