"""What check_health and diagnose say of a host of either major; scenario runbooks has the faults."""

from playbook import look


def test_a_healthy_host_is_called_healthy_and_a_stopped_component_by_its_name(host, major):
    code, said = look("check_health")
    assert code == 0, said["causes"]
    server = "airflow-api-server" if major == 3 else "airflow-webserver"
    assert {result["what"]
            for result in said["results"]} >= {"airflow-scheduler", server, "schema", "queue", "pools", "tasks"}
    host.check_output("systemctl stop airflow-triggerer")
    try:
        assert look("check_health")[0] != 0
        first = look("diagnose")[1]["causes"][0]
        assert (first["cause"], first["what"]) == ("component_stopped", "airflow-triggerer")
    finally:
        host.check_output("systemctl start airflow-triggerer")
    code, said = look("check_health")
    assert code == 0, said["causes"]
