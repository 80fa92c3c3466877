"""Parse every DAG file of a release as Airflow would, each in a process of its own, and print what is wrong as JSON
(the last line).

Runs in the virtualenv of the components, with an AIRFLOW_HOME and a database that are gone afterwards. Standard input
is a JSON object:
release: the directory; jobs: processes at once; limit: seconds that a file may take; required_tags: each DAG must have
them; rules: names of RULES; rules_source: Python code whose functions rule_*(dag) yield more problems; requirements:
lines of requirements.txt; environment: variables beyond those of the components.
"""

from __future__ import annotations

import ast
import contextlib
import faulthandler
import importlib
import json
import os
import re
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

# What begin() has read. The children inherit it.
REQUEST: dict[str, Any] = {}
RELEASE = DAGS = Path()


def begin(request: dict[str, Any], home: str) -> None:
    """Take the request over, and set what Airflow reads before it is imported."""
    global RELEASE, DAGS
    REQUEST.update(request)
    RELEASE = Path(os.path.realpath(REQUEST["release"]))
    DAGS = RELEASE / "dags"
    os.environ.update(
        {name: str(value) for name, value in REQUEST["environment"].items()},
        AIRFLOW_HOME=home,
        AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(RELEASE / "plugins"),
        AIRFLOW__CORE__FERNET_KEY="",
        # Deep enough to show the line of the release itself.
        AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH="30",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=f"sqlite+aiosqlite:///{home}/airflow.db",
        AIRFLOW__LOGGING__BASE_LOG_FOLDER=f"{home}/logs",
        AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
    )
    sys.dont_write_bytecode = True


def relative(path: str) -> str:
    """Return a path as it is called in the source."""
    path = os.path.realpath(path)
    return os.path.relpath(path, RELEASE) if path.startswith(f"{RELEASE}{os.sep}") else path


def problem(file: str, line: int | None, text: str, path: str | None = None) -> str:
    """Return a problem as one line; path is the DAG file where the place is in another one."""
    imported = f" (imported by {relative(path)})" if path and relative(path) != relative(file) else ""
    return f"{relative(file)}:{line or 1}: {text}{imported}"


def places(text: str) -> list[tuple[str, int]]:
    """Return (file, line) of each place in the release that a traceback names."""
    found = re.findall(r'File "([^"]+)", line (\d+)', text)
    return [(file, int(line)) for file, line in found if os.path.realpath(file).startswith(f"{RELEASE}{os.sep}")]


# ---- the site's rules ------------------------------------------------------------------------------------------------


