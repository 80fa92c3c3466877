"""What every role of this repository has in common."""

import collections
import importlib
import importlib.util
import json
import re
import subprocess
import sys

import pytest
from repository import ROLES, ROOT, load, module_of, offenders, role_ids, task_files, tasks_of

TASK_FILES = task_files()
FILES_OF_ROLES = [path for path in TASK_FILES if "roles" in path.parts]


def options(role):
    return load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {}


def defaults(role):
    path = role / "defaults/main.yml"
    return (load(path) or {}) if path.exists() else {}


def test_spec_and_defaults_name_the_same_variables():
    def judge(role):
        required = {name for name, spec in options(role).items() if spec.get("required")}
        return (set(options(role)) - required) ^ set(defaults(role))

    assert not offenders(judge, ROLES)


def test_spec_and_defaults_have_the_same_values():
    def judge(role):
        values, spec = defaults(role), options(role)
        # An expression is text, and ansible-doc shows a default of the type.
        values = {
            name: None if "{{" in str(value) and spec.get(name, {}).get("type") in ("bool", "int", "float") else value
            for name, value in values.items()
        }
        return {
            name: (value, spec[name].get("default"))
            for name, value in values.items()
            if name in spec and (spec[name].get("default"), type(spec[name].get("default"))) != (value, type(value))
        }

    assert not offenders(judge, ROLES), "variable: (defaults/main.yml, argument_specs.yml)"


def test_specs_describe_their_roles():
    """antsibull-docs makes no page without it: bin/docs."""
    specs = {role.name: load(role / "meta/argument_specs.yml")["argument_specs"]["main"] for role in ROLES}
    assert [name for name, spec in specs.items()
            if not spec.get("short_description") or not spec.get("description")] == []


def test_every_option_has_type_and_description():
    def judge(role):
        return [
            name for name, spec in options(role).items()
            if not spec.get("type") or not re.search(r"\w+ \w+", str(spec.get("description", "")))
        ]

    assert not offenders(judge, ROLES)


def test_variables_begin_with_the_name_of_their_role():
    def judge(role):
        prefix = next((family for family in ("airflow_", "aws_") if role.name.startswith(family)), role.name + "_")
        internal = [
            name for path in role.glob("vars/*.yml") for name in (load(path) or {})
            if not name.startswith("__" + prefix)
        ]
        return internal + [name for name in defaults(role) if not name.startswith(prefix)]

    assert not offenders(judge, ROLES)


def test_no_variable_belongs_to_two_roles():
    owners = {}
    for role in ROLES:
        for name in defaults(role):
            owners.setdefault(name, []).append(role.name)
    assert not {name: roles for name, roles in owners.items() if len(roles) > 1}


@pytest.mark.parametrize("family", ["Debian", "RedHat"])
def test_the_first_run_of_the_package_manager_brings_what_other_roles_ask_for(family):
    first = load(ROOT / "roles/airflow_common/vars/main/systems.yml")["__airflow_systems"][family]
    # Amazon Linux comes with one of two packages of gpg.
    gpg = first["backup_packages_default"][:1] if family == "Debian" else []
    for name in [*gpg, *load(ROOT / f"roles/logrotate/vars/{family}.yml")["__logrotate_packages"]]:
        assert f"'{name}'" in first["packages"]


def test_every_default_is_explained():
    """A comment stands above each variable."""
    def judge(role):
        path = role / "defaults/main.yml"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [
            line for before, line in zip(["", *lines], lines)
            if re.match(r"\w+:", line) and not re.match(r"# .*\w", before)
        ]

    assert not offenders(judge, ROLES)


def test_secrets_are_marked_in_the_spec():
    """no_log keeps their values out of messages about the input."""

    def unmarked(specs):
        for name, spec in specs.items():
            if re.search(r"(password|_secret|secret_key|fernet_key|token)$", name) and spec.get(
                    "type", "str") == "str" and not spec.get("no_log"):
                yield name
            yield from unmarked(spec.get("options") or {})

    assert not offenders(lambda role: list(unmarked(options(role))), ROLES)


