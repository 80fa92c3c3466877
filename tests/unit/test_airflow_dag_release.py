"""Module airflow_dag_release: releases come whole, the switch is one rename, and what is needed is kept."""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"plugins/modules/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


airflow_dag_archive, airflow_dag_release = load("airflow_dag_archive"), load("airflow_dag_release")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dags"


@pytest.fixture
def call(root, capsys):
    """Run the module with these arguments and return its result."""

    def run(check_mode=False, **arguments):
        with patch_module_args({"root": str(root), "group": "root", **arguments, "_ansible_check_mode": check_mode}):
            with pytest.raises(SystemExit):
                airflow_dag_release.main()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def ship(call, tmp_path):
    """Bring a release with this content to the host."""

    def run(name, files=None, **also):
        entries = {
            path: airflow_dag_archive.Entry(False, text.encode())
            for path, text in (files or {"dags/one.py": name}).items()
        }
        packed = airflow_dag_archive.pack(entries)
        archive = tmp_path / f"{name}.tar.gz"
        archive.write_bytes(packed)
        revision = {
            "id": name, "hash": airflow_dag_archive.digest(entries), "plugins": "x", "ref": "", "commit": "",
            "files": 1, **also
        }
        sha256 = hashlib.sha256(packed).hexdigest()
        unpacked = call(state="unpacked", archive=str(archive), sha256=sha256, revision=revision)
        assert unpacked.get("changed"), unpacked
        return call(state="shipped", revision=revision)

    return run


def ids(result):
    return [release["id"] for release in result["releases"]]


def test_a_release_is_whole_before_it_has_its_name(call, ship, root):
    result = ship("one", {"dags/a/b.py": "B", "include/lib.py": "L", "plugins/p.py": "P"})
    assert result["changed"]
    release = root / "releases/one"
    assert (release / "dags/a/b.py").read_text() == "B"
    assert json.loads((release / "REVISION").read_text())["id"] == "one"
    assert (release / "PLUGINS").read_text() == "x\n"
    # DAGs import include.lib from the release that they are read from.
    assert (release / "dags/include/lib.py").resolve() == release / "include/lib.py"
    assert not ship("one", {"dags/a/b.py": "B", "include/lib.py": "L", "plugins/p.py": "P"})["changed"]


def test_a_release_is_on_the_disk_before_it_has_its_name(call, ship, root, monkeypatch):
    """And a switch that was reported outlives a loss of power."""
    events, system = [], {name: getattr(os, name) for name in ("fsync", "rename")}

    def sync(command, **options):
        events.append(("sync", os.path.relpath(command[-1], root), os.path.exists(f"{command[-1]}/REVISION")))
        return done(command, **options)

    def fsync(handle):
        events.append(("fsync", os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), root)))
        system["fsync"](handle)

    def rename(source, target):
        events.append(("rename", os.path.relpath(target, root)))
        system["rename"](source, target)

    done = subprocess.run
    monkeypatch.setattr(subprocess, "run", sync)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    ship("one")
    call(state="current", id="one")
    named = events.index(("rename", "releases/one"))
    assert events[named - 1:named + 2] == [
        ("sync", "incoming/one", True), ("rename", "releases/one"), ("fsync", "releases")]
    switched = events.index(("rename", "current"))
    assert events[switched + 1] == ("fsync", ".")
    for name in ("incoming/.one/PLUGINS", "incoming/one/REVISION", "history"):
        assert events.index(("fsync", f"{name}.new")) < events.index(("rename", name))


def test_a_release_that_the_disk_does_not_take_gets_no_name(call, ship, root, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "sync: error syncing 'x': Input/output error")
    monkeypatch.setattr(subprocess, "run", lambda _command, **_options: failed)
    assert "Input/output error" in ship("one")["msg"]
    assert not (root / "releases/one").exists()


def test_a_damaged_archive_is_refused(call, tmp_path, root):
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(b"half")
    result = call(state="unpacked",
                  archive=str(archive),
                  sha256="0" * 64,
                  revision={"id": "one", "hash": "h", "plugins": "x"})
    assert "damaged on its way" in result["msg"]
    assert not (root / "incoming/one").exists()


