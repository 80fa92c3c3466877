"""Module airflow_dag_archive: the same content is the same archive, and what must not be shipped is refused with its
place.
"""

import importlib.util
import io
import json
import os
import pathlib
import subprocess
import tarfile
import time

import boto3
import pytest
from ansible.module_utils.testing import patch_module_args
from moto import mock_aws

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("airflow_dag_archive", ROOT / "plugins/modules/airflow_dag_archive.py")
airflow_dag_archive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(airflow_dag_archive)

# In two parts, so that no scanner takes this file for a leak.
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


PROJECT = {
    "dags/one.py": "import include.lib\n",
    "dags/.airflowignore": "helpers/\n",
    "dags/helpers/x.py": "X = 1\n",
    "include/lib.py": "Y = 1\n",
    "plugins/p.py": "Z = 1\n",
    "requirements.txt": "# what we need\npandas==2.0\n-r other.txt\n\n",
    "README.md": "not shipped",
    "tests/test_x.py": "not shipped",
    "dags/__pycache__/one.pyc": "not shipped",
}


@pytest.fixture
def run(tmp_path, capsys):
    """Run the module with these arguments and return its result."""

    def call(source, **arguments):
        with patch_module_args({"source": str(source), "dest": str(tmp_path / "out"), **arguments}):
            with pytest.raises(SystemExit):
                airflow_dag_archive.main()
        return json.loads(capsys.readouterr().out)

    return call


def names(result):
    with tarfile.open(result["path"]) as tar:
        return tar.getnames()


def test_archives_of_other_days_are_removed(run, tmp_path):
    for name, age in (("old", 90000), ("new", 60)):
        path = write(tmp_path / "out", {f"{name}.tar.gz": ""}) / f"{name}.tar.gz"
        os.utime(path, (time.time() - age,) * 2)
    result = run(write(tmp_path / "src", PROJECT))
    assert sorted(os.listdir(tmp_path / "out")) == sorted(["new.tar.gz", f"{result['revision']['id']}.tar.gz"])


def test_a_project_ships_three_directories(run, tmp_path):
    result = run(write(tmp_path / "src", PROJECT))
    assert names(result) == [
        "dags/.airflowignore", "dags/helpers/x.py", "dags/one.py", "include/lib.py", "plugins/p.py"
    ]
    assert result["requirements"] == ["pandas==2.0"]
    assert result["revision"]["files"] == 5


def test_a_directory_without_dags_is_the_dags_folder(run, tmp_path):
    assert names(run(
        write(tmp_path / "src",
              {"one.py": "", "sub/two.py": "", "requirements.txt": "x"}))) == ["dags/one.py", "dags/sub/two.py"]


def test_the_same_content_is_the_same_archive_whatever_its_times_and_order(run, tmp_path):
    first = run(write(tmp_path / "one", PROJECT), dest=str(tmp_path / "a"))
    second = run(write(tmp_path / "two", dict(reversed(PROJECT.items()))), dest=str(tmp_path / "b"))
    assert first["revision"]["id"] == second["revision"]["id"]
    assert pathlib.Path(first["path"]).read_bytes() == pathlib.Path(second["path"]).read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"dags/one.py": "import include.lib \n"}, {"dags/two.py": ""}, {"include/lib.py": "Y = 2\n"}],
)
def test_other_content_is_another_release(run, tmp_path, change):
    before = run(write(tmp_path / "src", PROJECT))["revision"]
    after = run(write(tmp_path / "src", change))["revision"]
    assert before["id"] != after["id"]
    assert before["plugins"] == after["plugins"]


def test_an_executable_bit_is_content(run, tmp_path):
    source = write(tmp_path / "src", PROJECT)
    before = run(source)["revision"]["id"]
    (source / "plugins/p.py").chmod(0o755)
    after = run(source)["revision"]
    assert before != after["id"]


def test_changed_plugins_are_told_apart(run, tmp_path):
    before = run(write(tmp_path / "src", PROJECT))["revision"]["plugins"]
    assert run(write(tmp_path / "src", {"plugins/p.py": "Z = 2\n"}))["revision"]["plugins"] != before