def test_readme_tables_are_fresh():
    done = subprocess.run([sys.executable, ROOT / "bin/role-docs", "--check"],
                          capture_output=True,
                          text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_readme_says_what_it_must():
    def judge(role):
        text = (role / "README.md").read_text(encoding="utf-8")
        sections = {
            title.strip().lower(): body.strip()
            for title, body in re.findall(r"^## (.*)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
        }
        return [title for title in ("example", "idempotence", "failure modes") if not sections.get(title)]

    assert not offenders(judge, ROLES), "sections that are absent or empty"


def test_main_is_a_table_of_contents():
    mains = [path for path in FILES_OF_ROLES if path.name == "main.yml" and path.parent.name == "tasks"]
    lines = {
        role_ids(path): len([line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])
        for path in mains
    }
    assert len(mains) > 15 and not {path: count for path, count in lines.items() if count > 30}

    def judge(path):
        return [
            task.get("name") for task in load(path) if not (module_of(task)[0] in STATIC or passes_its_tags_on(task))
        ]

    assert not offenders(judge, mains), "tasks/main.yml holds static imports only"


STATIC = ("ansible.builtin.import_tasks", "ansible.builtin.meta")


def passes_its_tags_on(task):
    """A dynamic include saves the tasks of a long file that is seldom needed, but loses its tags unless it applies
    them.
    """
    module, arguments = module_of(task)
    return (module == "ansible.builtin.include_tasks" and isinstance(arguments, dict) and "when" in task
            and arguments.get("apply", {}).get("tags") == task.get("tags"))


def test_tasks_are_named_after_their_file():
    def judge(path):
        return [
            task.get("name") for task in tasks_of(load(path)) if not str(task.get("name")).startswith(path.stem + " | ")
        ]

    assert not offenders(judge, [path for path in FILES_OF_ROLES if path.name != "main.yml"])


def test_our_modules_have_their_full_names():
    """ansible-lint knows Ansible's own."""
    ours = {path.stem for kind in ("modules", "action") for path in ROOT.glob(f"plugins/{kind}/*.py")}
    assert not offenders(
        lambda path: [(task.get("name"), key) for task in tasks_of(load(path))
                      for key in task if key in ours], TASK_FILES)


def test_commands_say_why_they_are_no_module():
    """ansible-lint sees to it that they say when they change something."""
    def silent(path):
        text = path.read_text(encoding="utf-8")
        for task in tasks_of(load(path)):
            if module_of(task)[0] not in ("ansible.builtin.command", "ansible.builtin.shell"):
                continue
            # The comment stands above the task or inside of it.
            before, after = re.split(rf"(?m)name: ['\"]?{re.escape(task['name'])}['\"]?(?: # .*)?$", text, maxsplit=1)
            body = re.split(r"\n *- name:", after, maxsplit=1)[0].splitlines()
            if not any(says_something(line) for line in [*before.splitlines()[-2:-1], *body]):
                yield task["name"]

    assert not offenders(lambda path: list(silent(path)), TASK_FILES)


SECRET = re.compile(
    r"\{\{[^}]*(password|_secret\b|_secrets\b|secrets_g|secrets\.|fernet_key|secret_key|_users\b|_headers\b|"
    r"secrets_(here|aws|on_host|input|kept|values|of_before|url)\b)")
# Modules of airflow_runtime that are called like secrets.
PROGRAM = re.compile(r"'(fernet_key|database_password)'(?=, '| \| windsock)")
# Modules that return secrets, whatever their arguments are.
RETURN_SECRETS = ("windsock.airflow.airflow_secrets", "windsock.airflow.airflow_aws_secrets")
# Tasks whose answer holds secrets, or whose arguments do in a way that the expression does not see.
HOLD_SECRETS = {
    "start_restore | Unseal the keys": "prints all keys of the backup",
    "start_restore | Check that the keys can read the backup":
        "compares Fernet keys, and a failed assert shows what it compared",
    "gather_state | Query every host of the environment for its secrets": "prints the secrets of each host",
    "query_held | Ask which secrets of the rotation this host holds": "prints marks on which a password could be tried",
    "start_rotation | Note it for a rotation that fails": "keeps these marks for the rescue",
    "revert_rotation | Ask each host whether the database takes its password":
        "opens the database with the host's password",
    "read_copy | Take the secrets as they are": "sets a variable that holds all secrets",
    "prove | Query whether the Fernet key decrypts the values of the database": "gets the keys on standard input",
    "validate | Try the site's certificate and key": "passes the private key to a program",
}
# A static import prints nothing itself, and its no_log would silence what its tasks say of a failure; they are judged
# one by one.
SILENT = ("ansible.builtin.include_vars", "ansible.builtin.assert", "ansible.builtin.import_tasks")


def argument_spec(name):
    """The arguments of a module, as it gives them to Ansible."""
    collection, _, short = name.rpartition(".")
    module = importlib.import_module(f"ansible_collections.{collection}.plugins.modules.{short}")

    class Found(Exception):
        pass

    def stop(*_arguments, argument_spec, **_options):
        raise Found(argument_spec)

    with pytest.MonkeyPatch.context() as patch:
        for made_by in ("AnsibleModule", "AnsibleAWSModule"):
            if hasattr(module, made_by):
                patch.setattr(module, made_by, stop)
        # An action such as set_fact has no module behind it, and hides nothing.
        if not hasattr(module, "main"):
            return {}
        with pytest.raises(Found) as found:
            module.main()
    return found.value.args[0]


def shows_secrets(task):
    """Return why this task may show a secret, or nothing."""
    module, arguments = module_of(task)
    given = {
        **(arguments if isinstance(arguments, dict) else {"": arguments}),
        **{key: task[key]
           for key in ("environment", "loop", "vars") if key in task}
    }
    secrets = [name for name, value in given.items() if SECRET.search(PROGRAM.sub("", str(value)))]
    hidden = task.get("no_log")
    if hidden is True or re.fullmatch(r"\{\{ \w+_secure_logging \}\}", str(hidden)) or module in SILENT:
        return ""
    known = module in RETURN_SECRETS or task.get("name") in HOLD_SECRETS
    if hidden is None:
        return "no no_log" if secrets or known else ""
    if hidden is False and known:
        return "no_log is false, and the task holds secrets"
    if hidden is not False:
        return f"no_log is {hidden!r}, which is neither true nor a variable *_secure_logging"
    # The module's own no_log hides its parameters, and nothing else.
    shown = [
        name for name in secrets
        if name in ("environment", "loop", "vars", "") or not argument_spec(module).get(name, {}).get("no_log")
    ]
    return f"no_log is false, and the module shows {', '.join(shown)}" if shown else ""


def test_tasks_with_secrets_hide_them():
    assert not offenders(
        lambda path: {task.get("name"): why
                      for task in tasks_of(load(path)) if (why := shows_secrets(task))}, TASK_FILES)


@pytest.mark.parametrize(("task", "why"), [
    ({"ansible.builtin.command": "x {{ db_password }}"}, "no no_log"),
    ({"ansible.builtin.command": "{{ here['fernet_key'] }}"}, "no no_log"),
    ({"ansible.builtin.command": "{{ runtime + ['fernet_key', 'count'] }}"}, ""),
    ({"ansible.builtin.command": "x {{ db_password }}", "no_log": True}, ""),
    ({"ansible.builtin.command": "x {{ db_password }}", "no_log": "{{ airflow_secure_logging }}"}, ""),
    ({"ansible.builtin.command": "x {{ db_password }}", "no_log": False}, "no_log is false"),
    ({"ansible.builtin.command": "x {{ db_password }}", "no_log": ""}, "no_log is ''"),
    ({"ansible.builtin.command": "x", "no_log": "{{ false }}"}, "no_log is '{{ false }}'"),
    ({"ansible.builtin.command": "x", "environment": {"A": "{{ db_password }}"}}, "no no_log"),
    ({"ansible.builtin.set_fact": {"a": "{{ db_password }}"}, "no_log": False}, "the module shows a"),
    ({"windsock.airflow.airflow_secrets": {"config_dir": "/x"}}, "no no_log"),
    ({"windsock.airflow.airflow_aws_secrets": {"name": "/x"}, "no_log": False}, "the task holds secrets"),
    ({"windsock.airflow.airflow_dag_run": {"password": "{{ admin_password }}"}, "no_log": False}, ""),
    ({"windsock.airflow.airflow_dag_run": {"user": "{{ admin_password }}"}, "no_log": False}, "the module shows user"),
    ({"windsock.airflow.airflow_dag_run": {"password": "{{ admin_password }}"}, "loop": "{{ airflow_users }}",
      "no_log": False}, "the module shows loop"),
])
def test_the_rule_for_secrets_finds_what_it_is_for(task, why):
    assert why in shows_secrets(task) and bool(why) is bool(shows_secrets(task))


def all_tasks():
    return [task for path in TASK_FILES for task in tasks_of(load(path))]


def test_every_task_that_hides_itself_would_be_missed():
    """Without its no_log, each of them is against the rule: so none can lose it unseen."""
    hidden = [task for task in all_tasks() if task.get("no_log") and module_of(task)[0] not in SILENT]
    unseen = [
        task["name"] for task in hidden
        if not shows_secrets({key: value
                              for key, value in task.items() if key != "no_log"})
    ]
    assert len(hidden) > 20 and not unseen, "name what they hold in SECRET or HOLD_SECRETS"


def test_a_task_that_is_named_for_its_secrets_exists_and_hides_them():
    hidden = [task["name"] for task in all_tasks() if task.get("name") in HOLD_SECRETS and task["no_log"]]
    assert sorted(hidden) == sorted(HOLD_SECRETS)
    assert not [name for name, reason in HOLD_SECRETS.items() if len(reason.split()) < 4]


def shown_without_a_reason(text):
    """Numbers of the lines with no_log: false, in any spelling, that no comment with words stands directly above."""
    lines = text.splitlines()
    return [number for number, (above, line) in enumerate(zip(["", *lines], lines), 1)
            if re.match(r"\s*(- )?no_log:(?! true$| \"\{\{)", line) and not says_something(above)]


def test_a_task_that_shows_its_output_on_purpose_says_why():
    assert not offenders(lambda path: shown_without_a_reason(path.read_text(encoding="utf-8")),
                         TASK_FILES), "lines without a reason"


@pytest.mark.parametrize("line", [
    "no_log: false", "no_log: false #", "no_log: false # seen", "no_log: False", 'no_log: "false"', "- no_log: no",
])
def test_no_log_false_without_a_reason_is_found(line):
    for above in ("", "#", "# noqa: no-log-password", "# --- ???", "- name: show all that it says"):
        assert shown_without_a_reason(f"{above}\n  {line}\n") == [2]
    assert not shown_without_a_reason(f"# The module hides it itself.\n  {line}\n")


@pytest.mark.parametrize("line", ["no_log: true", 'no_log: "{{ airflow_secure_logging }}"', "# no_log: false"])
def test_what_hides_itself_needs_no_reason(line):
    assert not shown_without_a_reason(line)


def says_something(line):
    """A comment of at least three words."""
    return line.strip().startswith("#") and len(re.findall(r"[a-zA-Z]+", line.split("# noqa", 1)[0])) >= 3


def test_facts_are_read_from_their_dictionary():
    facts = re.compile(
        r"\bansible_(?:distribution|os_family|memtotal_mb|processor\w*|hostname|default_ipv4|architecture)\w*")
    assert not offenders(lambda path: facts.findall(path.read_text(encoding="utf-8")), TASK_FILES)


def test_each_task_that_writes_on_the_controller_closes_what_it_writes():
    """What playbooks bring there is for its user alone: they use fetch_private, because ansible.builtin.fetch leaves
    files that everybody may read.
    """
    modules = {"fetch", "file", "copy", "template", "get_url", "unarchive", "slurp"}

    def judge(path):
        for task in tasks_of(load(path)):
            here = task.get("delegate_to") == "localhost" or "local" in (
                task.get("connection"),
                (task.get("vars") or {}).get("ansible_connection"),
            )
            for name in modules & {key.removeprefix("ansible.builtin.") for key in task}:
                arguments = task.get(f"ansible.builtin.{name}", task.get(name))
                # A report for CI, which runs as somebody else, and has no more in it than CI's own log.
                closed = arguments.get("state") == "absent" or arguments.get("mode") in (
                    "0600", "0700") or arguments.get("dest") == "{{ airflow_dags_junit }}"
                if name == "fetch" or here and not closed:
                    yield task["name"]

    assert not offenders(lambda path: list(judge(path)), [*TASK_FILES, ROOT / "site.yml"])


TEMPLATES = sorted(path for path in ROOT.glob("roles/*/templates/**/*") if path.is_file())
PARTS = [path for path in TEMPLATES if path.name.startswith("_")]


def test_templates_begin_with_the_managed_header():
    def judge(path):
        head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:6])
        wanted = {
            "the managed header": r"\{\{-?\s*ansible_managed\s*\|\s*comment",
            "the name of the template": re.escape(path.name),
            "the role that writes the file": rf"role {path.relative_to(ROOT).parts[1]}\b"
        }
        return [f"lacks {what}" for what, pattern in wanted.items() if not re.search(pattern, head)]

    # JSON has no comments, and a part has the header of the template that includes it.
    assert not offenders(judge,
                         [path for path in TEMPLATES if path not in PARTS and not path.name.endswith(".json.j2")])


