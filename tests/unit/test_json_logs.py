"""The formatter that gives Airflow 2 lines of JSON. That components and tasks use it is a matter of
tests/molecule/test_json_logs.py.
"""

import json
import logging

import pytest
from airflow_runtime.json_logs import Formatter


@pytest.fixture
def log():
    """log(call, context): the lines of what `call` logs."""
    def lines(call, context=None):
        seen = []
        handler = logging.Handler()
        handler.emit = lambda record: seen.append(handler.format(record))
        handler.setFormatter(Formatter("%(message)s", context=context))
        logger = logging.Logger("team.module")
        logger.addHandler(handler)
        call(logger)
        return seen

    return lines


def test_keys_and_time_zone(log):
    (line,) = log(lambda logger: logger.warning("%s of %s", 1, "two"))
    found = json.loads(line)
    assert found.pop("timestamp").endswith("+00:00")
    assert found == {"level": "warning", "event": "1 of two", "logger": "team.module"}


def test_a_task_is_named_in_each_line(log):
    lines = log(lambda logger: [logger.info("a"), logger.info("b")], context={"dag_id": "d", "try_number": 2})
    assert [(json.loads(line)["dag_id"], json.loads(line)["try_number"]) for line in lines] == [("d", 2)] * 2


def test_a_traceback_breaks_no_line(log):
    def fail(logger):
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            logger.exception("it failed")

    (line,) = log(fail)
    assert "\n" not in line
    assert "Traceback (most recent call last)" in json.loads(line)["exception"]
    assert "ValueError: first\nsecond" in json.loads(line)["exception"]


@pytest.mark.parametrize("text", ['"quoted" \\ back', "ü \u2028 \x1b[31m", "\ud800 half of a pair", "line\nline"])
def test_any_text_survives(log, text):
    (line,) = log(lambda logger: logger.info(text))
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["event"] == text
