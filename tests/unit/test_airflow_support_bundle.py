"""Module airflow_support_bundle: the archive is for root alone, holds no secret, and nothing that hangs stops it."""

import importlib.util
import json
import pathlib
import tarfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    "airflow_support_bundle", ROOT / "plugins/modules/airflow_support_bundle.py"
)
bundle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bundle)

OF_A_FILE, OF_A_CONNECTION = "marker-of-a-file-5b1e", "marker-of-a-connection-77ac"


@pytest.fixture
def args(tmp_path, monkeypatch):
    """A host whose commands print secrets."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/api_secret_key").write_text(OF_A_FILE, encoding="utf-8")
    (tmp_path / "airflow.cfg").write_text(f"[api]\nsecret_key = {OF_A_FILE}\n", encoding="utf-8")
    monkeypatch.setattr(bundle, "commands",
                        lambda _args: {"a.txt": f"echo {OF_A_FILE} {OF_A_CONNECTION}", "b.txt": "false"})
    monkeypatch.setattr(bundle, "journals", lambda _args: {"journal/x.log": f"echo {OF_A_CONNECTION}"})
    found = json.dumps([["password", "warehouse", OF_A_CONNECTION]])
    monkeypatch.setattr(bundle, "in_virtualenv", lambda _args, *_question: f"echo '{found}'")
    return {"config_dir": str(tmp_path), "timeout": 5, "lines": 10}


def test_secrets_of_files_and_of_the_database_are_in_no_member(args):
    members, failed = bundle.collect(args)
    assert failed == ["b.txt"] and members["a.txt"].strip() == "<hidden> <hidden>" and "journal/x.log" in members
    assert not [name for name, text in members.items() if OF_A_FILE in text or OF_A_CONNECTION in text]


def test_the_archive_is_for_root_alone_from_its_first_moment_on(tmp_path, files_seen):
    path = tmp_path / "20261129T120000Z.tar.gz"
    bundle.pack({"a.txt": "x"}, str(path))
    assert files_seen.created[path.name] == 0o600
    with tarfile.open(path) as archive:
        assert [(info.name, info.mode) for info in archive] == [("20261129T120000Z/a.txt", 0o600)]
    # Somebody else's file of this name is not written to.
    with pytest.raises(FileExistsError):
        bundle.pack({"a.txt": "x"}, str(path))


def test_a_command_that_hangs_is_given_up():
    begin = time.monotonic()
    text, well = bundle.run("sleep 60", 1)
    assert not well and text == "not collected: TimeoutExpired after 1 s\n" and time.monotonic() - begin < 30


def test_files_of_the_working_directory_are_no_units(tmp_path, monkeypatch):
    """`airflow` as root makes ~/airflow, and the home is where a module runs."""
    (tmp_path / "airflow").mkdir()
    (tmp_path / "systemctl").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n", encoding="utf-8")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for command in (bundle.commands(
        {"install_dir": "/x", "config_dir": "/x", "home": "/x", "log_dir": "/x",
         "program": ""})["units/status.txt"], f"systemctl list-units {bundle.UNITS}"):
        text, _well = bundle.run(f"systemctl() {{ {tmp_path}/systemctl \"$@\"; }}; {command}", 5)
        assert "airflow*" in text.splitlines()