def test_a_part_of_a_template_is_included_by_one():
    assert not [
        part.name for part in PARTS if not any(part.name in path.read_text(encoding="utf-8")
                                               for path in TEMPLATES if path != part)
    ]


def test_a_task_is_named_after_its_file():
    """<file> | Verb the thing; in main.yml and in a playbook without the file."""
    def judge(path):
        prefix = f"{path.stem} | " if path.stem != "main" and "roles" in path.parts else ""
        names = [task["name"] for task in tasks_of(load(path)) if "name" in task]
        # A name that is quoted in a string begins with an expression or a quote of its own.
        return [name for name in names if not re.match(re.escape(prefix) + "[A-Z(]", name)]

    assert not offenders(judge, TASK_FILES)


# Variables of these two are for all roles of their kind.
SHARED = {"airflow_common", "aws_common"}


NESTED = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")


def parts(items):
    """Every play, block and task, without those inside of it."""
    for item in items:
        yield {key: value for key, value in item.items() if key not in NESTED}
        for key in NESTED:
            yield from parts(item.get(key) or [])


def private_names(path):
    """Private variables that a file of a role or a playbook names, without comments and what is passed on as `vars`."""
    content = load(path) if path.suffix == ".yml" else None
    if not isinstance(content, list):
        return set(re.findall(r"\b__\w+", re.sub(r"(?m)(^|\s)#.*", "", path.read_text(encoding="utf-8"))))
    texts = [json.dumps({**part, "vars": list((part.get("vars") or {}).values())}) for part in parts(content)]
    return {name for text in texts for name in re.findall(r"\b__\w+", text)}