def test_an_archive_with_other_content_is_refused(call, tmp_path, root):
    packed = airflow_dag_archive.pack({"dags/one.py": airflow_dag_archive.Entry(False, b"1")})
    (tmp_path / "x.tar.gz").write_bytes(packed)
    sha256 = hashlib.sha256(packed).hexdigest()
    result = call(state="unpacked",
                  archive=str(tmp_path / "x.tar.gz"),
                  sha256=sha256,
                  revision={"id": "one", "hash": "other", "plugins": "x"})
    assert "have the hash" in result["msg"]
    assert not (root / "incoming/one").exists()


def test_what_a_killed_run_left_is_no_obstacle(call, ship, root):
    (root / "incoming/.one/dags").mkdir(parents=True)
    (root / "incoming/.one/dags/half.py").touch()
    ship("one")
    (root / ".current.new").symlink_to("releases/nothing")
    assert call(state="current", id="one")["active"] == "one"
    assert os.listdir(root / "releases/one/dags") == ["one.py"]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("active", [True, False])
def test_switch(call, ship, root, check_mode, active):
    ship("one")
    if active:
        call(state="current", id="one")
    result = call(check_mode, state="current", id="one")
    assert result["changed"] is not active
    assert result["active"] == ("one" if active or not check_mode else "")
    assert (root / "current").is_symlink() is (active or not check_mode)
    if (root / "current").is_symlink():
        assert os.readlink(root / "current") == "releases/one"


def test_a_switch_makes_files_look_new_for_as_long_as_a_parse_may_take(call, ship, root):
    ship("one")
    at = call(state="current", id="one", settle=7)["at"]
    assert abs((root / "releases/one/dags/one.py").stat().st_mtime - at - 7) < 2


def test_a_release_that_is_not_there_is_refused(call, ship):
    ship("one")
    assert "There is no release two on this host" in call(state="current", id="two")["msg"]


def test_a_directory_without_revision_is_no_release(call, root):
    (root / "releases/in-place/dags").mkdir(parents=True)
    (root / "current").symlink_to("releases/in-place")
    assert call()["active"] == ""
    assert call()["releases"] == []


@pytest.mark.parametrize(
    ("events", "active", "expected"),
    [
        ("deployed a", "a", ""),
        ("deployed a, deployed b", "b", "a"),
        ("deployed a, deployed b, rolled back a", "a", ""),
        ("deployed a, deployed b, deployed c, rolled back b", "b", "a"),
        ("deployed a, deployed b, switched back a, deployed c", "c", "a"),
        ("deployed a, deployed b, deployed a", "a", "b"),
        # Forward by name, and on from there.
        ("deployed a, deployed b, rolled back a, rolled back b", "b", "a"),
        ("deployed a, deployed b, deployed a, deployed b, deployed c, switched back b", "b", "a"),
        # Killed between the history and the link.
        ("deployed a, deployed b, deployed c", "b", "a"),
        ("deployed a, deployed gone, deployed c", "c", "a"),
    ],
)
def test_previous(events, active, expected):
    history = [dict(zip(("event", "id"), event.rsplit(" ", 1))) for event in events.split(", ")]
    assert airflow_dag_release.previous(history, active, {"a", "b", "c"}) == expected


def test_what_was_recorded_holds_until_the_release_is_put_in_place_again(call, ship):
    ship("one")
    call(state="current", id="one")
    assert call(state="recorded", id="one", event="verified")["changed"]
    assert not call(state="recorded", id="one", event="verified")["changed"]
    assert call()["releases"][0]["status"] == "verified"
    ship("two")
    call(state="current", id="two")
    call(state="recorded", id="two", event="failed", note="why")
    call(state="current", id="one", event="switched back")
    assert {release["id"]: release["status"] for release in call()["releases"]} == {"one": "", "two": "failed"}
    # What failed is not gone back to.
    ship("three")
    call(state="current", id="three")
    assert call()["previous"] == "one"


