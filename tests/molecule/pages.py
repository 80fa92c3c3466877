"""The commands that a page of this project tells its reader to type."""

import re

from conftest import ROOT


def section(page, heading):
    """The text below a heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def blocks(page, heading):
    """Commands after a prompt, one list for each block."""
    return [re.findall(r"^\$ (.*?)(?:\s+#.*)?$", block, re.MULTILINE)
            for block in re.findall(r"```console\n(.*?)```", section(page, heading), re.DOTALL)]


def script(page, heading=""):
    """Commands of the first block without prompts, without their comments."""
    text = section(page, heading) if heading else (ROOT / page).read_text(encoding="utf-8")
    lines = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()
    return [re.sub(r"\s+#.*", "", line) for line in lines if not line.startswith("#")]


def inline(page, heading, pattern):
    """The one command in a sentence of a section, or in a row of its table, that this pattern matches."""
    text = re.sub(r"```.*?```", "", section(page, heading), flags=re.DOTALL)
    (found,) = [command for command in re.findall(r"`([^`\n]+)`", text) if re.search(pattern, command)]
    return found
