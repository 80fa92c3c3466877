"""carried.py: modules that are on no disk of the host run there."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils import carried

PACKAGE = "of_test.plugins.module_utils"
FILES = {
    "objects": "NAME = __name__\n",
    "database": "import json, sys\nfrom {package} import objects\n\n\ndef main():\n    print(objects.NAME, "
                "sys.stdin.read())\n\n\n"
    "if __name__ == '__main__':\n    main()\n",
}


@pytest.fixture(params=["directory", "archive"])
def modules(request, tmp_path, monkeypatch):
    """Two modules, one of which imports the other, as a clone or as the archive in which Ansible brings a module to a
    host.
    """
    parts = PACKAGE.split(".")
    texts = {f"{'/'.join(parts[:count])}/__init__.py": "" for count in range(1, len(parts) + 1)}
    texts.update({f"{'/'.join(parts)}/{name}.py": text.format(package=PACKAGE) for name, text in FILES.items()})
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
            (tmp_path / "directory" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "directory" / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / request.param))
    for name in [name for name in sys.modules if name.startswith("of_test")]:
        monkeypatch.delitem(sys.modules, name)
    return [importlib.import_module(f"{PACKAGE}.{name}") for name in ("database", "objects")]


def test_modules_come_with_what_they_import_and_their_input(modules):
    given = json.dumps({"secret": "ü\n'\"\\"})
    done = subprocess.run([sys.executable, "-I", "-"],
                          input=carried.program_of(modules, given),
                          cwd="/",
                          env={"PATH": os.environ["PATH"]},
                          capture_output=True,
                          text=True,
                          check=False)
    assert (done.stdout, done.stderr) == (f"{PACKAGE}.objects {given}\n", "")


def test_a_module_that_was_not_sent_is_told(modules):
    done = subprocess.run([sys.executable, "-I", "-"],
                          input=carried.program_of(modules[:1], ""),
                          cwd="/",
                          capture_output=True,
                          text=True,
                          check=False)
    assert done.returncode == 1 and "objects" in done.stderr.splitlines()[-1]


def test_the_program_of_an_imported_file_is_its_text():
    assert io.StringIO(carried.program({}, "name")).readline().startswith("# Copyright")
