"""Module files: many files in one round trip, each compared, validated and replaced whole."""

import grp
import importlib.util
import json
import multiprocessing
import os
import pathlib
import pwd
import stat
import subprocess

import forks
import pytest
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("files", ROOT / "plugins/modules/files.py")
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


@pytest.fixture
def run(tmp_path, capsys):
    """Run the module with these items, whose paths are below tmp_path, and return its result."""

    def call(*items, absent=(), check_mode=False):
        wanted = [{**ME, **item, "path": str(tmp_path / item["path"])} for item in items]
        gone = [str(tmp_path / name) for name in absent]
        settings = {
            "_ansible_check_mode": check_mode, "_ansible_diff": True, "_ansible_remote_tmp": str(tmp_path / "tmp")
        }
        with patch_module_args({"files": wanted, "absent": gone, **settings}):
            with pytest.raises(SystemExit):
                files.main()
        output = capsys.readouterr().out
        return json.loads(output)

    return call


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


ITEMS = {
    "file": {"path": "it", "content": "one\n", "mode": "0640"},
    "directory": {"path": "a/b", "state": "directory", "mode": "0750"},
    "link": {"path": "it", "state": "link", "target": "nowhere"},
}


@pytest.mark.parametrize("state", ITEMS)
@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_makes_only_what_is_absent(run, tmp_path, state, check_mode, exists):
    if exists:
        run(ITEMS[state])
    result = run(ITEMS[state], check_mode=check_mode)
    path = tmp_path / ITEMS[state]["path"]
    assert result["changed"] is not exists
    assert result["changed_paths"] == ([] if exists else [str(path)])
    assert os.path.lexists(path) is (exists or not check_mode)


def test_a_file_has_what_was_asked_for(run, tmp_path):
    run(ITEMS["file"])
    assert (tmp_path / "it").read_text(encoding="utf-8") == "one\n"
    assert mode(tmp_path / "it") == 0o640


def test_content_is_written_as_it_is(run, tmp_path):
    text = "no newline, \\n, 100%, {{ braces }}, $x, ü"
    run({"path": "it", "content": text})
    assert (tmp_path / "it").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("check_mode", [True, False])
def test_another_content_replaces_the_file_by_a_rename(run, tmp_path, check_mode):
    run(ITEMS["file"])
    before = os.stat(tmp_path / "it").st_ino
    result = run({**ITEMS["file"], "content": "two\n"}, check_mode=check_mode)
    assert result["changed"]
    assert [(entry["before"], entry["after"]) for entry in result["diff"]] == [("one\n", "two\n")]
    assert (os.stat(tmp_path / "it").st_ino == before) is check_mode
    assert (tmp_path / "it").read_text(encoding="utf-8") == ("one\n" if check_mode else "two\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it"]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("state", ["file", "directory"])
def test_another_mode_is_mended_and_told(run, tmp_path, state, check_mode):
    run(ITEMS[state])
    path = tmp_path / ITEMS[state]["path"]
    wanted = mode(path)
    path.chmod(0o700)
    result = run(ITEMS[state], check_mode=check_mode)
    assert result["changed_paths"] == [str(path)]
    assert f"{wanted:04o}" in result["diff"][0]["prepared"]
    assert mode(path) == (0o700 if check_mode else wanted)


def test_nothing_is_ever_open_to_more_readers_than_it_is_meant_for(run, files_seen):
    run({"path": "a/b", "state": "directory", "mode": "0750"}, {"path": "a/b/it", "content": "x", "mode": "0640"})
    assert files_seen.created == {"a": 0o700, "b": 0o700, f".it.{os.getpid()}.new": 0o600}
    # The mode is there before the name, and so is the content on the disk.
    assert files_seen.named == {"it": (0o640, True)} and not files_seen.unflushed


def test_a_link_is_replaced_by_a_rename(run, files_seen):
    run(ITEMS["link"])
    run({**ITEMS["link"], "target": "elsewhere"})
    assert set(files_seen.named) == {"it"} and not files_seen.unflushed