def test_prune_keeps_the_last_ones_the_previous_and_those_in_use(call, ship, root):
    for name in "abcdef":
        ship(name)
        call(state="current", id=name)
    (root / "releases/in-place").mkdir()
    assert call(True, state="pruned", keep=1, in_use=["b"])["removed"] == ["d", "c", "a", "in-place"]
    assert len(ids(call())) == 6
    result = call(state="pruned", keep=1, in_use=["b"])
    assert result["changed"]
    assert ids(result) == ["f", "e", "b"]
    assert not (root / "releases/in-place").exists()
    assert not call(state="pruned", keep=1, in_use=["b"])["changed"]


def test_history_does_not_grow_for_ever(call, ship, root, monkeypatch):
    monkeypatch.setattr(airflow_dag_release, "HISTORY_LENGTH", 4)
    for name in "ab":
        ship(name)
    for _time in range(4):
        call(state="current", id="a")
        call(state="current", id="b")
    assert len((root / "history").read_text().splitlines()) == 4


READER = """
import os, sys
root, number = sys.argv[1], int(sys.argv[2])
passes = 0
while not os.path.exists(root + "/stop"):
    handle = os.open(root + "/current/dags", os.O_RDONLY | os.O_DIRECTORY)
    seen = set()
    for file in range(number):
        with open(os.open(f"{file}.py", os.O_RDONLY, dir_fd=handle)) as content:
            seen.add(content.read())
    os.close(handle)
    assert len(seen) == 1, seen
    passes += 1
print(passes)
"""


def test_a_reader_never_sees_two_releases_in_one_pass_nor_a_missing_file(call, ship, root):
    for name in ("one", "two"):
        ship(name, {f"dags/{number}.py": name for number in range(50)})
    call(state="current", id="one")
    reader = subprocess.Popen([sys.executable, "-c", READER, str(root), "50"],
                              stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE,
                              text=True)
    for number in range(200):
        call(state="current", id=("two", "one")[number % 2])
    (root / "stop").touch()
    out, error = reader.communicate(timeout=30)
    assert reader.returncode == 0, error
    # It read all the time: as often as the link was switched, at least.
    assert int(out) > 200


def test_what_killed_runs_left_is_removed(call, ship, root):
    ship("one")
    (root / "two.tar.gz").touch()
    (root / "incoming/three").mkdir(parents=True)
    assert call(state="discarded")["changed"]
    assert not call(state="discarded")["changed"]
    assert not (root / "two.tar.gz").exists() and not (root / "incoming").exists()
    assert (root / "releases/one").exists()


CHANGES = {
    "shipped": {"revision": {"id": "two", "hash": "h", "plugins": "x"}},
    "current": {"id": "one"},
    "recorded": {"id": "one", "event": "failed"},
    "discarded": {},
    "pruned": {"keep": 0},
}


@pytest.mark.parametrize("state", CHANGES)
def test_a_change_waits_until_no_other_process_changes_anything(call, ship, root, waits_for_lock, state):
    ship("one")
    (root / "incoming/two").mkdir(parents=True)

    def change():
        assert call(state=state, **CHANGES[state])["changed"]

    waits_for_lock(root / ".changing", change)


def test_an_archive_is_unpacked_only_when_no_other_process_changes_anything(ship, root, waits_for_lock):
    ship("one")
    waits_for_lock(root / ".changing", lambda: ship("two"))
    assert sorted(os.listdir(root / "releases")) == ["one", "two"]


def test_the_lock_is_held_until_the_change_is_made(call, ship, root, monkeypatch):
    ship("one")
    held, rename = [], os.rename

    def locked():
        with open(root / ".changing", encoding="utf-8") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        return True

    monkeypatch.setattr(os, "rename", lambda *paths: held.append(locked()) or rename(*paths))
    assert call(state="current", id="one")["changed"]
    assert held and all(held) and not locked()