def owners():
    """{private variable: roles whose vars, register or set_fact give it}."""
    found = collections.defaultdict(set)
    for role in ROLES:
        names = [name for path in role.glob("vars/**/*.yml") for name in load(path) or {}]
        for path in role.glob("tasks/**/*.yml"):
            for task in tasks_of(load(path)):
                names += [task["register"]] if "register" in task else []
                names += task.get("ansible.builtin.set_fact") or {}
        for name in names:
            found[name].add(role.name)
    return found


def test_a_role_reads_its_own_private_variables_and_the_shared_ones():
    """Results that other roles read are declared in airflow_common/vars/main/results.yml; everything else is passed at
    the call.
    """
    owner = owners()
    assert len(owner) > 500

    def judge(role):
        files = [path for kind in ("yml", "j2") for path in role.glob(f"**/*.{kind}") if "meta" not in path.parts]
        return {
            name
            for path in files
            for name in private_names(path) if owner[name] and not owner[name] & {role.name, *SHARED}
        }

    assert not offenders(judge, ROLES)
    plays = [
        path for path in ROOT.glob("playbooks/**/*.yml") if "group_vars" not in path.parts and not path.is_symlink()
    ]
    assert not offenders(
        lambda path: {name
                      for name in private_names(path) if owner[name] and not owner[name] & SHARED}, plays)