@pytest.mark.parametrize(
    ("target", "fine"),
    [("one.py", True), ("../include/lib.py", True), ("../../../etc/passwd", False), ("/etc/passwd", False),
     ("gone.py", False)],
)
def test_links_stay_inside(run, tmp_path, target, fine):
    source = write(tmp_path / "src", PROJECT)
    (source / "dags/link.py").symlink_to(target)
    result = run(source)
    assert result.get("failed", False) is not fine
    if not fine:
        assert f"dags/link.py: the link leads to {target}" in result["msg"]


def test_a_large_file_is_refused_with_its_size(run, tmp_path):
    result = run(write(tmp_path / "src", {**PROJECT, "dags/data.csv": "x" * (2 * 2**20)}), max_file_size_mb=1)
    assert "dags/data.csv: 2.0 MB, more than 1 MB" in result["msg"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [KEY, "key = 'AKIA" + "ABCDEFGHIJKLMNOP'", "aws_secret_access_key = " + "a1B2" * 10,
                                  "token = 'ghp_" + "x" * 36 + "'"])
def test_what_looks_like_a_secret_is_refused_with_its_line_and_without_its_value(run, tmp_path, text):
    source = write(tmp_path / "src", {**PROJECT, "dags/leak.py": f"\n\n{text}\n"})
    result = run(source)
    assert "dags/leak.py:3: holds what looks like" in result["msg"]
    assert text not in result["msg"]
    assert not run(source, not_searched=["dags/leak.*"]).get("failed")


def test_what_is_not_there_is_said(run, tmp_path):
    told = f"airflow_dags_source: {tmp_path}/nowhere is no directory of the controller"
    assert run(tmp_path / "nowhere")["msg"].startswith(told)
    assert "there is nothing to deploy" in run(write(tmp_path / "src", {"dags/__pycache__/x.pyc": ""}))["msg"]


