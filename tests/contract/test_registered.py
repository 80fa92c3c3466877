"""A task that is skipped registers its variable too, so `is defined` does not tell whether the task ran."""

import re

from repository import ROOT, load, module_of, task_files, tasks_of

# A skip of the lock's task means that an earlier play of the run has the lock.
MEANT = {"__airflow_environment_lock"}


def conditions(task):
    return " ".join(str(part) for part in (task["when"] if isinstance(task.get("when"), list) else [task.get("when", "")]))


def with_conditions(items, outer=False):
    """Every task and whether it, or a block around it, has a condition."""
    for item in items or []:
        if not isinstance(item, dict):
            continue
        conditional = outer or "when" in item
        nested = [key for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks") if isinstance(item.get(key), list)]
        for key in nested:
            yield from with_conditions(item[key], conditional)
        if not nested and "hosts" not in item and "import_playbook" not in item:
            yield item, conditional


def imported_with_a_condition():
    """(role, file) of every import that has a condition: the condition then applies to each task of the file."""
    for path in task_files():
        role = path.relative_to(ROOT).parts[1]
        for task, conditional in with_conditions(load(path)):
            module, arguments = module_of(task)
            if conditional and module == "ansible.builtin.import_tasks":
                yield role, arguments if isinstance(arguments, str) else arguments["file"]
            if conditional and module == "ansible.builtin.import_role":
                yield arguments["name"], arguments.get("tasks_from", "main.yml")


def skippable():
    """Variables that a skipped task may have registered."""
    conditional_files = set(imported_with_a_condition())
    return {
        task["register"]
        for path in task_files()
        for task, conditional in with_conditions(load(path))
        if "register" in task and (conditional or (path.relative_to(ROOT).parts[1], path.name) in conditional_files)
    }


def test_no_condition_takes_a_registered_variable_for_a_task_that_ran():
    names = skippable() - MEANT
    assert "__airflow_database_updated" in names
    wrong = [
        f"{path.relative_to(ROOT)}: {task.get('name')}: {name}"
        for path in task_files()
        for task in tasks_of(load(path))
        for name in re.findall(r"\b(\w+) is (?:not )?defined", conditions(task))
        if name in names and not re.search(rf"\b{name} is (not )?(skipped|changed)", conditions(task))
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
        if module == "ansible.builtin.import_tasks":
            name = arguments if isinstance(arguments, str) else arguments["file"]
            names |= set_in(path.parent / name) if (path.parent / name).is_file() else set()
    return names


def test_no_import_has_a_condition_that_its_own_tasks_change():
    """The condition of an import is evaluated anew for each of its tasks; that of an include once."""
    wrong = []
    for path in task_files():
        for task in tasks_of(load(path)):
            module, arguments = module_of(task)
            if module in ("ansible.builtin.import_tasks", "ansible.builtin.import_role") and "when" in task:
                if module == "ansible.builtin.import_tasks":
                    imported = path.parent / (arguments if isinstance(arguments, str) else arguments["file"])
                else:
                    imported = ROOT / "roles" / arguments["name"] / "tasks" / arguments.get("tasks_from", "main.yml")
                changed = set_in(imported) & set(re.findall(r"\w+", conditions(task))) if imported.is_file() else set()
                wrong += [f"{path.relative_to(ROOT)}: {task.get('name')}: {name}" for name in sorted(changed)]
    assert not wrong, "include the tasks, or ask for something that they do not set"
