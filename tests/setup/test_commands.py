"""Commands of bin/ find their clone, however they are called."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASH = sorted(path.name for path in (ROOT / "bin").iterdir()
              if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash"))


def through_the_clone(tmp_path, name):
    (tmp_path / "link").symlink_to(ROOT)
    return [tmp_path / "link/bin" / name], "/"


def through_links_to_the_command(tmp_path, name):
    """A relative link to a link, whose directory is reached through a link too."""
    (tmp_path / "deep/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("deep/bin")
    (tmp_path / "deep/of-the-clone").symlink_to(ROOT / "bin" / name)
    (tmp_path / "bin/my-command").symlink_to("../of-the-clone")
    return ["bin/my-command"], tmp_path


def from_beside(_tmp_path, name):
    return ["bash", name], ROOT / "bin"


def from_the_clone(_tmp_path, name):
    return [f"bin/{name}"], ROOT


def from_another_directory_of_the_clone(_tmp_path, name):
    return [f"../bin/{name}"], ROOT / "docs"


@pytest.mark.parametrize("call", [through_the_clone, through_links_to_the_command, from_beside, from_the_clone,
                                  from_another_directory_of_the_clone])
@pytest.mark.parametrize("cdpath", [False, True], ids=["", "CDPATH"])
@pytest.mark.parametrize("name", BASH)
def test_it_finds_its_clone(tmp_path, name, cdpath, call):
    command, directory = call(tmp_path, name)
    decoy = tmp_path / "decoy"
    (decoy / "bin").mkdir(parents=True)
    (decoy / "bin/lib.sh").write_text("exit 9\n", encoding="utf-8")
    done = subprocess.run(
        [*command, "--help"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", **({"CDPATH": f".:{decoy}"} if cdpath else {})})
    assert (done.returncode, done.stderr) == (0, "")
    comment = re.match(r"#!.*\n((?:#.*\n)+)", (ROOT / "bin" / name).read_text(encoding="utf-8"))[1]
    assert done.stdout == re.sub("^# ?", "", comment, flags=re.MULTILINE)


def test_all_find_it_in_the_same_way():
    texts = [(ROOT / "bin" / name).read_text(encoding="utf-8") for name in BASH]
    assert len(BASH) == 6 and len(
        {re.search(r"^SELF=.*?/lib\.sh\"$", text, re.MULTILINE | re.DOTALL)[0]
         for text in texts}) == 1


def test_no_script_changes_to_a_directory_by_a_name_that_cdpath_could_change():
    """cd prints what it finds there, and may find another directory."""
    scripts = [path for pattern in ("bin/*", ".ci/*", "bench/*", "tests/*/*") for path in ROOT.glob(pattern)
               if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))]
    assert len(scripts) >= 8
    assert not [
        path
        for path in scripts if re.search(r"^[^#\n]*\bcd [^\n]*dirname", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
