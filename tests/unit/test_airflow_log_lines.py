"""Log lines: those of both majors, as text and as JSON, are read, levelled and shown."""

import json

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_log_lines import readable

TASK_OF_3 = [
    json.dumps({
        "timestamp": "2026-01-31T12:00:00.123456Z", "level": "info", "event": "begins", "logger": "task", "dag_id": "a",
        "size": 3
    }),
    json.dumps({
        "timestamp": "2026-01-31T12:00:01.123456Z",
        "level": "error",
        "event": "Task failed with exception",
        "error_detail": [{
            "exc_type": "ValueError", "exc_value": "no", "frames": [{"filename": "/a.py", "lineno": 3, "name": "load"}]
        }],
    }),
]
COMPONENT_OF_3 = [
    "2026-01-31T12:00:00.123456Z [info     ] begins [airflow.a] loc=a.py:1",
    "2026-01-31T12:00:01.123456Z [error    ] broken [airflow.a]",
    "Traceback (most recent call last):",
    "ValueError: no",
    "2026-01-31T12:00:02.123456Z [warning  ] ends",
]
COMPONENT_OF_2 = [
    "[2026-01-31T12:00:00.000+0000] {a.py:1} INFO - begins",
    "[2026-01-31T12:00:01.000+0000] {a.py:2} ERROR - broken",
    "Traceback (most recent call last):",
    "ValueError: no",
    "[2026-01-31T12:00:02.000+0000] {a.py:3} WARNING - ends",
]


def test_a_task_of_airflow_3_is_shown_with_its_traceback():
    assert readable(TASK_OF_3) == [
        "2026-01-31T12:00:00.123 INFO    begins size=3",
        "2026-01-31T12:00:01.123 ERROR   Task failed with exception",
        "Traceback (most recent call last):",
        '  File "/a.py", line 3, in load',
        "ValueError: no",
    ]


@pytest.mark.parametrize("lines", [COMPONENT_OF_3, COMPONENT_OF_2], ids=["3", "2"])
def test_lines_of_a_level_keep_what_belongs_to_them(lines):
    assert readable(lines) == lines
    assert readable(lines, "warning") == lines[1:]
    assert readable(lines, "error") == lines[1:4]
    assert readable(lines, "critical") == []


def test_the_last_lines_are_those_that_fit():
    assert readable(COMPONENT_OF_2, "error", 1) == ["ValueError: no"]


def test_entries_of_the_api_are_read_as_files_are():
    assert readable([json.loads(line) for line in TASK_OF_3],
                    "error")[0] == "2026-01-31T12:00:01.123 ERROR   Task failed with exception"


def test_what_is_no_line_of_airflow_is_shown_as_it_is():
    assert readable(["a banner  ", "\x1b[31mred\x1b[0m", "{not json", '{"no": "event"}',
                     "12"]) == ["a banner", "red", "{not json", '{"no": "event"}', "12"]