def test_a_question_waits_for_nobody(call, ship, root):
    ship("one")
    with open(root / ".changing", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert ids(call()) == ["one"]


def modes(root):
    return {
        str(path.relative_to(root)): f"{path.stat().st_mode & 0o7777:04o}"
        for path in sorted(root.rglob("*")) if not path.is_symlink()
    }


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_only_root_and_the_group_may_read_a_release(call, root, tmp_path, request, umask):
    request.addfinalizer(functools.partial(os.umask, os.umask(umask)))
    entries = {
        "dags/one.py": airflow_dag_archive.Entry(False, b"1"), "include/run.sh": airflow_dag_archive.Entry(True, b"2")
    }
    packed = airflow_dag_archive.pack(entries)
    (tmp_path / "x.tar.gz").write_bytes(packed)
    revision = {"id": "one", "hash": airflow_dag_archive.digest(entries), "plugins": "x"}
    call(state="unpacked",
         archive=str(tmp_path / "x.tar.gz"),
         sha256=hashlib.sha256(packed).hexdigest(),
         revision=revision)
    call(state="shipped", revision=revision)
    call(state="current", id="one")
    assert root.stat().st_mode & 0o7777 == 0o750
    found = modes(root)
    assert {path: mode
            for path, mode in found.items() if mode != "0750"} == {
                path: "0640"
                for path in ("history", "releases/one/PLUGINS", "releases/one/REVISION", "releases/one/dags/one.py")
            } | {
                # Empty: a lock, not a file that somebody reads.
                ".changing": found[".changing"]
            }
    assert found["releases/one/include/run.sh"] == "0750"


def test_what_tells_about_releases_is_replaced_and_never_half_written(call, ship, files_seen):
    ship("one")
    call(state="current", id="one")
    assert {"REVISION", "PLUGINS", "history", "current"} <= set(files_seen.named)


def test_a_release_that_was_not_unpacked_is_refused(call, root):
    result = call(state="shipped", revision={"id": "one", "hash": "h", "plugins": "x"})
    assert result["failed"] and f"{root}/incoming/one is not there. Run the deploy again." in result["msg"]
    assert not (root / "releases/one").exists()


# ---- a new host, or another directory ------------------------------------------------------------------------------


@pytest.fixture
def adopt(root, capsys, tmp_path):
    """Bring what the host has into another directory, as to another host. Returns (its directory, the result)."""

    def run(name, check_mode=False):
        other, archive = tmp_path / "other", tmp_path / "copy.tar.gz"
        results = []
        adopted = {"state": "adopted", "id": name, "_ansible_check_mode": check_mode}
        for directory, arguments in ((root, {"state": "packed"}), (other, adopted)):
            with patch_module_args({"root": str(directory), "group": "root", "archive": str(archive), **arguments}):
                with pytest.raises(SystemExit):
                    airflow_dag_release.main()
            results.append(json.loads(capsys.readouterr().out))
            assert directory != root or archive.stat().st_mode & 0o777 == 0o600
        assert not results[0]["changed"]
        return other, results[1]

    return run


def test_a_new_host_gets_all_releases_and_the_history_of_another_one(call, ship, root, adopt):
    ship("one")
    call(state="current", id="one")
    call(state="recorded", event="verified", id="one")
    ship("two", {"dags/a.py": "A", "include/lib.py": "L"})
    call(state="current", id="two")
    (root / "releases/half").mkdir()
    before = call()
    other, result = adopt("two")
    assert result["changed"]
    assert all(result[key] == before[key] for key in ("active", "previous", "releases"))
    assert (other / "current/dags/a.py").read_text() == "A" and os.readlink(other / "current") == "releases/two"
    assert (other / "current/dags/include/lib.py").read_text() == "L"
    assert sorted(path.name for path in other.iterdir()) == [".changing", "current", "history", "releases"]
    assert sorted(path.name for path in (other / "releases").iterdir()) == ["one", "two"]
    assert not list((other.parent).glob("*.tar.gz"))


def test_a_release_that_did_not_come_is_not_pointed_at(call, ship, adopt):
    ship("one")
    other, result = adopt("two")
    assert "has no release two" in result["msg"] and not (other / "current").exists()


def test_a_dry_run_says_that_it_would_adopt(call, ship, adopt):
    ship("one")
    other, result = adopt("one", check_mode=True)
    assert result["changed"] and not other.exists()


def test_adopted_releases_are_on_the_disk_before_the_link_points_at_one(call, ship, adopt, monkeypatch):
    ship("one")
    call(state="current", id="one")
    events, done, rename = [], subprocess.run, os.rename
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: events.append(command[0]) or done(command, **options))
    monkeypatch.setattr(
        os, "rename", lambda source, target: events.append(os.path.basename(target)) or rename(source, target))
    adopt("one")
    assert events == ["sync", "one", "history", "current"]