def git(directory, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", "-C", str(directory), *identity, *arguments],
                          check=True,
                          capture_output=True,
                          text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with a tag v1 and a later commit."""
    source = write(tmp_path / "repository", PROJECT)
    git(source, "init")
    git(source, "add", "-A")
    git(source, "commit", "-m", "one")
    git(source, "tag", "v1")
    write(source, {"dags/two.py": "", "inner/dags/three.py": ""})
    git(source, "add", "-A")
    git(source, "commit", "-m", "two")
    return source


@pytest.mark.parametrize(("ref", "file"), [("v1", False), ("HEAD", True), ("main", True)])
def test_a_ref_of_a_repository(run, repository, ref, file):
    result = run(f"file://{repository}", ref=ref)
    commit = git(repository, "rev-parse", ref)
    assert result["revision"]["commit"] == commit
    assert result["revision"]["id"].startswith(commit[:12] + "-")
    assert ("dags/two.py" in names(result)) is file


def test_a_directory_of_a_repository(run, repository):
    assert names(run(f"file://{repository}", subdirectory="inner")) == ["dags/three.py"]


def test_a_work_tree_has_a_commit_while_it_is_clean(run, repository):
    assert run(repository)["revision"]["commit"] == git(repository, "rev-parse", "HEAD")
    write(repository, {"dags/two.py": "changed"})
    assert run(repository)["revision"]["commit"] == ""


@pytest.mark.parametrize(
    ("source", "arguments", "told"),
    [
        (
            "file://{0}",
            {"ref": "v9"},
            "airflow_dags_ref: v9 is no branch, tag or commit of file://{0} "
            "(airflow_dags_source); git says: fatal: couldn't find",
        ),
        ("file://{0}", {"ref": "a b"}, "airflow_dags_ref: a b is no branch, tag or commit"),
        (
            "file://{0}",
            {"subdirectory": "iner"},
            "airflow_dags_subdirectory: iner is no directory of file://{0} at HEAD; git says: fatal: ",
        ),
        ("file://{0}x", {}, "airflow_dags_source: git on the controller cannot read file://{0}x; git says: fatal: "),
        (
            "git@127.0.0.1:{0}",
            {},
            "airflow_dags_source: git on the controller cannot read git@127.0.0.1:{0}; git says: ",
        ),
        ("gti://127.0.0.1{0}", {}, "To try one: git ls-remote gti://127.0.0.1{0}"),
        (
            "https://hunter2@127.0.0.1:1/x.git",
            {},
            "airflow_dags_source: git on the controller cannot read https://***@127.0.0.1:1/x.git; git says: fatal: ",
        ),
    ],
)
def test_what_git_refuses_names_the_variable(run, repository, source, arguments, told):
    result = run(source.format(repository), **arguments)
    assert told.format(repository) in result["msg"]
    assert "hunter2" not in result["msg"] and "\n" not in result["msg"]


def test_a_password_in_the_address_is_refused_and_not_repeated(run):
    result = run("https://user:hunter2@example.com/x.git")
    assert result["msg"].startswith("airflow_dags_source: the address holds a password")
    assert "hunter2" not in result["msg"]


@pytest.mark.parametrize(("files", "shown"), [
    (PROJECT, "revision"), ({**PROJECT, "dags/key.py": KEY}, "msg"), ({}, "msg"),
])
def test_a_token_in_the_address_is_in_no_release_and_no_message(run, tmp_path, monkeypatch, files, shown):
    """Every DAG reads the file REVISION, and backups keep it."""
    collect, project = airflow_dag_archive.collect, write(tmp_path / "src", files)
    project.mkdir(exist_ok=True)
    monkeypatch.setattr(airflow_dag_archive, "collect", lambda _source, *others: collect(str(project), *others))
    result = run("https://hunter2@example.com/x.git")
    assert "https://***@example.com/x.git" in str(result[shown])
    assert "hunter2" not in str({name: value for name, value in result.items() if name != "invocation"})


@pytest.fixture
def bucket(monkeypatch):
    """An emulated bucket."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="code")
        for name, text in {**PROJECT, "webserver_config.py": "not shipped", "config/x.cfg": "not shipped"}.items():
            client.put_object(Bucket="code", Key=f"team/{name}", Body=io.BytesIO(text.encode()))
        client.put_object(Bucket="code", Key="teams/dags/other.py", Body=b"")
        yield


@pytest.mark.usefixtures("bucket")
def test_a_prefix_of_a_bucket_is_the_same_release_as_the_directory(run, tmp_path):
    result = run("s3://code/team")
    assert result["revision"]["hash"] == run(write(tmp_path / "src", PROJECT))["revision"]["hash"]


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_named(run):
    assert run("s3://nowhere/x")["msg"].startswith("airflow_dags_source: s3://nowhere/x: ")


@pytest.mark.usefixtures("bucket")
def test_objects_on_every_page_of_the_bucket_are_shipped(run, tmp_path, two_a_page):
    two_a_page("s3.ListObjectsV2", "MaxKeys")
    assert run("s3://code/team")["revision"]["hash"] == run(write(tmp_path / "src", PROJECT))["revision"]["hash"]


def test_the_archive_is_for_the_user_of_the_controller_and_has_its_name_only_when_it_is_whole(
        run, tmp_path, files_seen):
    result = run(write(tmp_path / "src", PROJECT))
    assert files_seen.created["out"] == 0o700
    # A later deploy takes a file of this name as it is.
    assert files_seen.named[pathlib.Path(result["path"]).name] == (0o600, True) and not files_seen.unflushed


def test_git_asks_nobody(monkeypatch):
    asked = {}
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    monkeypatch.setattr(
        subprocess, "run",
        lambda *_arguments, env, **_options: asked.update(env) or subprocess.CompletedProcess([], 0, b"", b""))
    airflow_dag_archive.git("fetch")
    assert (asked["GIT_TERMINAL_PROMPT"], asked["GIT_SSH_COMMAND"]) == ("0", "ssh -o BatchMode=yes")
