"""A file that gets its name by a rename, and that a later run relies on, is on the disk with this name before the run
goes on.
"""

import re

from repository import ROOT, source_files

# A text's replace has two arguments, and that of a date names them.
RENAMES = re.compile(r"\bos\.(?:rename|replace)\(|\w\.(?:rename|replace)\([^,=]*\)$|^\s*mv |\bln -sfn\b")
FLUSHES = re.compile(r"^\s*(?:flush\(|sync\b)")
# Lines after the rename, among which the flush is looked for.
NEXT = 3
# (file, line): why a loss of power may take it.
LOST = {
    ("plugins/action/airflow_health_report.py", "os.replace(new, path)"): "a report, which the next look writes anew",
    (
        "plugins/modules/airflow_dag_release.py",
        'os.rename(temporary, self.path("incoming", name))',
    ): "not a release yet: ship flushes it",
    (
        "plugins/modules/airflow_dag_release.py",
        'os.rename(os.path.join(incoming, "releases", release), self.path("releases", release))',
    ): "flushed after the last one",
    (
        "plugins/modules/airflow_dag_release.py",
        'os.rename(self.path("releases", name), self.path("incoming", f".{name}.removed"))',
    ): "a removal, which the next deploy repeats",
    ("roles/airflow_runtime/files/airflow_runtime/database.py",
     "new.replace(path)"): "a cache: what cannot be read is asked for anew",
    (
        "roles/airflow_runtime/files/airflow_runtime/watchdog.py",
        'new.replace(STATE_DIR / "restarts.jsonl")',
    ): "it counts the restarts of an hour",
}


def test_a_renamed_file_is_on_the_disk_before_anything_relies_on_it():
    found, wrong = set(), []
    for path in source_files():
        name = str(path.relative_to(ROOT))
        if not name.startswith(("plugins/", "roles/", "playbooks/")) or name.endswith(".md"):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if RENAMES.search(line):
                found.add((name, line.strip()))
                if (
                    not any(FLUSHES.search(after) for after in lines[number + 1 : number + 1 + NEXT])
                    and (name, line.strip()) not in LOST
                ):
                    wrong.append(f"{name}:{number + 1}: {line.strip()}")
    assert not wrong, "use rename of plugins/module_utils/new_file.py, or sync"
    assert set(LOST) <= found, set(LOST) - found
    assert len(found) > len(LOST)
