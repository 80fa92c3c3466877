"""What is decided about units, from what each host answered."""

import pytest
from ansible_collections.windsock.airflow.plugins.filter import airflow_services as services

COMPONENTS = {
    "api-server": {"unit": "airflow-api-server", "alias": "airflow-webserver", "group": "web"},
    "scheduler": {"unit": "airflow-scheduler", "group": "scheduler"},
}
OLD = {"old": {"unit": "airflow-old", "group": "scheduler"}}


def test_a_component_has_a_unit_and_a_link_for_its_second_name():
    files = services.units(COMPONENTS, "verify %s")
    assert [(file["path"].removeprefix("/etc/systemd/system/"), file.get("target")) for file in files] == [
        ("airflow-api-server.service", None),
        ("airflow-webserver.service", "airflow-api-server.service"),
        ("airflow-scheduler.service", None),
    ]
    assert files[2] == {
        "path": "/etc/systemd/system/airflow-scheduler.service",
        "template": "component.service.j2",
        "validate": "verify %s",
        "template_vars": {"name": "scheduler", "component": COMPONENTS["scheduler"]},
    }


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            {
                "msg": "All items failed",
                "results": [
                    {"failed": True, "msg": "one"},
                    {"failed": False, "msg": "two"},
                    {"failed": True, "msg": "three"},
                    {},
                ],
            },
            "one; three",
        ),
        (
            {"msg": "non-zero return code", "stderr_lines": [str(number) for number in range(20)]},
            " ".join(map(str, range(5, 20))),
        ),
        ({"msg": "no such package", "results": ["Nothing to do"], "stderr_lines": None}, "no such package"),
        ({}, "no reason was given"),
    ],
)
def test_a_failure_is_told_by_its_most_telling_message(result, text):
    assert services.reason(result, "stop | Stop") == f"stop | Stop: {text}"


def test_a_unit_that_the_inventory_gives_to_another_host_has_moved():
    units = ["airflow-scheduler.service", "airflow-api-server.service", "airflow-old.service", "airflow-backup.service"]
    answers = [{"item": host, "stdout_lines": units} for host in ("one", "two")] + [{"item": "away"}]
    groups = {"web": ["one"], "scheduler": ["one", "two"]}
    assert services.moved(answers, COMPONENTS, COMPONENTS | OLD, groups) == {
        "one": ["airflow-old"],
        "two": ["airflow-api-server", "airflow-old"],
    }
    assert services.moved(answers, COMPONENTS | OLD, COMPONENTS | OLD, groups) == {"two": ["airflow-api-server"]}
    assert services.moved([], COMPONENTS, COMPONENTS, {}) == {}


def host(name, *lines, **left):
    return {
        "inventory_hostname": name,
        "__airflow_services_found": {"stdout_lines": list(lines)},
        "__airflow_services_left": left,
    }


def test_an_address_of_a_host_is_told_from_the_loopback():
    hosts = [
        host("one", "address 127.0.0.1", "address ::1", "address 10.0.0.1", "active airflow-x.service"),
        host("two", "address 10.0.0.2"),
        {"inventory_hostname": "away"},
    ]
    assert services.stopped(hosts) == {
        "addresses": {"127.0.0.1": "this host", "::1": "this host", "10.0.0.1": "one", "10.0.0.2": "two"},
        "unasked": {},
    }


@pytest.mark.parametrize(
    ("answers", "unasked"),
    [
        (["not asked: refused", "not asked: no driver"], {"0": "refused", "1": "no driver"}),
        (["not asked: refused", ""], {}),
        ([None, ""], {}),
        ([None, "not asked: refused"], {"1": "refused"}),
    ],
)
def test_the_database_was_asked_if_one_host_could(answers, unasked):
    hosts = [
        host(str(number), **({} if answer is None else {"stdout": answer})) for number, answer in enumerate(answers)
    ]
    assert services.stopped(hosts)["unasked"] == unasked