def test_a_link_is_pointed_elsewhere(run, tmp_path):
    run(ITEMS["link"])
    assert run({**ITEMS["link"], "target": "elsewhere"})["changed"]
    assert os.readlink(tmp_path / "it") == "elsewhere"


def test_what_a_link_leads_to_is_on_the_disk_before_the_link(run, tmp_path, monkeypatch):
    """A loss of power must not leave a new version without its files."""
    seen, fsync, rename = [], os.fsync, os.rename

    def synced(handle):
        seen.append(os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), tmp_path))
        fsync(handle)

    def renamed(source, target):
        seen.append(f"{os.path.relpath(target, tmp_path)} is there")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    run({"path": "two/a/b", "state": "directory"}, {"path": "two/a/b/c", "content": ""},
        {"path": "current", "state": "link", "target": "two"})
    assert seen[-2:] == ["current is there", "."] and {".", "two", "two/a"} <= set(seen[:-2])
    assert "two/a/b" in seen[seen.index("two/a/b/c is there"):]


def test_parents_are_made_like_the_directory(run, tmp_path):
    run(ITEMS["directory"])
    assert mode(tmp_path / "a") == mode(tmp_path / "a/b") == 0o750


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("state", ITEMS)
def test_absent_removes_whatever_it_is(run, tmp_path, state, check_mode):
    run(ITEMS[state])
    item = {"path": ITEMS[state]["path"], "state": "absent"}
    assert run(item, check_mode=check_mode)["changed"]
    assert os.path.lexists(tmp_path / item["path"]) is check_mode
    assert run(item, check_mode=check_mode)["changed"] is check_mode


def test_a_refused_content_leaves_the_file_and_says_why(run, tmp_path):
    item = {**ITEMS["file"], "validate": "grep -c one %s"}
    assert run(item)["changed"]
    result = run({**item, "content": "two\n", "validate": "sh -c 'echo no: $0 >&2; exit 3' %s"},
                 {"path": "later", "content": ""})
    assert result["failed"]
    assert "exit code 3" in result["msg"] and "no: " in result["msg"] and result["msg"].startswith(str(tmp_path / "it"))
    assert (tmp_path / "it").read_text(encoding="utf-8") == "one\n"
    assert not (tmp_path / "later").exists()


def test_a_checker_sees_the_name_of_the_file(run):
    assert run({"path": "x.service", "content": "",
                "validate": "sh -c 'test $(basename $0) = x.service' %s"})["changed"]


def test_what_is_as_it_should_be_is_not_validated(run):
    run(ITEMS["file"])
    assert not run({**ITEMS["file"], "validate": "false"})["changed"]


@pytest.mark.parametrize(("first", "second", "word"),
                         [("directory", "file", "directory"), ("file", "directory", "file")])
def test_another_kind_of_thing_is_not_removed(run, tmp_path, first, second, word):
    run({**ITEMS[first], "path": "it"})
    result = run({**ITEMS[second], "path": "it"})
    assert result["failed"] and f"is a {word}" in result["msg"]


def test_secret_content_is_in_no_result(run):
    for content in ("hunter2", "hunter3"):
        result = run({"path": "it", "content": content, "secret": True, "validate": "cat %s"})
        assert result["changed"] and "hunter" not in json.dumps(result)
    result = run({"path": "it", "content": "hunter4", "secret": True, "validate": "sh -c 'cat $0; exit 1' %s"})
    assert result["failed"] and "hunter" not in json.dumps(result)


def test_contents_are_not_returned_as_arguments(run):
    assert "module_args" not in json.dumps(run(ITEMS["file"]))


def test_an_unknown_owner_is_told_and_a_dry_run_expects_it(run, tmp_path):
    item = {**ITEMS["file"], "owner": "nobody-like-this"}
    run(ITEMS["file"])
    assert run(item, check_mode=True)["changed"]
    assert "does not know nobody-like-this" in run(item)["msg"]


