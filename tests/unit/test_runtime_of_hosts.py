"""Role airflow_runtime on a host that is a directory."""

import subprocess
import sys

import hosts_of_test
import pytest

pytestmark = pytest.mark.playbook


def test_an_operation_brings_what_a_host_lacks_and_no_more(tmp_path):
    def play(check=False):
        task = {"ansible.builtin.include_role": {"name": "windsock.airflow.airflow_runtime"}}
        variables = {"airflow_install_dir": str(tmp_path / "opt"), "airflow_config_dir": "/srv/config"}
        return hosts_of_test.play(tmp_path, ["one"], [task], variables, check=check)

    (tmp_path / "one").mkdir()
    dry = play(check=True)
    assert dry.rc != 0 and "and a dry run (--check) cannot bring it. Run site.yml first" in dry.text and not (
        tmp_path / "opt").exists()
    first = play()
    assert first.rc == 0 and "changed=1" in first.text, first.output
    program = [sys.executable, tmp_path / "opt/libexec/airflow_runtime/run.py"]
    assert "Modules: " in subprocess.run(program, capture_output=True, text=True, check=False).stderr
    where = [
        sys.executable, "-c", "from airflow_runtime import settings; print(settings.config_dir(), settings.home())"
    ]
    said = subprocess.run(where,
                          env={"PYTHONPATH": str(tmp_path / "opt/lib")},
                          cwd="/",
                          capture_output=True,
                          text=True,
                          check=True).stdout
    assert said == "/srv/config /var/lib/airflow\n"
    program[-1].write_text("# another version", encoding="utf-8")
    other = play(check=True)
    assert other.rc != 0 and "does not have this version of" in other.text
    assert play().rc == 0
    second = play()
    assert second.rc == 0 and "changed=0" in second.text, second.output
