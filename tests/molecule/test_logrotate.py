"""Component logs lose no line, task logs stay within their limits."""

import json
import re
import time
import uuid

import pytest

WRITER = "airflow-component-logs"
GROOMER = "airflow-groom-logs"
KEYS = {"timestamp", "level", "event", "logger"}
# A record of a log that is no object: its level, as Airflow, gunicorn and Python write it, or the first line of a
# traceback.
IN_CLEAR = re.compile(
    r"\[(debug|info|warning|error|critical) *\]|\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b|^Traceback \(most recent call "
    r"last\)",
    re.MULTILINE)
# What no logging has written: Airflow 2's webserver, told to stop in the moment in which it asks whether its gunicorn
# is alive, waits for half a minute and dies of it (webserver_command.py, kill_proc).
LAST_WORDS = re.compile(
    r"^Traceback \(most recent call last\):\n(?: .*\n)*? .* in kill_proc\n(?: .*\n)*subprocess\.TimeoutExpired: .*",
    re.MULTILINE)


@pytest.fixture(scope="module")
def log_dir(setting):
    return setting("airflow_log_dir")


@pytest.fixture(scope="module")
def files(setting):
    """For the tests of component logs."""
    if not setting("logrotate_component_files"):
        pytest.skip("logrotate_component_files is false")


@pytest.fixture
def tag():
    return "t" + uuid.uuid4().hex[:12]


def lines(host, log_dir, tag, expected):
    """All lines with the tag in the scheduler's log and its rotated files; waits for the expected number."""
    command = (
        f"for f in {log_dir}/scheduler.log*; do case $f in *.gz) zcat $f ;; *) cat $f ;; esac; done | grep '{tag}'"
    )
    for _half_second in range(40):
        found = host.run(command).stdout.splitlines()
        if len(found) >= expected:
            break
        time.sleep(0.5)
    # airflow_log_format json: what was no object has become one.
    return [json.loads(line)["event"] if line.startswith('{"timestamp"') else line for line in found]


def test_each_component_has_a_log_that_is_its_owners(host, setting, files, log_dir):
    components = [unit.removeprefix("airflow-").removesuffix(".service") for unit in host.check_output(
        "systemctl list-dependencies --plain --no-legend airflow.target | grep -o 'airflow-[a-z-]*.service'").split()]
    assert "scheduler" in components
    # The watchdog is no component: its few lines are in the journal.
    for component in set(components) - {"watchdog"}:
        log = host.file(f"{log_dir}/{component}.log")
        assert log.exists, component
        assert (log.user, log.group, log.mode) == (setting("airflow_user"), setting("airflow_group"), 0o640)


def test_no_line_is_lost_when_files_rotate(host, setting, files, log_dir, tag):
    """20000 lines in some 10 s, and meanwhile rotations, a rotation of the journal and a restart of the writer."""
    script = (
        f"for i in $(seq 40); do seq -f '{tag} %.0f' $((i * 500 - 499)) $((i * 500)); sleep 0.2; done | systemd-cat -t "
        "airflow-scheduler"
    )
    host.check_output(f"systemd-run --quiet --unit log-{tag} sh -c \"{script}\"".replace("$", "\\$"))
    for action in ("true", "journalctl --rotate", "true", f"systemctl restart {WRITER}", "true", "true"):
        host.check_output(f"logrotate --force /etc/logrotate.d/airflow && {action} && sleep 1.1")
    found = lines(host, log_dir, tag, 20000)
    assert len(found) == 20000 and len(set(found)) == 20000
    rotated = host.check_output(f"ls {log_dir} | grep '^scheduler.log-'").splitlines()
    assert len(rotated) >= 6 and not [name for name in rotated if name.endswith(".log")]
    assert any(name.endswith(".gz") for name in rotated) == setting("logrotate_compress")


def test_lines_from_while_the_writer_was_away_are_written_later(host, files, log_dir, tag):
    host.check_output(f"systemctl stop {WRITER} && logger -t airflow-scheduler {tag} && systemctl start {WRITER}")
    assert lines(host, log_dir, tag, 1) == [tag]


def test_a_killed_writer_comes_back_by_itself(host, files, log_dir, tag):
    host.check_output(f"systemctl kill --signal=KILL {WRITER} && logger -t airflow-scheduler {tag}")
    assert lines(host, log_dir, tag, 1) == [tag]


