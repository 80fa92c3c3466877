"""Templates of role logrotate, rendered without a host and read by those who will read them."""

import configparser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/logrotate"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
DAY = 86400


def render(name, **variables):
    """Render one template with the role's defaults, two components, and variables over them."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True,
                                     loader=jinja2.FileSystemLoader(ROLE / "templates"), autoescape=False)
    environment.filters.update(FilterModule().filters())
    values = DEFAULTS | {
        "ansible_managed": "Managed by Ansible",
        "logrotate_components": ["api-server", "scheduler"],
        "__logrotate_writes_files": True,
        "__logrotate_writer": "airflow-component-logs",
        "__logrotate_groomer": "airflow-groom-logs",
        "__logrotate_writer_config": "/etc/rsyslog.d/airflow-component-logs.rsyslog",
        "__logrotate_identifiers": ["airflow-api-server", "airflow-scheduler"],
    }
    return environment.get_template(name).render(values | variables)


def unit(name, **variables):
    """The last value of each key of a unit, as section -> key -> value."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(render(name, **variables))
    return parser


def test_rotation_renames_and_never_truncates():
    text = render("logrotate.j2")
    directives = [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]
    assert "copytruncate" not in directives
    assert {
        "su airflow airflow", "create 0640 airflow airflow", "dateext", "delaycompress", "maxsize 100M", "rotate 14"
    } <= set(directives)
    assert "/var/log/airflow/scheduler.log" in directives


def test_compression_can_be_turned_off():
    text = render("logrotate.j2", logrotate_compress=False)
    assert "nocompress" in text and "delaycompress" not in text


@pytest.mark.skipif(not shutil.which("logrotate"),
                    reason="logrotate is not installed here; the role checks the file with it on the host")
