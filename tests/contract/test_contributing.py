"""What contributors meet: the workflow and the hooks run the same tools as bin/test."""

import json
import os
import re
import subprocess

from repository import ROOT, load

WORKFLOWS = {path: load(path) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}


def steps():
    return [step for workflow in WORKFLOWS.values() for job in workflow["jobs"].values() for step in job["steps"]]


def test_workflows_pin_each_action_and_may_only_read():
    for path, workflow in WORKFLOWS.items():
        used = re.findall(r"uses: *(.*)", path.read_text(encoding="utf-8"))
        assert used and [line
                         for line in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v[\d.]+", line)] == []
        assert workflow["permissions"] == {"contents": "read"}
        assert [name for name, job in workflow["jobs"].items() if "permissions" in job] == []


def test_workflows_run_commands_of_the_repository():
    commands = {command for workflow in WORKFLOWS.values() for job in workflow["jobs"].values()
                for command in job.get("strategy", {}).get("matrix", {}).get("command", [])}
    commands |= {command for step in steps() for command in re.findall(r"bin/\w+", step.get("run", ""))}
    assert commands and [command for command in commands if not os.access(ROOT / command.split()[0], os.X_OK)] == []


def test_the_matrix_has_the_scenarios_of_an_ordinary_run(tmp_path):
    (run,) = [step["run"] for step in steps() if "--scenarios" in step.get("run", "")]
    subprocess.run(["bash", "-euo", "pipefail", "-c", run],
                   cwd=ROOT,
                   env={**os.environ, "GITHUB_OUTPUT": str(tmp_path / "output")},
                   check=True)
    name, _is, value = (tmp_path / "output").read_text(encoding="utf-8").partition("=")
    # bin/test --long runs the last one.
    assert name == "names" and set(
        json.loads(value)) == {path.parent.name
                               for path in ROOT.glob("molecule/*/molecule.yml")} - {"interrupted"}


def test_hooks_run_what_bin_test_runs():
    commands = set(
        re.findall(r"(?:ruff check|shellcheck|yamllint)(?: -+[a-z]+(?:-[a-z]+)*)+",
                   (ROOT / "bin/test").read_text(encoding="utf-8")))
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local" and {hook["language"] for hook in repository["hooks"]} == {"system"}
    entries = {hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "") for hook in repository["hooks"]}
    assert commands and entries == commands
