import functools
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in ROOT.glob("roles/*") if path.is_dir())


class Loader(yaml.CSafeLoader):
    """Reads Ansible's own tags as plain strings."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_scalar(node))


@functools.cache
def load(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def strings(path):
    """The scalars of a file, as YAML reads them."""
    nodes = list(yaml.compose_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.ScalarNode):
            yield node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [one for pair in node.value for one in pair]
        elif node:
            nodes += node.value


def tasks_of(items):
    """Every task of a list of tasks or plays, those inside of blocks too."""
    for item in items or []:
        if not isinstance(item, dict):
            continue
        nested = [
            key for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
            if isinstance(item.get(key), list)
        ]
        for key in nested:
            yield from tasks_of(item[key])
        if not nested and "hosts" not in item and "import_playbook" not in item:
            yield item


def renamed(heading):
    """{old: new} of a table in docs/renamed.md."""
    text = (ROOT /
            "docs/renamed.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\S+)` \| `(\S+)`", text, re.MULTILINE))


# These only tell the new name.
OLD_PLAYBOOKS = renamed("Playbooks")


def source_files():
    """Files that belong to the repository: what git knows, and what it would take."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"],
                           cwd=ROOT,
                           capture_output=True,
                           text=True,
                           check=True).stdout.split("\n")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


PRINTED = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def printed_blocks(text):
    """The blocks of a page that show what a command prints."""
    return PRINTED.findall(text)


def without_printed_blocks(text):
    """A page without these blocks: their commands are no commands of the page."""
    return PRINTED.sub("", text)


def task_files():
    """Files with tasks, with the text of each task's module arguments."""
    return sorted(
        [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/**/*.yml")])


def role_ids(path):
    return path.name if path.is_dir() else str(path.relative_to(ROOT))


def module_of(task):
    """(module, arguments) of a task."""
    from_keys = [key for key in task if "." in key or re.fullmatch(r"airflow_\w+|preflight", key)]
    return (from_keys[0], task[from_keys[0]]) if from_keys else ("", None)


def offenders(judge, paths):
    """{path: what is wrong} of those at which this function finds something."""
    return {role_ids(path): wrong for path in paths if (wrong := judge(path))}