def test_what_a_killed_run_left_is_in_nobodys_way(run, tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    # The last one is of older versions.
    for name in (f".it.{gone.pid}.new", f".it.{os.getpid()}.new", ".it.new"):
        (tmp_path / name).write_text("half")
    assert run(ITEMS["file"])["changed"]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_two_modules_that_write_the_same_file_are_not_in_each_others_way(run, tmp_path, monkeypatch):
    """A killed run's module goes on for a moment, beside that of the next run."""
    fsync, me = os.fsync, os.getpid()

    def meanwhile(handle):
        fsync(handle)
        # Once the file is written, and before it has its name.
        if os.getpid() == me and not (tmp_path / "it").exists():
            other = multiprocessing.get_context("fork").Process(
                target=run, args=({**ITEMS["file"], "content": "of another run\n"},)
            )
            other.start()
            other.join()
            assert (other.exitcode, (tmp_path / "it").read_text()) == (0, "of another run\n")

    monkeypatch.setattr(os, "fsync", meanwhile)
    assert run(ITEMS["file"])["changed"]
    assert (tmp_path / "it").read_text() == "one\n"


def test_a_file_needs_content(run):
    assert "needs content" in run({"path": "it"})["msg"]


def play(tmp_path, item):
    """Run the action on this machine, with one file."""
    path = tmp_path / "made"
    what = f"{{files: [{{path: {path}, owner: {ME['owner']}, group: {ME['group']}, {item}}}]}}"
    text = (
        "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n    - windsock.airflow.files: "
        f"{what}\n"
    )
    (tmp_path / "play.yml").write_text(text, encoding="utf-8")
    return path, forks.run(["ansible-playbook", "-i", "localhost,", tmp_path / "play.yml"], cwd=ROOT)


def test_a_template_is_rendered_where_nothing_but_ansible_itself_sets_a_variable(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/there.j2").write_text(
        "{{ ansible_managed | comment }}\n{{ number + 1 }}\n", encoding="utf-8"
    )
    path, done = play(tmp_path, "template: there.j2, template_vars: {number: 1}")
    assert done.returncode == 0, done.stdout
    assert path.read_text(encoding="utf-8").splitlines() == ["#", "# Ansible managed", "#", "2"]


@pytest.mark.parametrize(("item", "said"), [
    ("template: none.j2", "none.j2"),
    ("template: there.j2, content: text", "content and template exclude each other"),
    ("template: broken.j2", "no_such_variable"),
])
def test_a_template_that_gives_nothing_is_refused_on_the_controller(tmp_path, item, said):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/there.j2").write_text("text", encoding="utf-8")
    (tmp_path / "templates/broken.j2").write_text("{{ no_such_variable }}", encoding="utf-8")
    path, done = play(tmp_path, item)
    assert done.returncode == 2 and said in done.stdout
    assert not path.exists()


@pytest.mark.parametrize("check_mode", [True, False])
def test_paths_that_must_not_be_there_are_removed_after_the_files_are_made(run, tmp_path, check_mode):
    run({"path": "f", "content": "x"})
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/file").touch()
    result = run(absent=["d", "f", "nowhere"], check_mode=check_mode)
    assert result["changed_paths"] == [str(tmp_path / "d"), str(tmp_path / "f")]
    assert (tmp_path / "d").exists() is (tmp_path / "f").exists() is check_mode
    assert run(absent=["d"])["changed"] is check_mode


def test_a_file_system_below_a_directory_is_not_removed_with_it(run, tmp_path, monkeypatch):
    (tmp_path / "d/shared").mkdir(parents=True)
    (tmp_path / "d/file").touch()
    monkeypatch.setattr(files, "mounts", lambda: ["/", str(tmp_path / "d/shared"), str(tmp_path / "dd")])
    result = run(absent=["d"])
    assert result["failed"] and str(tmp_path / "d/shared") in result["msg"] and "Unmount it" in result["msg"]
    assert (tmp_path / "d/file").exists()


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_mount_point_is_emptied(run, tmp_path, monkeypatch, check_mode):
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/file").touch()
    monkeypatch.setattr(files.os.path, "ismount", lambda path: path == str(tmp_path / "d"))
    assert run(absent=["d"], check_mode=check_mode)["changed"]
    assert bool(os.listdir(tmp_path / "d")) is check_mode
    assert run(absent=["d"])["changed"] is check_mode


def test_the_kernel_names_the_mount_points():
    assert {"/", "/proc"} <= set(files.mounts())
