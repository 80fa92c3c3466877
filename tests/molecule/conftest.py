"""What all tests against a running host share. Molecule runs them: bin/test molecule SCENARIO."""

import functools
import os
import pathlib
import types

import long_run
import pytest
import testinfra
import yaml
from testinfra.utils import ansible_runner

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Testinfra and inventory() run ansible-inventory, which prints variables as they are written, secrets too. That is not
# what a playbook prints, so it stays out of the log in which a test looks for secrets.
LOG_PATH = os.environ.pop("ANSIBLE_LOG_PATH", "")


def observed(_config, _inventory, host, **_options):
    """Playbooks reach a host over SSH, as a login of their own. Tests look at it as root, from outside: what they see
    does not depend on the login.
    """
    return testinfra.get_host(f"docker://{host}")


ansible_runner.get_ansible_host = observed


@functools.cache
def role_defaults():
    """The defaults of every role, as written: templates in them are not evaluated."""
    merged = {}
    for path in sorted(ROOT.glob("roles/*/defaults/main.yml")):
        merged.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return merged


def host_name(host):
    return host.backend.host


def pytest_sessionstart(session):
    """Molecule drops a listed test file that is not there without a word; a test that never runs is worth one."""
    path = os.environ.get("MOLECULE_FILE")
    if not path:
        return
    config = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    scenario = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
    missing = [
        name for name in config["verifier"].get("additional_files_or_dirs", []) if not (scenario / name).is_file()
    ]
    if missing:
        pytest.exit(f"{scenario.name}/molecule.yml lists tests that are not there: {', '.join(missing)}", returncode=4)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """On a failure show what the host itself said."""
    report = (yield).get_result()
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and host is not None:
        for title, command in (
            ("failed units", "systemctl list-units --failed --no-legend --plain"),
            ("journal",
             "journalctl --no-pager -o short-iso -n 60 -u 'airflow*' 2>/dev/null | grep . || journalctl --no-pager -n "
             "40"
             ),
        ):
            report.sections.append((f"{title} of {host_name(host)}", host.run(command).stdout))


@pytest.fixture(autouse=True)
def _only_where_it_applies(request):
    """Obey the markers groups(...) and major(...)."""
    groups, major = request.node.get_closest_marker("groups"), request.node.get_closest_marker("major")
    if groups:
        missing = set(groups.args) - set(request.getfixturevalue("host").ansible.get_variables()["group_names"])
        if missing:
            pytest.skip(f"the host is not in {', '.join(sorted(missing))}")
    if major and request.getfixturevalue("major") != major.args[0]:
        pytest.skip(f"for Airflow {major.args[0]} only")


@pytest.fixture(scope="module")
def setting(host):
    """setting('airflow_api_port'): a variable as the scenario sets it, else the role's default."""
    return {**role_defaults(), **host.ansible.get_variables()}.__getitem__


@pytest.fixture(scope="module")
def airflow_version(setting):
    return str(setting("airflow_version"))


@pytest.fixture(scope="module")
def major(airflow_version):
    """2 or 3."""
    return int(airflow_version.split(".", maxsplit=1)[0])


@pytest.fixture(scope="module")
def login():
    """How Molecule reaches the host: port, user, key and the password of sudo."""
    path = os.environ["MOLECULE_INSTANCE_CONFIG"]
    return types.SimpleNamespace(**yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))[0])


@pytest.fixture(scope="module")
def earlier(host):
    """The revision before the one that the database has."""
    found = host.check_output(
        "/opt/airflow/venv/bin/python - 2>/dev/null <<'PROGRAM'\n"
        "import pathlib, re\nimport airflow.migrations.versions as versions\n"
        "texts = [path.read_text() for path in pathlib.Path(versions.__path__[0]).glob('*.py')]\n"
        "parents = {re.search(r'^revision = \"(\\w+)\"', text, re.M)[1]: re.search(r'^down_revision = \"(\\w+)\"', "
        "text, re.M) for text in texts\n"
        "           if re.search(r'^revision = ', text, re.M)}\n"
        "heads = set(parents) - {parent[1] for parent in parents.values() if parent}\n"
        "print(parents[heads.pop()][1])\nPROGRAM")
    return found.strip()


# ---- long tests: bin/test --long
# ----------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(config, items):
    """Leave out the tests that are marked long("part"), or run those of one part alone.

    A part that marks no test differs in what its scenario does before the tests, so the ordinary ones follow.
    long("part", ordinary=True) is run in both, and long("part", ordinary=3) in an ordinary run only on a host with
    Airflow 3.
    """
    file = os.environ.get("MOLECULE_FILE")
    scenario = yaml.safe_load(pathlib.Path(file).read_text(encoding="utf-8")) if file else {}
    given = scenario.get("provisioner", {}).get("inventory", {}).get("group_vars", {}).get("all", {})
    version = given.get("airflow_version", role_defaults()["airflow_version"])

    def ordinary(item):
        marker = item.get_closest_marker("long")
        return not marker or marker.kwargs.get("ordinary", False) in (True, int(version.split(".")[0]))

    # pytest gets the files in the order of their names. Nothing can be asked of a host without Airflow.
    items.sort(key=lambda item: item.path.name == "test_remove_airflow.py")
    chosen = [item for item in items if any(marker.args == (long_run.PART,) for marker in item.iter_markers("long"))]
    chosen = chosen or [item for item in items if ordinary(item)]
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


@pytest.fixture(scope="session")
def seed():
    """0 in an ordinary run."""
    return long_run.SEED


@pytest.fixture
def delay(seed):
    """delay(2): the seconds to wait before a kill, of at most 2."""
    return long_run.delays(seed)