def test_a_default_stands_in_its_role_only():
    """Lookup windsock.airflow.setting reads it from there, for a play that does not have the role. default(none) is no
    value.
    """
    owner = {name: role.name for role in ROLES for name in defaults(role)}
    names = "|".join(sorted(owner))

    def judge(path):
        text = re.sub(r"(?m)(^|\s)#.*", "", path.read_text(encoding="utf-8"))
        repeated = re.findall(rf"""\b({names})\s*\|\s*default\((?!none\))|\.get\(["']({names})["'], """, text)
        return {name for found in repeated for name in found if name and owner[name] not in path.parts}

    files = [path for place in ("roles", "playbooks", "group_vars", "plugins") for path in ROOT.glob(f"{place}/**/*")]
    assert not offenders(
        judge,
        [path for path in files if path.suffix in (".yml", ".j2", ".py") and path.is_file() and path.resolve() == path])


def test_a_setting_that_is_looked_up_has_one_owner():
    names = [name for role in ROLES for name in defaults(role)]

    def judge(path):
        asked = re.findall(r"windsock\.airflow\.setting', '(\w+)'", path.read_text(encoding="utf-8"))
        return [name for name in asked if names.count(name) != 1]

    files = [path for place in ("roles", "playbooks", "group_vars") for path in (ROOT / place).rglob("*.yml")]
    assert not offenders(judge, files)
