"""Module airflow_secrets: makes once, keeps for ever, writes what is given, shows nothing."""

import base64
import grp
import importlib.util
import json
import os
import pathlib
import re
import stat

import forks
import pytest
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("airflow_secrets", ROOT / "plugins/modules/airflow_secrets.py")
airflow_secrets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(airflow_secrets)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "secrets"


@pytest.fixture
def run(directory, capsys):
    """Run the module with these arguments and return its result."""

    def call(check_mode=False, **arguments):
        owner = {"owner": str(os.getuid()), "group": "no-such-group"}
        with patch_module_args({"directory": str(directory), **owner, **arguments, "_ansible_check_mode": check_mode}):
            with pytest.raises(SystemExit):
                airflow_secrets.main()
        return json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_generates_only_what_is_absent(run, directory, check_mode, exists):
    if exists:
        kept = run(generate={"jwt_secret": "token"})["secrets"]
    result = run(check_mode, generate={"jwt_secret": "token"})
    assert result["changed"] is not exists
    assert result["written"] == ([] if exists else ["jwt_secret"])
    assert (directory / "jwt_secret").exists() is (exists or not check_mode)
    if exists:
        assert result["secrets"] == kept


@pytest.mark.parametrize(("kind", "length"), [("fernet", 44), ("token", 64), ("password", 32)])
def test_kinds(run, kind, length):
    value = run(generate={"it": kind})["secrets"]["it"]
    assert len(value) == length
    if kind == "fernet":
        assert len(base64.urlsafe_b64decode(value)) == 32


@pytest.mark.parametrize("check_mode", [True, False])
def test_renews_what_it_is_told_to_and_nothing_else(run, directory, check_mode):
    kinds = {"jwt_secret": "token", "fernet_key": "fernet", "database_password": "password"}
    before = run(generate=kinds)["secrets"]
    (directory / "fernet_key").chmod(0o640)
    result = run(check_mode, generate=kinds, renew=["jwt_secret", "fernet_key"])
    assert (result["changed"], result["written"]) == (True, ["fernet_key", "jwt_secret"])
    after = result["secrets"]
    assert after["database_password"] == before["database_password"]
    assert after["jwt_secret"] != before["jwt_secret"]
    # What the old key has encrypted stays readable.
    assert after["fernet_key"].split(",")[1:] == [before["fernet_key"]]
    assert len(after["fernet_key"].split(",")[0]) == 44
    assert (directory / "fernet_key").read_text(encoding="utf-8") == (before if check_mode else after)["fernet_key"]
    # The components go on reading it.
    assert stat.S_IMODE((directory / "fernet_key").stat().st_mode) == 0o640


def test_renews_what_is_absent_too(run):
    assert len(run(generate={"fernet_key": "fernet"}, renew=["fernet_key"])["secrets"]["fernet_key"]) == 44


def test_an_empty_file_counts_as_absent(run, directory):
    directory.mkdir()
    (directory / "it").touch()
    assert run(generate={"it": "token"})["written"] == ["it"]


def test_given_values_are_written_as_they_are_and_only_where_they_differ(run, directory):
    value = "p'a\"ss %{{ x }} ü\nline"
    assert run(values={"it": value})["changed"]
    assert (directory / "it").read_text(encoding="utf-8") == value
    assert not run(values={"it": value})["changed"]
    assert run(values={"it": "other"})["written"] == ["it"]


def test_given_values_are_not_returned(run):
    assert "marker-of-the-test" not in json.dumps(run(values={"it": "marker-of-the-test"}).get("secrets"))


@pytest.mark.parametrize("arguments", [{"generate": {"it": "token"}}, {"values": {"it": "x"}}])
def test_only_the_owner_may_read_where_there_is_no_group(run, directory, arguments):
    run(**arguments)
    assert stat.S_IMODE((directory / "it").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_generating_leaves_the_mode_of_a_file_alone_and_giving_sets_it(run, directory):
    run(generate={"it": "token"})
    (directory / "it").chmod(0o640)
    assert not run(generate={"it": "token"})["changed"]
    value = (directory / "it").read_text(encoding="utf-8")
    assert run(values={"it": value})["changed"]
    assert stat.S_IMODE((directory / "it").stat().st_mode) == 0o600
    assert not run(values={"it": value})["changed"]


def test_a_file_left_by_a_killed_run_is_no_obstacle(run, directory):
    directory.mkdir()
    (directory / ".it.new").write_text("half", encoding="utf-8")
    assert run(generate={"it": "token"})["written"] == ["it"]
    assert not (directory / ".it.new").exists()


def test_a_secret_is_never_readable_by_others_and_is_on_the_disk_before_it_has_its_name(run, directory, files_seen):
    run(generate={"new": "token"}, values={"it": "one"})
    assert files_seen.created == {"secrets": 0o700, f".new.{os.getpid()}.new": 0o600, f".it.{os.getpid()}.new": 0o600}
    assert files_seen.named == {"new": (0o600, True), "it": (0o600, True)} and not files_seen.unflushed
    # Running components read it at any moment, so the next file has the mode of the last one before it has its name.
    (directory / "it").chmod(0o640)
    files_seen.created.clear()
    run(values={"it": "two"})
    assert files_seen.created == {f".it.{os.getpid()}.new": 0o600} and files_seen.named["it"] == (0o640, True)


def test_a_new_directory_is_on_the_disk_with_what_it_holds(run, directory, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle:
                        (synced.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle)))
    run(values={"it": "one"})
    assert {str(directory), str(directory.parent)} <= set(synced)


def test_a_group_that_the_system_knows_may_read_what_is_given(run, directory):
    group = grp.getgrgid(os.getgid()).gr_name
    run(generate={"made": "token"}, values={"given": "x"}, group=group)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    assert modes == {"secrets": 0o750, "given": 0o640, "made": 0o600}