def test_logrotate_accepts_the_file(tmp_path):
    path = tmp_path / "airflow"
    path.write_text(re.sub(r"^\s*su .*$", "", render("logrotate.j2"), flags=re.M), encoding="utf-8")
    path.chmod(0o644)
    done = subprocess.run(["logrotate", "-d", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr


def test_writer_has_no_limit_that_drops_lines():
    text = render("airflow-component-logs.rsyslog.j2")
    assert 'ratelimit.interval="0"' in text and 'queue.type="Direct"' in text and 'action.resumeRetryCount="-1"' in text
    for component in ("api-server", "scheduler"):
        assert f'$programname == "airflow-{component}"' in text and f'file="/var/log/airflow/{component}.log"' in text


def test_units_run_as_the_owner_and_write_to_the_log_directory_only():
    for name in ("airflow-component-logs.service.j2", "airflow-groom-logs.service.j2"):
        service = unit(name, logrotate_owner="someone", logrotate_directory="/srv/logs/airflow")["Service"]
        assert service["User"] == "someone" and service["ProtectSystem"] == "strict"
        assert service["ReadWritePaths"] == "/srv/logs/airflow" and service["CapabilityBoundingSet"] == ""


def test_without_component_files_the_timer_does_not_rotate():
    assert "ExecStartPre" in unit("airflow-groom-logs.service.j2")["Service"]
    assert "ExecStartPre" not in unit("airflow-groom-logs.service.j2", __logrotate_writes_files=False)["Service"]


def test_limits_reach_the_groomer():
    service = unit("airflow-groom-logs.service.j2", logrotate_task_log_max_age_days=7,
                   logrotate_task_log_max_size_mb=5)["Service"]
    assert service["ExecStart"].endswith("--max-age-days 7 --max-size-mb 5 --min-free-percent 0 /var/log/airflow")


@pytest.fixture
def groomer(tmp_path):
    """groomer(*options): run it on tmp_path/logs and return what it says."""
    script = ROLE / "files/groom_logs.py"

    def run(*options, returncode=0):
        done = subprocess.run([sys.executable, script, *options, tmp_path / "logs"],
                              capture_output=True,
                              text=True,
                              check=False)
        assert done.returncode == returncode, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def log(tmp_path):
    """log('a/b.log', days): make a file of 100 kB that was last changed so many days ago, with directories of the same
    age.
    """

    def make(name, days, size=100_000):
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        then = time.time() - days * DAY
        for each in (path, *path.parents):
            if each == tmp_path:
                break
            os.utime(each, (then, then))
        return path

    return make


def test_old_files_and_their_directories_go(groomer, log, tmp_path):
    log("dag_id=a/run_id=1/task_id=t/attempt=1.log", 31)
    young = log("dag_id=a/run_id=2/task_id=t/attempt=1.log", 29)
    # The parents were touched when the second run was made.
    os.utime(tmp_path / "logs/dag_id=a", (0, 0))
    said = groomer("--max-age-days", "30")
    assert "freed 0.1 MB: 1 files (1 by age, 0 by size), 2 directories; 1 files with 0.1 MB stay" in said
    assert young.exists() and not (tmp_path / "logs/dag_id=a/run_id=1").exists()


def test_component_logs_stay_whatever_their_age(groomer, log):
    paths = [log("scheduler.log", 400), log("scheduler.log-20240101-1", 400), log("dag_processor/x.log", 400)]
    groomer("--max-age-days", "30", "--max-size-mb", "0.01")
    assert [path.exists() for path in paths] == [True, True, False]


def test_the_oldest_go_first_until_the_size_fits(groomer, log):
    paths = [log(f"d/{days}.log", days) for days in range(1, 11)]
    size = paths[0].stat().st_blocks * 512
    said = groomer("--max-size-mb", str(4.5 * size / 1e6))
    assert [path.exists() for path in paths] == [True] * 4 + [False] * 6
    assert "6 files (0 by age, 6 by size)" in said and "4 files with" in said


def test_space_that_is_missing_costs_the_oldest_but_never_the_last_hour(groomer, log):
    old, fresh = log("d/old.log", 1), log("d/fresh.log", 0)
    groomer("--min-free-percent", "100")
    assert not old.exists() and fresh.exists()


def test_files_of_the_last_hour_stay_above_any_limit(groomer, log):
    fresh = log("d/fresh.log", 0.9 / 24)
    groomer("--max-age-days", "0.001", "--max-size-mb", "0.001")
    assert fresh.exists()


def test_links_are_not_followed_and_stay_valid(groomer, log, tmp_path):
    log("dag_processor/2024-01-01/dag.log", 60)
    latest = tmp_path / "logs/dag_processor/latest"
    latest.symlink_to("2024-01-01")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    os.utime(outside / "precious", (0, 0))
    (tmp_path / "logs/dag_processor/escape").symlink_to(outside)
    (tmp_path / "logs/dag_processor/file").symlink_to(outside / "precious")
    os.utime(tmp_path / "logs/dag_processor", (0, 0))
    groomer("--max-age-days", "30")
    assert (outside / "precious").exists()
    assert latest.is_dir() and not list(latest.iterdir()), "its target is empty and still there"


def test_a_file_that_a_link_points_to_stays(groomer, log, tmp_path):
    target = log("d/target.log", 60)
    (tmp_path / "logs/d/latest.log").symlink_to("target.log")
    groomer("--max-age-days", "30")
    assert target.exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are seen in /proc only")
def test_a_file_that_is_open_stays(groomer, log):
    quiet = log("d/a-task-that-says-nothing-for-weeks.log", 60)
    with quiet.open("a"):
        groomer("--max-age-days", "30")
        assert quiet.exists()
    groomer("--max-age-days", "30")
    assert not quiet.exists()


def test_a_dry_run_deletes_nothing_and_says_the_same(groomer, log):
    path = log("d/e/old.log", 60)
    said = groomer("--max-age-days", "30", "--dry-run")
    assert path.exists() and said.startswith("would free")
    assert groomer("--max-age-days", "30") == said.replace("would free", "freed")


def test_young_empty_directories_stay(groomer, log, tmp_path):
    """Airflow makes the directory before it opens the file."""
    log("d/old.log", 60)
    (tmp_path / "logs/e").mkdir()
    groomer("--max-age-days", "30")
    assert (tmp_path / "logs/e").is_dir() and not (tmp_path / "logs/d").exists()


def test_without_limits_nothing_goes(groomer, log):
    path = log("d/old.log", 4000)
    assert "freed 0.0 MB: 0 files" in groomer() and path.exists()
