"""One lock covers everything that changes an environment: each playbook takes it first, or says here why it takes none.
"""

import pytest
from repository import OLD_PLAYBOOKS, ROOT, load, tasks_of

ONLY_LOOKS = "changes nothing"
WITHOUT_HOSTS = "asks AWS and contacts no host: the host of the lock does not exist yet, or is what it removes"
AS_A_PERSON = "asks Airflow's API, as a person in the UI does at any time"
WITHOUT = {
    "list_dag_releases": ONLY_LOOKS,
    "next_steps": ONLY_LOOKS,
    "run_dag": AS_A_PERSON,
    "validate": ONLY_LOOKS,
    "verify": ONLY_LOOKS,
    "check_health": ONLY_LOOKS,
    "clear_stuck_tasks": AS_A_PERSON,
    "collect_support_bundle": ONLY_LOOKS,
    "diagnose": ONLY_LOOKS,
    "end_database_sessions": "frees a run that waits for a session of the database, and that has the lock",
    "open_ui": ONLY_LOOKS,
    "pause_dags": AS_A_PERSON,
    "resume_dags": AS_A_PERSON,
    "send_test_alert": ONLY_LOOKS,
    "show_logs": ONLY_LOOKS,
    "trigger_dag": AS_A_PERSON,
    "provision": WITHOUT_HOSTS,
    "remove_expired": WITHOUT_HOSTS,
    "teardown": WITHOUT_HOSTS,
}
PLAYBOOKS = sorted(path for path in ROOT.glob("playbooks/**/*.yml")
                   if not path.is_symlink() and str(path.relative_to(ROOT)) not in OLD_PLAYBOOKS)


def plays(path):
    """The plays of a playbook; those that it imports have a test of their own."""
    return [play for play in load(path) if "hosts" in play]


def takes(task):
    return (task.get("ansible.builtin.import_tasks") or "").endswith("steps/start.yml")


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_playbook_takes_the_lock_before_anything_else(path):
    first = plays(path)[0]
    taken = [takes(task) for play in plays(path) for task in tasks_of([play])]
    if path.stem in WITHOUT:
        assert not any(taken)
        assert WITHOUT[path.stem] != WITHOUT_HOSTS or {play["connection"] for play in plays(path)} == {"local"}
        return
    assert taken.count(True) == 1
    task = next(tasks_of([{"block": first.get("pre_tasks", first.get("tasks"))}]))
    assert takes(task)
    # A runbook without a word of confirmation only looks.
    assert set(task) - {"name", "ansible.builtin.import_tasks", "tags"} <= {"when"}
    assert task.get("when", "confirm != ''").endswith("confirm != ''")
    tagged = any("tags" in item for play in load(path) for item in [play, *play.get("roles", []), *tasks_of([play])]
                 if item is not task)
    assert not tagged or task.get("tags") == ["always"]


def test_the_list_names_no_playbook_that_is_gone():
    assert set(WITHOUT) <= {path.stem for path in PLAYBOOKS}


def test_the_lock_is_on_the_same_host_for_every_order_of_the_inventory():
    (task,) = [task for task in load(ROOT / "roles/airflow_common/tasks/steps/start.yml") if "delegate_to" in task]
    assert task["delegate_to"] == "{{ groups['airflow'] | sort | first }}"
    assert task["run_once"] is True
    assert (task["become"], task["become_user"]) == (True, "root")
