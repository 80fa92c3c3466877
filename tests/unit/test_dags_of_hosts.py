"""The first DAG release of a host is that of the environment: not what the source of the DAGs has by now."""

import os
import re

import hosts_of_test
import pytest

pytestmark = pytest.mark.playbook


@pytest.fixture
def fleet(tmp_path):
    """fleet("new", "old", dag="1"): put the first release in place, from a source with a DAG of this content."""

    def run(*hosts, dag, limit="", tasks=None, **given):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source/one.py").write_text(dag, encoding="utf-8")
        return hosts_of_test.play(
            tmp_path,
            hosts,
            tasks or [{"include_role": {"name": "windsock.airflow.airflow_dags"}}],
            {
                "airflow_install_dir": "/etc/airflow-of-test",
                "airflow_dags_source": str(tmp_path / "source"),
                "airflow_dags_archive_dir": str(tmp_path / "archives"),
                **given,
            },
            limit,
        )

    def placed(host, install_dir="."):
        path = tmp_path / host / install_dir / "dags/current/dags/one.py"
        return path.read_text(encoding="utf-8") if path.exists() else None

    # Role airflow_config makes them.
    for host in ("new", "old", "other"):
        for directory in ("dags", "moved/dags"):
            (tmp_path / host / directory).mkdir(parents=True)
    run.placed, run.directory = placed, tmp_path
    return run


def test_a_new_host_gets_the_release_of_the_others(fleet):
    done = fleet("old", dag="'1'")
    assert (done.rc, fleet.placed("old")) == (0, "'1'"), done.output
    done = fleet("new", "old", dag="'2'", limit="new")
    assert (done.rc, fleet.placed("new"), fleet.placed("old")) == (0, "'1'", "'1'"), done.output
    left = [path.name for path in fleet.directory.rglob("copy-for-*")]
    assert left == [] and os.path.isfile(fleet.directory / "new/dags/history")


def test_hosts_with_different_releases_are_no_model(fleet):
    for host, dag in (("old", "'1'"), ("other", "'2'")):
        assert fleet(host, dag=dag).rc == 0
    done = fleet("new", "old", "other", dag="'3'", limit="new")
    assert done.rc != 0 and "They have different ones in place: old " in done.text, done.output
    assert fleet.placed("new") is None


def test_a_host_that_is_away_may_have_another_one(fleet):
    done = fleet("new", "gone", dag="'1'", limit="new")
    assert done.rc != 0 and "These hosts could not be asked for theirs: gone." in done.text, done.output
    assert fleet.placed("new") is None


def test_a_moved_installation_directory_keeps_its_release(fleet):
    assert fleet("old", dag="'1'").rc == 0
    (fleet.directory / "old/units").mkdir()
    (fleet.directory / "old/units/airflow-scheduler.service").write_text(
        f"[Service]\nExecStart={fleet.directory}/old/venv/bin/airflow scheduler --skip-serve-logs\n", encoding="utf-8"
    )
    done = fleet("old", dag="'2'", airflow_install_dir="/etc/airflow-of-test/moved")
    assert (done.rc, fleet.placed("old", "moved"), fleet.placed("old")) == (0, "'1'", "'1'"), done.output


def test_the_source_waits_for_a_deploy_if_its_files_differ_from_the_release(fleet):
    """One run: the release is put in place, the source is compared, changes, and is compared again."""
    compare = {"include_role": {"name": "windsock.airflow.airflow_dags", "tasks_from": "operations/compare_source.yml"}}
    done = fleet(
        "old",
        dag="'1'",
        tasks=[
            {"include_role": {"name": "windsock.airflow.airflow_dags"}},
            compare,
            {"debug": {"msg": "same files: [{{ __airflow_dags_pending }}]"}},
            {"copy": {"content": "'2'", "dest": "{{ airflow_dags_source }}/one.py", "mode": "0644"}},
            compare,
            {"debug": {"msg": "other files: [{{ __airflow_dags_pending }}]"}},
        ],
    )
    assert (done.rc, fleet.placed("old")) == (0, "'1'"), done.output
    assert "same files: []" in done.text, done.output
    release = (fleet.directory / "old/dags/current").readlink().name
    found = re.search(
        rf"other files: \[airflow_dags_source {fleet.directory}/source has other files \((\w+)\) than release "
        rf"{release}, ",
        done.text)
    assert found and found[1] != release, done.output


def test_a_source_that_cannot_be_read_ends_no_run_of_several_hosts(fleet):
    """The next steps of site.yml compare the source with the release. No release is at stake there."""
    compare = [
        {"include_role": {"name": "windsock.airflow.airflow_dags", "tasks_from": "operations/compare_source.yml"}},
        {"debug": {"msg": "{{ inventory_hostname }} has: {{ __airflow_dags_pending }}"}},
    ]
    done = fleet("old", "other", dag="'1'", tasks=compare, airflow_dags_source="/nowhere")
    assert done.rc == 0, done.output
    for host in ("old", "other"):
        assert f"{host} has: airflow_dags_source /nowhere cannot be read" in done.text, done.output