def calls_of_dag(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls DAG(...) and @dag(...) of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("DAG", "dag"):
                yield node


def line_of(dag_id: str, tree: ast.AST) -> int:
    """Return the line that makes the DAG, as well as the text of the file tells."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == dag_id or isinstance(
                node, ast.FunctionDef) and node.name == dag_id:
            return node.lineno
    return next((node.lineno for node in calls_of_dag(tree)), 1)


def rule_owner(dag: Any, tree: ast.AST) -> Iterator[str]:
    """Somebody answers for the DAG."""
    from airflow.configuration import conf

    default = conf.get("operators", "default_owner")
    if not dag.default_args.get("owner") and any(task.owner == default for task in dag.tasks):
        yield "has no owner. Set it in default_args or on every task."


def rule_catchup(dag: Any, tree: ast.AST) -> Iterator[str]:
    """Airflow 2 and 3 disagree about the default."""
    for call in calls_of_dag(tree):
        names = [keyword.arg for keyword in call.keywords]
        # None is **something, which may hold it.
        if "catchup" not in names and None not in names:
            yield "does not say whether it catches up. Write catchup=False or catchup=True."
            return


def rule_retries(dag: Any, tree: ast.AST) -> Iterator[str]:
    """A task that fails once is no reason to wake somebody."""
    if dag.tasks and not any(task.retries for task in dag.tasks):
        yield "has no retries. Set retries in default_args or on its tasks."


RULES = {"owner": rule_owner, "catchup": rule_catchup, "retries": rule_retries}


def broken_rules(dag: Any, tree: ast.AST) -> Iterator[str]:
    """Yield what the site's rules say of a DAG."""
    missing = sorted(set(REQUEST["required_tags"]) - set(dag.tags or ()))
    if missing:
        yield f"lacks the tag{'s' * (len(missing) > 1)} {', '.join(missing)} (airflow_dags_required_tags)."
    for name in REQUEST["rules"]:
        yield from RULES[name](dag, tree)
    own: dict[str, Any] = {}
    exec(compile(REQUEST["rules_source"], "airflow_dags_rules_file", "exec"), own)
    for name, rule in own.items():
        if name.startswith("rule_") and callable(rule):
            yield from rule(dag) or ()


# ---- one file, in a child --------------------------------------------------------------------------------------------


def parse(path: str) -> dict[str, list[Any]]:
    """Return {dags, problems} of a file."""
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except SyntaxError as error:
        return {"dags": [], "problems": [problem(path, error.lineno, f"SyntaxError: {error.msg}")]}
    bag = dag_bag(path)
    problems = [explain(path, tree, text) for text in bag.import_errors.values()]
    dags = []
    for dag in bag.dags.values():
        line = line_of(dag.dag_id, tree)
        dags.append({"id": dag.dag_id, "tasks": len(dag.tasks), "line": line})
        try:
            serialize(dag)
        except Exception as error:  # whatever the DAG processor would store as an import error
            problems.append(problem(path, line, f"DAG {dag.dag_id} can't be stored: {error}"))
        problems += [problem(path, line, f"DAG {dag.dag_id} {text}") for text in broken_rules(dag, tree)]
    return {"dags": dags, "problems": problems}


def dag_bag(path: str) -> Any:
    """Parse a file as the DAG processor does."""
    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ImportError:  # Airflow 2
        from airflow.models import DagBag

        sys.path.append(str(DAGS))
        return DagBag(dag_folder=path, include_examples=False, safe_mode=False)
    return BundleDagBag(dag_folder=path, bundle_path=DAGS, bundle_name="dags-folder", safe_mode=False)


def serialize(dag: Any) -> None:
    """Store a DAG as JSON, as the DAG processor does."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # Airflow 2
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization
    json.dumps(Serialization.to_dict(dag))


def explain(path: str, tree: ast.AST, text: str) -> str:
    """Turn what Airflow says about an import into file, line and reason."""
    reason = next((line for line in reversed(text.splitlines()) if line.strip()), "can't be imported").strip()
    cycle = re.search(r"Cycle detected in DAG: ([\w.-]+?)\.? ", text, re.IGNORECASE)
    file, line = (path, line_of(cycle.group(1), tree)) if cycle else ([(path, 1)] + places(text))[-1]
    return problem(file, line, reason, path)


def child(path: str, pipe: int, limit: float) -> None:
    """Parse one file, write the result to the pipe and end."""
    silence = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silence, number)
    # Past the limit the interpreter itself says where it is; then the parent ends it.
    faulthandler.dump_traceback_later(limit, file=pipe)
    try:
        answer = parse(path)
    except BaseException:  # a DAG file may call sys.exit()
        answer = {"dags": [], "problems": [explain(path, ast.Module([], []), traceback.format_exc())]}
    faulthandler.cancel_dump_traceback_later()
    with os.fdopen(pipe, "w") as file:
        file.write(json.dumps(answer))
    os._exit(0)


# ---- all files -------------------------------------------------------------------------------------------------------


def parse_all(paths: list[str], jobs: int, limit: float) -> Iterator[tuple[str, float, dict[str, list[Any]]]]:
    """Yield (path, seconds, {dags, problems}), as many files at a time as there are jobs."""
    waiting = list(reversed(paths))
    running: dict[int, dict[str, Any]] = {}
    selector = selectors.DefaultSelector()
    while waiting or running:
        while waiting and len(running) < jobs:
            path = waiting.pop()
            reader, writer = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(reader)
                child(path, writer, limit)
            os.close(writer)
            running[reader] = {"pid": pid, "path": path, "start": time.monotonic(), "said": b"", "late": False}
            selector.register(reader, selectors.EVENT_READ)
        ended = set()
        for key, _events in selector.select(0.2):
            said = os.read(key.fd, 1 << 16)
            running[key.fd]["said"] += said
            if not said:
                ended.add(key.fd)
        for reader, one in running.items():
            # A moment more than the limit, in which the child says where it is.
            if reader not in ended and not one["late"] and time.monotonic() - one["start"] > limit + 1:
                one["late"] = True
                os.kill(one["pid"], signal.SIGKILL)
        for reader in ended:
            selector.unregister(reader)
            os.close(reader)
            one = running.pop(reader)
            os.waitpid(one["pid"], 0)
            yield one["path"], time.monotonic() - one["start"], understand(one, limit)


def understand(one: dict[str, Any], limit: float) -> dict[str, list[Any]]:
    """Return what a child has found, or where it was when it ended."""
    text = one["said"].decode(errors="replace")
    if not one["late"] and '{"dags"' in text:
        found: dict[str, list[Any]] = json.loads(text[text.rindex('{"dags"') :])
        return found
    # The interpreter names the innermost call first.
    file, line = (places(text) + [(one["path"], 1)])[0]
    reason = f"still not imported after {limit:g} s (airflow_dags_parse_limit)" if one[
        "late"] else "the process that imported it died"
    return {"dags": [], "problems": [problem(file, line, reason, one["path"])]}


def missing_requirements() -> Iterator[str]:
    """Yield what requirements.txt asks for and this virtualenv has not."""
    from importlib import metadata

    from packaging.requirements import InvalidRequirement, Requirement

    for line in REQUEST["requirements"]:
        try:
            wanted = Requirement(line.split(" #")[0].strip())
        except InvalidRequirement as error:
            yield f"requirements.txt: {line!r} can't be read: {str(error).splitlines()[0]}"
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            there = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            there = "none"
        if there == "none" or not wanted.specifier.contains(there, prereleases=True):
            yield (
                f"requirements.txt: asks for {wanted}, the virtualenv has {there}."
                " Put it into airflow_extra_packages and run playbooks/airflow.yml and playbooks/services.yml first."
            )


def broken_plugins() -> Iterator[str]:
    """Load the plugins, which the children inherit, and yield what is wrong with them."""
    from airflow import plugins_manager

    plugins_manager.ensure_plugins_loaded()
    errors = (
        plugins_manager.get_import_errors()
        if hasattr(plugins_manager, "get_import_errors")
        else plugins_manager.import_errors
    )
    for source, text in errors.items():
        yield f"{relative(source)}: {text.strip().splitlines()[-1]}"


def dag_files() -> list[str]:
    """Return the files in which Airflow looks for DAGs; it honours .airflowignore."""
    from airflow.configuration import conf
    from airflow.utils.file import list_py_file_paths

    arguments = {"include_examples": False} if "include_examples" in list_py_file_paths.__code__.co_varnames else {}
    return sorted(
        map(str, list_py_file_paths(str(DAGS),
                                    safe_mode=conf.getboolean("core", "dag_discovery_safe_mode"),
                                    **arguments)))


def import_once(paths: list[str]) -> None:
    """Import the modules of Airflow that the files need, which the children inherit; the DAG processor does so as well.
    """
    from airflow.utils.file import iter_airflow_imports

    with contextlib.suppress(ImportError):  # Airflow 2 has it elsewhere
        import airflow.dag_processing.dagbag  # noqa: F401
    for module in {module for path in paths for module in iter_airflow_imports(path)}:
        with contextlib.suppress(Exception):  # the file that needs it says what is wrong
            importlib.import_module(module)


def junit(rows: list[dict[str, Any]]) -> str:
    """Return the report as JUnit XML: a test case a file."""
    failures = sum(bool(row["problems"]) for row in rows)
    suite = ElementTree.Element("testsuite", name="DAGs", tests=str(len(rows)), failures=str(failures))
    for row in rows:
        case = ElementTree.SubElement(suite,
                                      "testcase",
                                      classname="dags",
                                      name=row["file"],
                                      time=f"{row['seconds']:.2f}")
        if row["problems"]:
            ElementTree.SubElement(case, "failure", message=row["problems"][0]).text = "\n".join(row["problems"])
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the report for people, a line a file."""
    cells = [("file", "DAGs", "tasks", "seconds", "problem")]
    for row in rows:
        tasks = sum(dag["tasks"] for dag in row["dags"])
        cells.append(
            (row["file"], str(len(row["dags"])), str(tasks), f"{row['seconds']:.2f}", "; ".join(row["problems"])))
    widths = [max(len(row[number]) for row in cells) for number in range(4)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in cells
    ]


def main() -> dict[str, Any]:
    """Return the report."""
    begin = time.monotonic()
    import airflow.serialization.serialized_objects  # noqa: F401
    from airflow import settings
    from airflow.configuration import conf
    from airflow.models import Connection, Variable
    from airflow.models.base import Base

    # Code that asks for a variable or a connection finds none, in place of no table.
    Base.metadata.create_all(settings.engine, tables=[Connection.__table__, Variable.__table__])
    settings.engine.dispose()

    general = [*missing_requirements(), *broken_plugins()]
    limit = min(REQUEST["limit"], conf.getfloat("core", "dagbag_import_timeout"))
    paths = dag_files()
    import_once(paths)
    loaded = time.monotonic()
    parsed = sorted(parse_all(paths, REQUEST["jobs"], limit))
    rows: list[dict[str, Any]] = [
        {"file": relative(path), "seconds": seconds, **answer} for path, seconds, answer in parsed
    ]
    first: dict[str, str] = {}
    for row in rows:
        for dag in row["dags"]:
            place = f"{row['file']}:{dag['line']}"
            if dag["id"] in first:
                row["problems"].append(f"{place}: dag_id {dag['id']} is also in {first[dag['id']]}")
            first.setdefault(dag["id"], place)
    slowest = max((row["seconds"] for row in rows), default=0)
    if general:
        rows.insert(0, {"file": "(release)", "seconds": 0, "dags": [], "problems": general})
    return {
        "problems": [text for row in rows for text in row["problems"]],
        "table": table(rows),
        "junit": junit(rows),
        "dags": sorted(first),
        "slowest": round(slowest, 2),
        "files": len(rows) - bool(general),
        "seconds": {"start": round(loaded - begin, 1), "files": round(time.monotonic() - loaded, 1)},
    }


if __name__ == "__main__":
    # What is printed on import belongs to nobody: the answer is the only thing on standard output.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    # It begins in the home of whoever signed in, which the components' user may not enter.
    os.chdir("/")
    home = tempfile.mkdtemp(prefix="validate-dags-")
    try:
        begin(json.load(sys.stdin), home)
        answer = main()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    with os.fdopen(answer_to, "w") as out:
        out.write(json.dumps(answer) + "\n")
