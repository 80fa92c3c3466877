"""An environment has one set of secrets and one DAG release, whatever a controller, a host or a directory has lost."""

import json
import os
import pathlib
import secrets

import pytest
from cryptography.fernet import Fernet
from playbook import play

COPY = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "copy-of-secrets")
GENERATED = ["fernet_key", "api_secret_key", "jwt_secret", "database_password", "admin_password"]
ELSEWHERE = "/etc/airflow-moved", "/opt/airflow-moved"


@pytest.fixture
def held(host, setting):
    """held(): the secrets of the host by name, also in another configuration directory."""

    def read(directory=""):
        files = {name: host.file(f"{directory or setting('airflow_config_dir')}/secrets/{name}") for name in GENERATED}
        return {name: file.content_string if file.exists else None for name, file in files.items()}

    return read


@pytest.fixture
def kept_aside():
    """The controller's copy, as it is on a colleague's controller: away. It comes back in the end."""
    aside = COPY.with_name("copy-aside")
    COPY.rename(aside)
    yield aside
    for path in COPY.iterdir() if COPY.exists() else []:
        path.unlink()
    if COPY.exists():
        COPY.rmdir()
    aside.rename(COPY)


@pytest.fixture
def key_file(host, setting):
    """The file of the Fernet key, which comes back in the end, while the database has an encrypted value."""
    path = f"{setting('airflow_config_dir')}/secrets/fernet_key"
    host.check_output(f"airflow variables set kept_by_its_key value && cp -p {path} /root/key-of-test")
    yield path
    host.check_output(f"cp -p /root/key-of-test {path} && rm /root/key-of-test && rm -f {path}.2*")
    assert host.check_output("airflow variables get kept_by_its_key 2>/dev/null | tail -n 1") == "value"
    host.check_output("airflow variables delete kept_by_its_key")


@pytest.mark.usefixtures("kept_aside")
def test_a_controller_without_the_copy_makes_no_secrets(held):
    before = held()
    done = play("virtualenv")
    assert not done.failed, done.output
    assert held() == before and None not in before.values()
    assert (COPY / "fernet_key").read_text(encoding="utf-8") == before["fernet_key"]


def test_a_key_that_does_not_open_the_database_is_refused_before_anything_changes(host, key_file):
    other = Fernet.generate_key().decode()
    host.check_output(f"printf %s {other} > {key_file}")
    copied = (COPY / "fernet_key").read_text(encoding="utf-8")
    done = play("virtualenv")
    assert (done.failed, done.changed) == (True, 0), done.output
    assert "variable kept_by_its_key (val)" in done.text and "Put the old key into airflow_fernet_key" in done.text
    assert (COPY / "fernet_key").read_text(encoding="utf-8") == copied and other not in done.output


@pytest.mark.long("site")
@pytest.mark.usefixtures("kept_aside")
def test_the_database_is_asked_where_no_copy_tells_that_the_key_is_another_one(host, key_file):
    host.check_output(f"printf %s {Fernet.generate_key().decode()} > {key_file}")
    done = play("airflow")
    assert done.failed and "opens one of them" in done.text and "Put the old key into airflow_fernet_key" in done.text


@pytest.mark.usefixtures("kept_aside")
def test_no_key_is_made_while_the_database_holds_encrypted_values(host, key_file):
    host.check_output(f"rm {key_file}")
    done = play("virtualenv")
    assert (done.failed, done.changed) == (True, 0), done.output
    assert "encrypted values, and neither a host nor this controller" in done.text
    assert not host.file(key_file).exists


@pytest.mark.long("site")
@pytest.mark.usefixtures("key_file")
def test_a_key_of_the_inventory_that_does_not_open_the_database_is_refused(held):
    before = held()
    done = play("airflow", airflow_fernet_key=Fernet.generate_key().decode())
    assert done.failed and "Put the old key into airflow_fernet_key behind the new one" in done.text
    assert done.changed == 0 and held() == before


@pytest.mark.long("site")
def test_what_moves_with_the_configuration_directory(host, held, setting):
    moved, drained = ELSEWHERE[0], f"{setting('airflow_config_dir')}/drained"
    before = held()
    host.check_output(f"echo by a test > {drained}")
    try:
        done = play("airflow", airflow_config_dir=moved)
        assert not done.failed, done.output
        assert held(moved)["fernet_key"] == before["fernet_key"] and held(moved) == before
        assert host.file(f"{moved}/drained").content_string == "by a test\n"
    finally:
        host.check_output(f"rm -f {drained} {moved}/drained")
        # The way back.
        back = play("airflow")
        host.check_output(f"rm -rf {moved}")
    assert not back.failed and held() == before, back.output
    assert play("airflow").changed == 0


@pytest.mark.long("site")
def test_the_dag_release_moves_with_the_installation_directory(host, setting, tmp_path):
    """And is not what the source has by now."""
    moved, here = ELSEWHERE[1], f"{setting('airflow_install_dir')}/dags"
    release = host.check_output(f"readlink {here}/current")
    (tmp_path / "later.py").write_text(f"# {secrets.token_hex(8)}\n", encoding="utf-8")
    host.check_output(f"mkdir -p {moved}/dags")
    try:
        done = play("dags", airflow_install_dir=moved, airflow_dags_source=str(tmp_path))
        assert not done.failed, done.output
        assert host.check_output(f"readlink {moved}/dags/current") == release
        assert json.loads(host.file(f"{moved}/dags/current/REVISION").content_string)["id"] == release.split("/")[1]
        assert host.check_output(f"ls {here}/releases") == host.check_output(f"ls {moved}/dags/releases")
    finally:
        host.check_output(f"rm -rf {moved}")
