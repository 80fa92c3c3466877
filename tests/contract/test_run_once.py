"""A run_once task that fails directly in a block with a rescue takes all other hosts out of that rescue.

Ansible marks the other hosts as failed twice: once as the hosts of the task, once because its play fails. A task in an
included or imported file has a block of its own, which takes the first of the two marks.
"""

from repository import ROOT, load, task_files

# A host that is out of a rescue which only fails has failed all the same. These modules end the play, or say why.
ENDS = {"ansible.builtin.fail"}


def blocks(items):
    """Every block with a rescue, those inside of others too."""
    for item in items or []:
        if isinstance(item, dict):
            if item.get("rescue"):
                yield item
            for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
                yield from blocks(item[key] if isinstance(item.get(key), list) else [])


def includes(task):
    return any(key.split(".")[-1] in ("include_tasks", "import_tasks", "include_role", "import_role") for key in task)


def refused(block):
    """Names of the tasks directly below the block that run once, unless its rescue only fails."""
    if all(ENDS.intersection(task) for task in block["rescue"]):
        return []
    return [
        task["name"] for task in block["block"]
        if (task.get("run_once") or block.get("run_once")) and not includes(task)
    ]


def test_no_task_of_all_hosts_runs_once_in_a_block_whose_rescue_goes_on():
    found = {
        str(path.relative_to(ROOT)): names
        for path in task_files()
        for block in blocks(load(path)) if (names := refused(block))
    }
    assert not found, "put these tasks into a file that the block includes"
