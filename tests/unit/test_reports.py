"""What playbooks tell people."""

import pytest
from ansible_collections.windsock.airflow.plugins.filter import airflow_dags, airflow_reports

RELEASE = {
    "active": True,
    "id": "20260101-aaaa",
    "status": "verified",
    "when": "2026-01-01T00:00:00Z",
    "by": "ann",
    "files": 3,
    "ref": "main",
    "source": "git",
    "commit": "0123456789abcdef",
}


def test_releases_are_listed_with_their_origin():
    other = RELEASE | {"active": False, "status": "", "ref": "", "commit": ""}
    assert airflow_dags.lines([RELEASE, other]) == [
        "* 20260101-aaaa             verified 2026-01-01T00:00:00Z ann 3 files from main@0123456789ab",
        "  20260101-aaaa             unproven 2026-01-01T00:00:00Z ann 3 files from git",
    ]


@pytest.mark.parametrize(
    ("clock", "text"),
    [([], ""), ([["prune", 1.0]], ""), ([["", 1.0], ["build", "3.46"], ["ship", 4]], "build 2.5 s, ship 0.5 s")],
)
def test_each_phase_has_its_own_seconds(clock, text):
    assert airflow_dags.seconds(clock) == text


def test_a_removal_tells_what_all_hosts_have_lost_and_keep():
    one = {
        "__airflow_config_removed": {"changed_paths": ["/opt/b", "/opt/A"]},
        "__postgresql_removed": {"changed_paths": ["/opt/b"]},
        "__airflow_user_removed": {"changed": True},
        "postgresql_roles_removed": {"changed": False},
        "__airflow_kept": ["x", "x"],
    }
    two = {
        "__airflow_backups_removed": {"changed_paths": ["/opt/c"]},
        "__airflow_config_removed": {"skipped": True},
        "__airflow_kept": ["y", "x"],
    }
    assert airflow_reports.removed([one, two]) == {
        "paths": ["/opt/A", "/opt/b", "/opt/c"],
        "gone": ["__airflow_user_removed"],
        "kept": ["x", "y"],
    }
    assert airflow_reports.removed([{}]) == {"paths": [], "gone": [], "kept": []}


def test_a_stuck_task_tells_whether_clearing_helps():
    task = {"name": "a.b", "state": "queued", "minutes": 21.7, "why": "nobody works on it", "clearing_helps": True}
    assert airflow_reports.stuck_lines([task, task | {"clearing_helps": False}]) == [
        f"a.b: queued for 21 min; nobody works on it. Clearing {helps}." for helps in ("helps", "does not help")
    ]


@pytest.mark.parametrize(
    ("applied", "done", "end"),
    [
        (False, "could be had", "Nothing was changed. To remove it: -e airflow_confirm=one"),
        (True, "removed", "Got back 1.5 MB in all."),
    ],
)
def test_disk_space_is_reported_before_and_after(applied, done, end):
    found = [
        {"wanted": wanted, "bytes": 1500000, "what": "the cache", "means": "It fills again."}
        for wanted in (True, False)
    ]
    result = {
        "disks": [
            {"path": "/", "free": 5e9, "size": 20e9, "inodes_free_percent": 90},
            {"path": "/x", "free": 0, "size": 0, "inodes_free_percent": 0},
        ],
        "found": found,
        "freed": 1500000,
        "problems": ["cannot remove /y"],
    }
    assert airflow_reports.space_lines(result, applied, "one") == [
        "/: 5.0 of 20.0 GB free (25 %), inodes 90 % free",
        "/x: 0.0 of 0.0 GB free (0 %), inodes 0 % free",
        f"{done}: 1.5 MB, the cache. It fills again.",
        "only with -e airflow_everything=true: 1.5 MB, the cache. It fills again.",
        end,
        "cannot remove /y",
    ]
