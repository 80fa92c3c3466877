"""bin/release in a copy of the repository: what it refuses, and what a release consists of."""

import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What bin/release reads. Less than all, because antsibull-changelog copies the collection.
NEEDED = [".gitignore", "README.md", "bin", "changelogs/config.yaml", "galaxy.yml", "meta", "requirements"]
FOR_SITES = re.compile(
    r"(docs/(?!testing\.md)|files/(dags|iam)/|group_vars/|locks/|meta/|plugins/|roles/|playbooks/(?!(\w+/)?collections$)).+"
    # A .venv that bin/setup made is compared with these, whichever copy of the collection is in use.
    r"|requirements/(controller|uv)\.txt|requirements\.yml|site\.yml|vars_plugins|CHANGELOG\.rst|LICENSE|README\.md|SECURITY\.md"
)
# ansible-galaxy writes these.
GENERATED = {"FILES.json", "MANIFEST.json"}
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ann"), ("EMAIL", "ann@example.com"))
}


@pytest.fixture(scope="module")
def tools():
    """The tools of bin/release, made once for all copies."""
    subprocess.run(["bash", "-euc", ". bin/lib.sh; ensure_tools"],
                   cwd=ROOT,
                   env={**os.environ, "SELF": "bin/release"},
                   check=True)
    return ROOT / ".cache/tools"


def files_of(archive):
    with tarfile.open(archive) as tar:
        return {member.name for member in tar.getmembers() if not member.isdir()} - GENERATED


class Copy:
    """A clone with the version 1.0.0 of a collection, whose changelog is empty."""

    def __init__(self, path):
        self.path = path
        for name in NEEDED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, path / name)
        (path / ".venv").symlink_to(ROOT / ".venv")
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("changelogs/changelog.yaml", "---\nancestor: null\nreleases: {}\n")
        self.write("changelogs/fragments/first.yml", "bugfixes: [A repair.]\n")
        self.commit()

    def git(self, *arguments):
        return subprocess.run(["git", *arguments],
                              cwd=self.path,
                              env={**os.environ, **IDENTITY},
                              text=True,
                              capture_output=True,
                              check=True).stdout.strip()

    def write(self, name, text):
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def commit(self, message="A change"):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def version(self, version):
        text = (self.path / "galaxy.yml").read_text(encoding="utf-8")
        self.write("galaxy.yml", re.sub(r"^version: .*", f"version: {version}", text, flags=re.MULTILINE))

    def state(self):
        """What a refusal leaves alone."""
        return (
            self.git("rev-parse", "HEAD"),
            self.git("tag"),
            self.git("status", "--porcelain"),
            self.git("worktree", "list"),
        )

    def release(self, *arguments):
        done = subprocess.run(["bin/release", *arguments],
                              cwd=self.path,
                              text=True,
                              capture_output=True,
                              check=False,
                              env={**os.environ, **IDENTITY})
        return done.returncode, done.stdout + done.stderr

    def refusal(self):
        before = self.state()
        code, output = self.release()
        assert code == 1, output
        assert self.state() == before
        return output


@pytest.fixture
def clone(tmp_path):
    return Copy(tmp_path / "clone")


@pytest.fixture
def released(clone, tools):
    """The clone after the release 1.0.0, with the tools."""
    # One of its changes is in the changelog already, and the fragment has the other.
    clone.write("changelogs/changelog.yaml", "---\nancestor: null\nreleases:\n  1.0.0:\n    changes:\n      bugfixes:\n"
                "        - An earlier repair.\n    release_date: '2026-01-31'\n")
    clone.commit()
    (clone.path / ".cache").mkdir()
    (clone.path / ".cache/tools").symlink_to(tools)
    code, output = clone.release()
    assert code == 0, output
    return clone


def test_a_tree_with_changes_is_refused(clone):
    clone.write("README.md", "other\n")
    assert "not committed: README.md" in clone.refusal()


def test_a_file_that_git_does_not_know_is_refused(clone):
    clone.write("new.yml", "---\n")
    assert "not committed: new.yml" in clone.refusal()


def test_a_version_without_fragments_is_refused(clone):
    (clone.path / "changelogs/fragments/first.yml").unlink()
    clone.commit()
    assert "1.0.0 changes nothing: changelogs/fragments has no fragment" in clone.refusal()


def test_a_version_that_exists_as_a_tag_is_refused(clone):
    clone.git("tag", "v1.0.0")
    assert "1.0.0 is released already" in clone.refusal()


def test_a_version_that_is_no_version_is_refused(clone):
    clone.version("1.0")
    clone.commit()
    assert "galaxy.yml has the version '1.0'" in clone.refusal()


def test_a_release_without_a_branch_is_refused(clone):
    clone.git("checkout", "--quiet", "--detach")
    assert "no branch is checked out" in clone.refusal()


@pytest.mark.playbook
def test_a_release_is_a_changelog_an_archive_a_commit_and_a_tag(released):
    assert released.git("log", "-1", "--format=%s", "v1.0.0") == "Release 1.0.0"
    assert released.git("rev-parse", "v1.0.0^{commit}") == released.git("rev-parse", "HEAD")
    changed = set(released.git("diff", "--name-only", "HEAD^").split())
    assert changed == {"CHANGELOG.rst", "changelogs/changelog.yaml", "changelogs/fragments/first.yml"}
    assert "v1.0.0\n======\n\nFixed\n-----\n\n- A repair.\n- An earlier repair.\n" in (
        released.path / "CHANGELOG.rst"
    ).read_text(encoding="utf-8")
    (archive,) = (released.path / "artifacts/release").iterdir()
    assert archive.name == "windsock-airflow-1.0.0.tar.gz" and "CHANGELOG.rst" in files_of(archive)
    # It leaves nothing behind, and the clone is ready for the next change.
    assert released.state()[2:] == ("", f"{released.path}  {released.git('rev-parse', '--short', 'HEAD')} [main]")

    # A clone without tags knows the release by its commit.
    released.git("tag", "--delete", "v1.0.0")
    assert "1.0.0 is released already" in released.refusal()

    released.version("0.9.0")
    released.write("changelogs/fragments/second.yml", "breaking_changes: [Set ``x``.]\n")
    released.commit()
    assert "1.0.0 is newer" in released.refusal()
    # What a site must do needs a new major version.
    released.version("1.1.0")
    released.commit()
    assert "1.1.0 follows 1.0.0, and its changes need a new major version" in (
        refusal := released.refusal()) and "to 2.0.0" in refusal
    released.version("2.0.0")
    released.commit()
    before = released.state()
    code, output = released.release("--check")
    assert code == 0 and "2.0.0 can be released" in output, output
    assert released.state() == before and len(list((released.path / "artifacts/release").iterdir())) == 1

    released.write("changelogs/fragments/second.yml", "no_such_section: [X.]\n")
    released.commit()
    assert "no_such_section" in released.refusal()


def test_the_archive_has_what_a_site_uses_and_nothing_else(tmp_path):
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"],
                           cwd=ROOT,
                           text=True,
                           capture_output=True,
                           check=True).stdout.splitlines()
    names = [name for name in names if os.path.lexists(ROOT / name)]
    for name in names:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / "tree" / name, follow_symlinks=False)
    subprocess.run(
        [ROOT / ".venv/bin/ansible-galaxy", "collection", "build", tmp_path / "tree", "--output-path", tmp_path],
        capture_output=True,
        check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    assert files_of(archive) ^ {name for name in names if FOR_SITES.fullmatch(name)} == set()