def test_takes_what_is_known_elsewhere_in_place_of_what_is_lost(run, directory):
    """And what all hosts agree on in place of its own: a rotation that was killed may have left the old one there."""
    kinds = {"jwt_secret": "token", "fernet_key": "fernet"}
    result = run(generate=kinds, known={"jwt_secret": "known-of-before"})
    assert (result["secrets"]["jwt_secret"], result["written"]) == ("known-of-before", ["fernet_key", "jwt_secret"])
    assert (directory / "jwt_secret").read_text() == "known-of-before"
    again = run(generate=kinds, known=result["secrets"])
    assert (again["secrets"], again["changed"]) == (result["secrets"], False)
    # No key is lost by it.
    run(generate=kinds, known={"fernet_key": KEYS[0]})
    assert [path.read_text() for path in directory.glob("fernet_key.*")] == [result["secrets"]["fernet_key"]]


def test_what_is_renewed_is_kept_to_tell_a_host_that_has_not_heard_of_it(run, directory):
    before = run(generate={"jwt_secret": "token"})["secrets"]["jwt_secret"]
    assert not list(directory.glob("*.before"))
    run(True, generate={"jwt_secret": "token"}, renew=["jwt_secret"])
    assert not list(directory.glob("*.before"))
    run(generate={"jwt_secret": "token"}, renew=["jwt_secret"])
    assert (directory / "jwt_secret.before").read_text() == before
    assert stat.S_IMODE((directory / "jwt_secret.before").stat().st_mode) == 0o600


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_only_another_host_needs_is_removed(run, directory, check_mode):
    run(values={"jwt_secret": "x"}, generate={"admin_password": "password"})
    assert run(check_mode, values={"jwt_secret": "x"}, absent=["admin_password", "never_there"])["changed"]
    assert (directory / "admin_password").exists() is check_mode
    assert check_mode or not run(values={"jwt_secret": "x"}, absent=["admin_password"])["changed"]


KEYS = [character * 43 + "=" for character in "ABC"]


@pytest.mark.parametrize(("before", "after", "kept"), [
    (KEYS[0], KEYS[1], True),
    (f"{KEYS[0]},{KEYS[1]}", KEYS[1], True),
    # A rotation puts a new one in front, and then drops the old one, which nothing needs.
    (KEYS[0], f"{KEYS[1]},{KEYS[0]}", False),
    (f"{KEYS[1]},{KEYS[0]}", KEYS[1], False),
    (KEYS[0], KEYS[0], False),
    ("", KEYS[0], False),
])
def test_a_fernet_key_that_another_one_replaces_is_kept(run, directory, before, after, kept):
    keys = {"values": {"fernet_key": before, "jwt_secret": "x" * 20}}
    run(**keys)
    (directory / "fernet_key").chmod(0o644)
    keys["values"] = {"fernet_key": after, "jwt_secret": "y" * 20}
    run(True, **keys)
    assert {path.name for path in directory.iterdir()} == {"fernet_key", "jwt_secret"}
    run(**keys)
    run(**keys)
    assert (directory / "fernet_key").read_text(encoding="utf-8") == after
    beside = [path for path in directory.iterdir() if path.name not in keys["values"]]
    assert [path.read_text(encoding="utf-8") for path in beside] == [before] * kept
    assert all(
        re.fullmatch(r"fernet_key\.\d{8}T\d{6}Z", path.name) and stat.S_IMODE(path.stat().st_mode) == 0o600
        for path in beside)


def test_without_a_group_only_its_maker_may_read(run, directory):
    run(values={"jwt_secret": "x"}, owner=None, group=None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "jwt_secret").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"generate": {"../passwd": "token"}}, "../passwd"),
        ({"generate": {"it": "strong"}}, "'strong' is no kind of secret; valid: fernet, token, password"),
        ({"generate": {"it": "token"}, "renew": ["other"]}, "renew: 'other' is not one of generate; valid: it"),
        ({"generate": {"it": "token"}, "values": {"it": "x"}}, "stands in one of generate, values and absent"),
        ({"values": {"it": "x"}, "absent": ["it"]}, "stands in one of generate, values and absent"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(run, directory, arguments, said):
    result = run(**arguments)
    assert result["failed"]
    assert said in result["msg"]
    assert not directory.exists()


def test_the_controllers_copy_keeps_the_key_that_a_host_has_replaced(tmp_path):
    """As the role does it, with a host that has come to another key."""
    copy, play = tmp_path / "copy", tmp_path / "play.yml"
    copy.mkdir(mode=0o700)
    (copy / "fernet_key").write_text(KEYS[0], encoding="utf-8")
    play.write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "vars_files": [str(ROOT / "roles/airflow_secrets/vars/main.yml")],
                    "vars": {
                        "airflow_secrets_source": "generated",
                        "airflow_secrets_copy_dir": str(copy),
                        "airflow_secure_logging": False,
                        "airflow_site_id": "",
                        "__airflow_secrets_generated": {"fernet_key": "fernet"},
                        "__airflow_secrets_in_aws": False,
                        "__airflow_secrets_kept": {"fernet_key": KEYS[1]},
                    },
                    "tasks": [
                        {"ansible.builtin.include_tasks": str(ROOT / "roles/airflow_secrets/tasks/steps/store.yml")}
                    ],
                }
            ]
        ),
        encoding="utf-8",
    )
    done = forks.run(["ansible-playbook", "-i", "localhost,", "-c", "local", play], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.read_text(encoding="utf-8") for path in copy.iterdir()) == KEYS[:2]
    assert (copy / "fernet_key").read_text(encoding="utf-8") == KEYS[1]
