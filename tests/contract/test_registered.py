"""A task that is skipped registers its variable too, so `is defined` does not tell whether the task ran."""

import re

from repository import ROOT, load, module_of, strings, task_files, tasks_of

# A skip of the lock's task means that an earlier play of the run has the lock.
MEANT = {"__airflow_environment_lock"}


def conditions(task):
    return " ".join(
        str(part) for part in (task["when"] if isinstance(task.get("when"), list) else [task.get("when", "")]))


def with_conditions(items, outer=False):
    """Every task and whether it, or a block around it, has a condition."""
    for item in items or []:
        if not isinstance(item, dict):
            continue
        conditional = outer or "when" in item
        nested = [
            key for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks")
            if isinstance(item.get(key), list)
        ]
        for key in nested:
            yield from with_conditions(item[key], conditional)
        if not nested and "hosts" not in item and "import_playbook" not in item:
            yield item, conditional


def imported(task, path):
    """The file that a task of this file imports, or nothing."""
    module, arguments = module_of(task)
    if module == "ansible.builtin.import_tasks":
        # Files of a role name each other from its directory tasks.
        tasks = next((place for place in path.parents if place.name == "tasks"), path.parent)
        return (tasks / (arguments if isinstance(arguments, str) else arguments["file"])).resolve()
    if module == "ansible.builtin.import_role":
        role = ROOT / "roles" / arguments["name"].removeprefix("windsock.airflow.")
        path = role / "tasks" / arguments.get("tasks_from", "main.yml")
        # Role airflow_common has variables alone.
        return path if path.exists() else None
    return None


def imported_with_a_condition():
    """Every file that is imported with a condition, which then applies to its tasks and to what it imports."""
    waiting = [imported(task, path) for path in task_files()
               for task, conditional in with_conditions(load(path)) if conditional]
    found = set()
    while waiting:
        path = waiting.pop()
        if path and path not in found:
            found.add(path)
            waiting += [imported(task, path) for task in tasks_of(load(path))]
    return found


def skippable():
    """Variables that a skipped task may have registered."""
    conditional_files = imported_with_a_condition()
    return {
        task["register"]
        for path in task_files()
        for task, conditional in with_conditions(load(path))
        if "register" in task and (conditional or path in conditional_files)
    }


def test_no_condition_takes_a_registered_variable_for_a_task_that_ran():
    names = skippable() - MEANT
    assert "__airflow_database_updated" in names
    wrong = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in [*task_files(), *ROOT.glob("roles/*/vars/*.yml"), *ROOT.glob("group_vars/*/*.yml")]
        for text in strings(path)
        for name in re.findall(r"\b(\w+) is (?:not )?defined", text)
        if name in names and not re.search(rf"\b{name} is (not )?(skipped|changed)", text)
    ]
    assert not wrong, "ask `is skipped` or `is changed` too"


def set_in(path):
    """Variables that the tasks of a file set, and those of the files that it imports."""
    names = set()
    for task in tasks_of(load(path)):
        module, arguments = module_of(task)
        names |= {task["register"]} if "register" in task else set()
        if module == "ansible.builtin.set_fact":
            names |= set(arguments)
        names |= set_in(imported(task, path)) if imported(task, path) else set()
    return names


def test_no_import_has_a_condition_that_its_own_tasks_change():
    """The condition of an import is evaluated anew for each of its tasks; that of an include once."""
    wrong = []
    for path in task_files():
        for task in tasks_of(load(path)):
            if imported(task, path) and "when" in task:
                changed = set_in(imported(task, path)) & set(re.findall(r"\w+", conditions(task)))
                wrong += [f"{path.relative_to(ROOT)}: {task.get('name')}: {name}" for name in sorted(changed)]
    assert not wrong, "include the tasks, or ask for something that they do not set"