def test_tracebacks_and_long_lines_arrive_as_they_were_printed(host, files, log_dir, tag):
    program = (f"print('{tag} Traceback:\\n  File x {tag}\\n\\tTäb {tag}'); print('{tag}' + 'x' * 40000); "
               f"print(dict(seen='{tag}'))")
    host.check_output(f"python3 -X utf8 -c \"{program}\" | systemd-cat -t airflow-scheduler")
    assert lines(host, log_dir, tag, 5) == [
        f"{tag} Traceback:", f"  File x {tag}", f"\tTäb {tag}", tag + "x" * 40000, f"{{'seen': '{tag}'}}"
    ]


def test_each_line_of_json_is_an_object(host, setting, log_dir):
    """Of a component's file all are, also what the tests above have printed. The journal has what is printed as it is,
    and no record of a log in clear.
    """
    if setting("airflow_log_format") != "json":
        pytest.skip("airflow_log_format is text")
    units = (
        host.check_output("systemctl show --property=ConsistsOf --value airflow.target").replace(".service", "").split()
    )
    # It is no component.
    units.remove("airflow-watchdog")
    for unit in units:
        found = LAST_WORDS.sub("", host.check_output(f"journalctl -o cat --no-pager -t {unit}")).splitlines()
        logged = [line for line in found if line.startswith('{"')]
        assert logged, unit
        assert [line for line in logged if not json.loads(line).keys() >= KEYS] == []
        assert [line for line in found if not line.startswith('{"') and IN_CLEAR.search(line)] == []
        if setting("logrotate_component_files"):
            written = host.check_output(f"zcat -f {log_dir}/{unit.removeprefix('airflow-')}.log*").splitlines()
            assert written, unit
            assert [line for line in written if not json.loads(line).keys() >= KEYS] == []


def test_lines_are_not_kept_in_syslog_too(host, files, log_dir, tag):
    host.check_output(f"logger -t airflow-scheduler {tag}; logger -t other other-{tag}")
    assert lines(host, log_dir, tag, 1) == [tag]
    if host.file("/var/log/syslog").exists:
        assert [line.split()[-1]
                for line in host.check_output(f"sleep 1; grep {tag} /var/log/syslog").splitlines()] == [f"other-{tag}"]


def test_logrotate_finds_no_fault_and_keeps_what_it_was_told(host, setting, files, log_dir):
    done = host.run("logrotate --debug /etc/logrotate.conf")
    assert done.rc == 0 and "error:" not in done.stderr
    said = done.stderr.split(f"rotating pattern: {log_dir}/")[1]
    assert f"({setting('logrotate_rotate')} rotations)" in said
    assert f"log files >= {setting('logrotate_maxsize_mb') << 20} are rotated earlier" in said


def test_limits_are_looked_at_when_it_was_said(host, setting):
    normal = host.check_output("systemd-analyze calendar %s",
                               setting("logrotate_schedule")).split("Normalized form: ")[1].splitlines()[0]
    assert f"OnCalendar={normal} ;" in host.check_output(
        f"systemctl show --property TimersCalendar --value {GROOMER}.timer")


def test_without_component_files_nothing_writes_them(host, setting):
    if setting("logrotate_component_files"):
        pytest.skip("logrotate_component_files is true")
    assert not host.file("/etc/logrotate.d/airflow").exists
    assert not host.file(f"/etc/systemd/system/{WRITER}.service").exists


def test_groomer_deletes_what_is_too_old_and_says_so(host, setting, log_dir, tag):
    directory = f"{log_dir}/dag_id={tag}/run_id=1"
    days = setting("logrotate_task_log_max_age_days")
    if not days:
        pytest.skip("logrotate_task_log_max_age_days is 0")
    user = setting("airflow_user")
    host.check_output(f"""
        install -d -o {user} {log_dir}/dag_id={tag} {directory}
        head -c 2000000 /dev/zero > {directory}/old; echo x > {directory}/young; ln -s young {directory}/latest
        touch -d '{days + 1} days ago' {directory}/old
        chown -R {user} {log_dir}/dag_id={tag}
        systemctl start {GROOMER}""")
    assert not host.file(f"{directory}/old").exists
    assert host.file(f"{directory}/young").exists and host.file(f"{directory}/latest").is_symlink
    said = host.check_output(f"journalctl --unit {GROOMER} --identifier {GROOMER} --output cat --lines 1")
    assert said.startswith("freed ") and "by age" in said
    host.check_output(f"rm -r {log_dir}/dag_id={tag}")


def test_timers_run(host, setting):
    timers = [f"{GROOMER}.timer"] + (["logrotate.timer"] if setting("logrotate_component_files") else [])
    for timer in timers:
        assert host.service(timer).is_enabled and host.service(timer).is_running


def test_units_are_sandboxed(host, setting):
    units = [GROOMER] + ([WRITER] if setting("logrotate_component_files") else [])
    for unit in units:
        summary = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(summary.split(": ")[1].split()[0]) <= 2.5, summary
