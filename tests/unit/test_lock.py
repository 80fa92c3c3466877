"""bin/lock with a stand-in for uv, and the lock files that the repository ships."""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCKS = ROOT / "locks"
# Airflow's own constraints, as upstream published them: a directory named here, or one beside the clone.
OFFICIAL = pathlib.Path(os.environ.get("AIRFLOW_CONSTRAINTS_DIR", ROOT.parent / "shared/constraints"))

CONFIG = """\
---
# a comment that must survive
airflow:
  "3.3.2":
    cutoff: "2026-09-18"
    pythons: ["3.10", "3.11"]
    requirements:
      - apache-airflow[fab]==3.3.2
installers:
  uv:
    cutoff: "2026-09-18"
    requirements:
      - uv==0.13.8
"""

FAKE_UV = """\
#!/usr/bin/env python3
import json, os, sys
asked = sys.stdin.read()
with open(os.environ["UV_CALLS"], "a") as log:
    log.write(json.dumps({"argv": sys.argv[1:], "asked": asked.split()}) + "\\n")
if os.environ.get("UV_FAILS"):
    sys.exit("No solution found")
print(os.environ.get("UV_PINS", "apache-airflow==3.3.2 \\\\\\n    --hash=sha256:00"))
"""


@pytest.fixture(scope="module")
def lock():
    loader = importlib.machinery.SourceFileLoader("bin_lock", str(ROOT / "bin/lock"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bin_lock", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def place(lock, tmp_path, monkeypatch):
    """A locks directory of its own, and a uv that writes down how it was called."""
    (tmp_path / "locks.yml").write_text(CONFIG, encoding="utf-8")
    uv = tmp_path / "uv"
    uv.write_text(FAKE_UV, encoding="utf-8")
    uv.chmod(0o755)
    monkeypatch.setenv("UV", str(uv))
    monkeypatch.setenv("UV_CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr(lock, "LOCK_DIR", tmp_path)
    return tmp_path


def calls(place):
    path = place / "calls"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def option(call, name):
    return call["argv"][call["argv"].index(name) + 1]


def test_all_locks_are_made_from_the_list(lock, place):
    assert lock.main([]) == 0
    assert {path.name
            for path in place.glob("*.txt")} == {"airflow-3.3.2-py3.10.txt", "airflow-3.3.2-py3.11.txt", "uv.txt"}
    first = calls(place)[0]
    assert first["asked"] == ["apache-airflow[fab]==3.3.2"]
    assert option(first, "--python-version") == "3.10"
    # A date alone would mean something else in another time zone.
    assert option(first, "--exclude-newer") == "2026-09-19T00:00:00Z"
    assert "--generate-hashes" in first["argv"]
    text = (place / "airflow-3.3.2-py3.10.txt").read_text(encoding="utf-8")
    assert "`bin/lock 3.3.2 --python 3.10`" in text and "2026-09-18" in text


def test_check_writes_nothing_and_names_what_differs(lock, place, capsys):
    lock.main([])
    assert lock.main(["--check"]) == 0
    path = place / "airflow-3.3.2-py3.11.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("apache-airflow==3.3.2 ", "apache-airflow==3.3.1 "),
                    encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    capsys.readouterr()
    assert lock.main(["--check"]) == 1
    out = capsys.readouterr().out
    assert "airflow-3.3.2-py3.11.txt: 1 pins: apache-airflow 3.3.1 -> 3.3.2" in out and "py3.10" not in out
    assert path.read_text(encoding="utf-8") == before


def test_a_new_version_is_locked_and_listed(lock, place):
    assert lock.main(["3.4.0", "--cutoff", "2026-10-20", "--python", "3.12"]) == 0
    text = (place / "locks.yml").read_text(encoding="utf-8")
    assert "# a comment that must survive" in text
    data = yaml.safe_load(text)["airflow"]
    assert list(data) == ["3.4.0", "3.3.2"]
    assert data["3.4.0"]["pythons"] == ["3.12"] and data["3.4.0"]["cutoff"] == "2026-10-20"
    assert "apache-airflow-core[gunicorn]==3.4.0" in data["3.4.0"]["requirements"]
    # What was written is what the next plain run would make.
    assert lock.main(["--check", "3.4.0"]) == 0


def test_airflow_2_is_asked_for_without_what_only_3_has(lock, place):
    lock.main(["2.11.9", "--cutoff", "2026-10-20", "--python", "3.12"])
    assert calls(place)[0]["asked"] == ["apache-airflow[amazon,celery,hashicorp,postgres,statsd]==2.11.9",
                                        "apache-airflow-providers-amazon[aiobotocore,s3fs]", "authlib"]


def test_a_version_that_does_not_resolve_is_not_listed(lock, place, monkeypatch):
    monkeypatch.setenv("UV_FAILS", "1")
    with pytest.raises(lock.LockError, match="No solution found"):
        lock.main(["3.4.0", "--cutoff", "2026-10-20"])
    assert (place / "locks.yml").read_text(encoding="utf-8") == CONFIG


def test_constraints_of_a_new_version_are_kept_for_the_next_run(lock, place):
    lock.main(
        ["3.4.0", "--cutoff", "2026-10-20", "--python", "3.12", "--constraints", "https://example.org/c-{python}.txt"])
    assert option(calls(place)[0], "--constraint") == "https://example.org/c-3.12.txt"
    lock.main(["3.4.0"])
    assert option(calls(place)[1], "--constraint") == "https://example.org/c-3.12.txt"


def test_a_site_lock_keeps_the_shipped_pins(lock, place):
    lock.main([])
    site, out = place / "site.in", place / "site.txt"
    site.write_text("# ours\npandas  # for reports\n", encoding="utf-8")
    assert lock.main(["3.3.2", "--python", "3.11", "--extra-requirements", str(site), "--output", str(out)]) == 0
    call = calls(place)[-1]
    assert option(call, "--constraint") == str(place / "airflow-3.3.2-py3.11.txt")
    assert str(site) in call["argv"]
    header = out.read_text(encoding="utf-8")
    assert "#   pandas\n" in header and "--extra-requirements" in header


def test_a_site_lock_cannot_move_airflow(lock, place, monkeypatch):
    lock.main([])
    site = place / "site.in"
    site.write_text("something\n", encoding="utf-8")
    monkeypatch.setenv("UV_PINS", "apache-airflow==3.3.1 \\\n    --hash=sha256:00")
    with pytest.raises(lock.LockError, match="moved apache-airflow away from 3.3.2"):
        lock.main(["3.3.2", "--python", "3.11", "--extra-requirements", str(site), "--output", str(place / "site.txt")])
    assert not (place / "site.txt").exists()


@pytest.mark.parametrize(("argv", "message"), [
    (["3.3"], "it must be one like 3.3.2"),
    (["3.9.9"], r"does not have Airflow 3\.9\.9 .*--cutoff DATE"),
    (["3.3.2", "--cutoff", "2026-01-01"], "is in .* already: edit it there"),
    (["3.4.0", "--cutoff", "soon"], "must be a date like 2026-09-18"),
    (["3.4.0", "--cutoff", "2999-01-01"], "is in the future"),
    (["3.3.2", "--python", "3"], "minor version like 3.11"),
    (["3.3.2", "--python", "3.14"], "does not list Python 3.14"),
    (["--extra-requirements", "x"], "needs a version"),
    (["3.3.2", "--extra-requirements", "x", "--output", "y"], "needs one --python and --output"),
    (["3.3.2", "--python", "3.11", "--extra-requirements", "/nowhere", "--output", "y"], "there is no such file"),
])
def test_bad_input_is_answered_with_what_would_be_good(lock, place, argv, message):
    with pytest.raises(lock.LockError, match=message):
        lock.main(argv)
    assert calls(place) == []


@pytest.mark.parametrize(("old", "new", "message"), [
    ('"3.3.2":', "3.3:", "must be in quotes"),
    ('    cutoff: "2026-09-18"\n    pythons', "    pythons", "the key cutoff is missing"),
    ('"2026-09-18"', '"18.9.2026"', "must be a date"),
])
def test_a_broken_list_is_named(lock, place, old, new, message):
    (place / "locks.yml").write_text(CONFIG.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(lock.LockError, match=message):
        lock.main([])


def test_without_uv_the_message_says_how_to_get_it(lock, monkeypatch, tmp_path):
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    with pytest.raises(lock.LockError, match="bin/setup"):
        lock.find_uv()


# --- the files in locks/ ------------------------------------------------------------------------------------------

SHIPPED = yaml.safe_load((LOCKS / "locks.yml").read_text(encoding="utf-8"))
SHIPPED_LOCKS = [(version, python) for version, entry in SHIPPED["airflow"].items() for python in entry["pythons"]]
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;\\]+)", re.MULTILINE)


def read_lock(version, python):
    return (LOCKS / f"airflow-{version}-py{python}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", SHIPPED["airflow"])
def test_a_new_version_is_asked_for_as_the_shipped_ones_are(lock, version):
    assert lock.new_entry(version, "2026-10-20", ["3.12"],
                          None)["requirements"] == SHIPPED["airflow"][version]["requirements"]


def test_every_listed_lock_is_there_and_no_other():
    expected = {f"airflow-{version}-py{python}.txt" for version, python in SHIPPED_LOCKS}
    expected |= {f"{name}.txt" for name in SHIPPED["installers"]}
    assert {path.name for path in LOCKS.glob("*.txt")} == expected


@pytest.mark.parametrize(("version", "python"), SHIPPED_LOCKS)
def test_lock_is_what_the_list_asks_for(version, python):
    text = read_lock(version, python)
    head = text.partition("\n\n")[0]
    assert SHIPPED["airflow"][version]["cutoff"] in head
    for line in SHIPPED["airflow"][version]["requirements"]:
        assert f"#   {line}" in head
    pins = dict(PIN.findall(text))
    assert pins["apache-airflow"] == version
    if version.startswith("3."):
        assert pins["apache-airflow-core"] == version and "gunicorn" in pins
    # What the product and its users import: the driver, AWS, the executors, metrics, deferrable AWS operators.
    assert {"psycopg2-binary", "boto3", "celery", "statsd", "aiobotocore", "s3fs",
            "apache-airflow-providers-fab"} <= set(pins)


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_every_pin_has_a_hash_and_no_line_leads_elsewhere(path):
    body = path.read_text(encoding="utf-8").partition("\n\n")[2]
    requirements = [item for item in re.split(r"\n(?=\S)", body.strip())]
    for requirement in requirements:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", requirement), requirement[:80]
    assert not re.search(r"https?://|file://|--index|--find-links|^-", body, re.MULTILINE)


@pytest.mark.parametrize(("version", "python"), SHIPPED_LOCKS)
def test_lock_is_near_to_the_official_constraints(version, python):
    path = OFFICIAL / f"constraints-{version}-{python}.txt"
    if not path.is_file():
        pytest.skip(f"no official constraints of {version} for Python {python} here; put them into a directory, "
                    "named by AIRFLOW_CONSTRAINTS_DIR, to compare")
    official = dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    official = {re.sub(r"[-_.]+", "-", name).lower(): pin for name, pin in official.items()}
    ours = dict(PIN.findall(read_lock(version, python)))
    both = ours.keys() & official.keys()
    differ = {name: (official[name], ours[name]) for name in both if ours[name] != official[name]}
    # The official set is older than the release by days, ours is newer by a day: an eighth may have moved, Airflow's
    # own may not.
    assert len(differ) <= len(both) / 8, differ
    assert not [name for name in differ if name.startswith("apache-airflow")], differ
