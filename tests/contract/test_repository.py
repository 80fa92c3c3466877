"""What holds for the repository as a whole."""

import importlib.util
import json
import os
import pathlib
import re

import forks
import pytest
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import controller
from repository import ROOT, load, renamed, role_ids, source_files, without_printed_blocks

PLAYBOOKS = sorted([*ROOT.glob("*.yml"), *ROOT.glob("playbooks/**/*.yml")])
PLAYBOOKS = [path for path in PLAYBOOKS if "group_vars" not in path.parts and isinstance(load(path), list)]


def ansible_playbook(*arguments):
    """Ansible on an inventory with one host in every group."""
    done = forks.run(["ansible-playbook", "-i", ROOT / "inventories/single_node/hosts.yml", *arguments], cwd=ROOT,
                     env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"})
    return done.returncode, done.stdout + done.stderr


def keys(directory):
    found = {}
    for path in [*directory.glob("*.yml"), *directory.glob("*/*.yml")]:
        for key in load(path) or {}:
            found[key] = path
    return found


@pytest.mark.parametrize("inventory", sorted(path for path in ROOT.glob("inventories/*") if path.is_dir()),
                         ids=role_ids)
def test_no_key_is_in_the_root_and_in_an_inventory(inventory):
    """The root's would silently win."""
    for group in [path for path in (ROOT / "group_vars").glob("*")]:
        name = group.stem
        here = keys(group) if group.is_dir() else set(load(group) or {})
        there = set()
        for path in [inventory / "group_vars" / name, inventory / "group_vars" / (name + ".yml")]:
            there |= set(keys(path)) if path.is_dir() else set(load(path) or {}) if path.exists() else set()
        assert not set(here) & there


def test_group_vars_hold_wiring_only():
    """What an operator may set has its default in a role; the root only derives values of generic roles."""
    constants = [key for key, path in keys(ROOT / "group_vars/all").items() if "{{" not in str((load(path) or {})[key])]
    # How Ansible itself works. No site sets these.
    assert set(constants) == {"ansible_managed", "ansible_pipelining", "ansible_facts_modules"}


@pytest.mark.parametrize("directory", sorted({path.parent for path in PLAYBOOKS} - {ROOT}), ids=role_ids)
def test_playbooks_see_the_group_vars(directory):
    """Ansible looks for group_vars beside the playbook that holds the play, and says nothing where there are none."""
    link = directory / "group_vars"
    assert link.is_symlink()
    assert not os.path.isabs(os.readlink(link))
    assert link.resolve() == ROOT / "group_vars"


def test_site_only_imports():
    for play in load(ROOT / "site.yml"):
        assert set(play) - {"vars"} == {"name", "import_playbook"}
        assert (ROOT / "playbooks" / (play["import_playbook"].removeprefix("windsock.airflow.") + ".yml")).exists()
    # The collection has the same list under its own name.
    assert (ROOT / "playbooks/site.yml").samefile(ROOT / "site.yml")


def test_the_collection_says_which_ansible_its_playbooks_take():
    lowest, below = (".".join(map(str, limit)) for limit in (controller.OLDEST, controller.TOO_NEW))
    assert load(ROOT / "meta/runtime.yml")["requires_ansible"] == f">={lowest}.0,<{below}.0"
    assert f"'ansible-core>={lowest},<{below}'" in (ROOT / "docs/collection.md").read_text(encoding="utf-8")


def test_the_collection_depends_on_what_its_own_environment_has():
    pinned = {item["name"]: item["version"] for item in load(ROOT / "requirements.yml")["collections"]}
    wanted = load(ROOT / "galaxy.yml")["dependencies"]
    assert wanted == {name: f">={pinned[name]},<{int(pinned[name].split('.')[0]) + 1}.0.0" for name in wanted}
    (package, ) = re.findall(r"^ansible==\S+$", (ROOT / "requirements/controller.in").read_text(encoding="utf-8"),
                             re.MULTILINE)
    assert f"'{package}'" in (ROOT / "docs/collection.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PLAYBOOKS, ids=role_ids)
def test_plays_hold_roles_or_tasks(path):
    assert not [play["name"] for play in load(path) if "roles" in play and "tasks" in play]


def test_collections_are_those_of_the_pinned_package():
    """An environment of one's own gets what the locked environment has."""
    wrong = []
    for item in load(ROOT / "requirements.yml")["collections"]:
        found = importlib.util.find_spec("ansible_collections." + item["name"])
        assert found, "{0} is not in the controller's environment".format(item["name"])
        manifest = pathlib.Path(next(iter(found.submodule_search_locations))) / "MANIFEST.json"
        installed = json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"]
        if str(item.get("version")).lstrip("=") != installed:
            wrong.append(
                "{0}: requirements.yml {1}, installed {2}".format(item["name"], item.get("version"), installed)
            )
    assert not wrong


def test_every_collection_in_use_is_required():
    required = {item["name"] for item in load(ROOT / "requirements.yml")["collections"]}
    used = set()
    for path in [
            *ROOT.glob("roles/**/*.yml"), *ROOT.glob("playbooks/*.yml"), *ROOT.glob("molecule/**/*.yml"),
            *ROOT.glob("inventories/**/*.yml")
    ]:
        used |= set(
            re.findall(r"\b((?:community|amazon|ansible)\.(?!builtin\b)[a-z]+)\.[a-z_]+\b",
                       path.read_text(encoding="utf-8")))
    assert used <= required, sorted(used - required)


def documented_tags():
    text = (ROOT / "docs/tags.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def list_tasks(*arguments):
    """[(name, [tags])] of site.yml."""
    code, output = ansible_playbook("site.yml", "--list-tasks", *arguments)
    assert code == 0, output
    return [(name.strip(), [tag for tag in re.split(r",\s*", tags) if tag])
            for name, tags in re.findall(r"^      (.+?)\tTAGS: \[(.*)\]$", output, re.MULTILINE)]


@pytest.fixture(scope="module")
def tasks():
    return list_tasks()


@pytest.mark.parametrize("tag", documented_tags())
def test_documented_tags_select_something(tag, tasks):
    assert [name for name, tags in tasks if tag in tags]


def test_ansible_selects_by_tag():
    """Once for real: what the tags of a listing say is what --tags takes."""
    selected = list_tasks("--tags", "health")
    assert [name for name, tags in selected if "health" in tags]
    assert all("health" in tags or "always" in tags for _name, tags in selected)


def test_a_virtualenv_that_was_never_built_is_refused_before_anything_changes(tasks):
    """A run with tag configure asks first, before the secrets and the database."""
    chosen = [name for name, tags in tasks if {"configure", "always"} & set(tags)]
    refusal = chosen.index("windsock.airflow.airflow_virtualenv : gather_state | Check that the virtualenv was built")
    # Preflight asks the server with role postgresql, and changes nothing.
    asks = ("windsock.airflow.postgresql : load_vars |", "windsock.airflow.postgresql : check_neighbours |")
    roles = {
        name.split(" : ")[0].removeprefix("windsock.airflow.")
        for name in chosen[:refusal] if " : " in name and not name.startswith(asks)
    }
    assert roles <= {"preflight", "airflow_common", "airflow_virtualenv"}, chosen[:refusal]


def test_every_tag_is_documented(tasks):
    used = {tag for _name, tags in tasks for tag in tags}
    assert used - {"always", "never", *renamed("Tags")} <= set(documented_tags())


SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|aws_secret_access_key\s*=\s*\S{20}|\bgh[pousr]_[A-Za-z0-9]{30}"
)


def test_no_secret_is_in_the_tree():
    found = []
    for path in source_files():
        if path == pathlib.Path(__file__).resolve() or path.stat().st_size > 2_000_000:
            continue
        try:
            if SECRETS.search(path.read_text(encoding="utf-8")):
                found.append(str(path.relative_to(ROOT)))
        except UnicodeDecodeError:
            continue
    assert not found


def test_yaml_files_end_in_yml():
    # pre-commit and antsibull-changelog know their files by these names only.
    others = {".pre-commit-config.yaml", "changelogs/changelog.yaml", "changelogs/config.yaml"}
    assert {str(path.relative_to(ROOT)) for path in source_files() if path.suffix == ".yaml"} == others


def test_links_of_the_documentation_lead_somewhere():
    broken = []
    for path in source_files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                broken.append("{0}: {1}".format(path.relative_to(ROOT), target))
    assert not broken


def test_locks_are_whole():
    """Every line of a lock is pinned and has its hash."""
    for path in sorted((ROOT / "locks").glob("airflow-*.txt")):
        text = path.read_text(encoding="utf-8")
        pins = re.findall(r"^[A-Za-z0-9][\w.\-\[\],]*==\S+", text, re.MULTILINE)
        blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
        without = [
            block.split("\n")[0] for block in blocks
            if "==" in block.split("\n")[0] and not block.startswith("#") and "--hash=sha256:" not in block
        ]
        assert len(pins) > 100 and not without, path.name
        assert "apache-airflow==" + re.fullmatch(r"airflow-(.+)-py.*", path.stem).group(1) in re.sub(
            r"\[[^\]]*\]", "", text)


# Files with commands and with paths of variables that people read: pages, comments, messages.
TEXTS = ["*.md", "*.yml", "bin/*", "docs/**/*.md", "files/site/**/*", "inventories/**/*.yml",
         "playbooks/**/*.yml", "playbooks/**/*.py", "plugins/**/*.py", "roles/*/README.md", "roles/*/*/**/*.yml",
         "roles/*/*/**/*.py"]


def texts():
    """(path, text) of each of these files."""
    for path in sorted({path for pattern in TEXTS for path in ROOT.glob(pattern)}):
        if path.is_file() and path.suffix != ".pyc":
            yield path, path.read_text(encoding="utf-8")


def commands():
    """(file:line, roughly, command) of each ansible-playbook and ansible command in these texts."""
    for path, text in texts():
        # A command may go on behind a backslash.
        for number, line in enumerate(re.sub(r"\\\n#? *", "", without_printed_blocks(text)).splitlines(), 1):
            for command in re.findall(r"\b(?:ansible-playbook (?=[^`]*\.yml)|ansible (?=[^`]* -m ))[^`]*", line):
                yield f"{path.relative_to(ROOT)}:{number}", command


# Commands of these files are for the sandbox and for test hosts.
OWN_HOSTS = ("bin/sandbox:", "bin/host-image:")
# The site of the documents, and the same site in templates.
SITE = {"~/airflow-site/hosts.yml", "${site_q}/hosts.yml", "{quoted(site / 'hosts.yml')}"}
# In the directory of a site, ansible.cfg names the inventory, and the playbook needs an absolute path.
IN_THE_SITE = re.compile(r"ansible-playbook ([/~]|\$\{repository_q\}/)\S+\.yml")


def names_a_site(command):
    inventory = re.search(r" (?:-i|--inventory)[ =](\{[^}]*\}|\S+)", command)
    return (inventory[1] in SITE or (ROOT / inventory[1]).exists()) if inventory else IN_THE_SITE.match(command)


def test_every_command_names_a_site():
    """Without -i a command acts on the sandbox. With a wrong path it finds no host and still succeeds."""
    found = [(place, command) for place, command in commands() if not place.startswith(OWN_HOSTS)]
    assert len(found) > 80
    scanned = {place.split(":")[0].split("/")[0] for place, _command in found}
    assert scanned >= {"README.md", "bin", "docs", "files", "inventories", "playbooks", "roles"}
    nameless = [f"{place}: {command}" for place, command in found if not names_a_site(command)]
    assert not nameless, "\n".join(nameless)
    # Only the playbooks below playbooks/aws need inventories/aws. The other playbooks are for every site.
    elsewhere = [f"{place}: {command}" for place, command in found
                 if re.match("playbooks/(?!aws/)", place) and " -i ~/airflow-site/hosts.yml" not in command]
    assert not elsewhere, "\n".join(elsewhere)


def test_no_text_sends_the_reader_to_an_inventory_in_the_clone():
    """A site is outside of the clone. Only an environment in AWS is a copy of inventories/aws, beside it."""
    lost = []
    for path, text in texts():
        place = str(path.relative_to(ROOT))
        for number, line in enumerate(text.splitlines(), 1):
            for name in re.findall(r"(?<![\w-])inventories/(<\w+>|\w+)", line):
                in_aws = name in ("<environment>", "production") and re.search(r"(bin|docs|roles)/aws", place + line)
                if not in_aws and not (ROOT / "inventories" / name).exists():
                    lost.append(f"{place}:{number}: inventories/{name}")
    assert not lost, "\n".join(lost)


def test_a_dead_connection_is_noticed():
    """Without it a run over SSH waits for ever for a host whose network is gone."""
    options = dict(re.findall(r"-o (\w+)=(\w+)", (ROOT / "ansible.cfg").read_text(encoding="utf-8")))
    assert 30 <= int(options["ServerAliveInterval"]) * int(options["ServerAliveCountMax"]) <= 120


def test_what_removal_forgets_is_in_a_directory_of_airflow():
    """Each role that writes files elsewhere on a host removes them: its remove.yml is part of
    playbooks/remove_airflow.yml.
    """
    playbook = (ROOT / "playbooks/remove_airflow.yml").read_text(encoding="utf-8")
    imported = set(
        re.findall(r"name: windsock\.airflow\.(\w+)\n\s+tasks_from: operations/(?:remove|stop)\.yml", playbook))
    with_tasks = {path.parts[-4] for path in ROOT.glob("roles/*/tasks/operations/remove.yml")}
    writing = {path.relative_to(ROOT).parts[1] for path in ROOT.glob("roles/*/tasks/**/*.yml")
               if re.search(r"^ +(windsock\.airflow\.files|ansible\.builtin\.(template|copy|lineinfile|get_url)):",
                            path.read_text(encoding="utf-8"), re.MULTILINE)}
    # These write below airflow_install_dir only; the AWS roles write on no host.
    below = {"airflow_dags", "airflow_runtime", "airflow_virtualenv"}
    assert {name for name in writing if not name.startswith("aws_")} - below <= with_tasks == imported
