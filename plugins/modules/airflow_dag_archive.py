#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Collect the DAGs of a directory, a git repository or an S3 prefix in one archive that is named after its content."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_dag_archive
short_description: Collect DAGs in one archive that is named after its content
version_added: 1.0.0
description:
  - Runs on the controller. Packs C(dags/), C(plugins/) and C(include/) of the source. A source without a directory
    C(dags) is itself the DAGs folder.
  - The same content makes the same archive, byte for byte, and the same id.
  - Files that F(.airflowignore) names are packed too, because DAGs may import them; whoever parses the DAGs skips them.
  - Refuses links that leave the tree, files that are too large, and what looks like a private key or a cloud
    credential.
options:
  source:
    description: A directory, the address of a git repository, or C(s3://bucket/prefix).
    type: str
    required: true
  ref:
    description: Branch, tag or commit of a git repository.
    type: str
    default: HEAD
  subdirectory:
    description: Directory inside of the git repository, where that is not its root.
    type: str
    default: ""
  dest:
    description: Directory for the archive. Empty packs nothing and only returns what is in the source.
    type: path
    default: ""
  max_file_size_mb:
    description: A larger file is refused.
    type: int
    default: 10
  not_searched:
    description: Shell patterns of files that are not searched for secrets, relative to the source.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: The source is only read, so a dry run does the same.
  diff_mode:
    support: none
    description: Shows no difference.
notes:
  - An archive that is already there is not written again, and those of other days are removed. Neither counts as a
    change, because only the hosts matter.
  - S3 needs boto3 in the Python that runs the module, and the credentials that boto3 finds by itself.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Pack a directory
  windsock.airflow.airflow_dag_archive:
    source: /srv/checkout
    dest: /tmp/archives
  delegate_to: localhost

- name: Pack a tag of a repository
  windsock.airflow.airflow_dag_archive:
    source: git@github.com:example/pipelines.git
    ref: v1.4.0
    dest: /tmp/archives
  delegate_to: localhost
"""

RETURN = r"""
revision:
  description: What the archive is.
  returned: always
  type: dict
  sample: {"id": "1f0c5b0a93de", "hash": "1f0c…", "plugins": "e3b0…", "source": "/srv/checkout", "ref": "", "commit":
  "", "files": 12}
path:
  description: The archive.
  returned: always
  type: str
  sample: /tmp/archives/1f0c5b0a93de.tar.gz
sha256:
  description: Its checksum.
  returned: always
  type: str
requirements:
  description: Lines of the source's requirements.txt, which is not packed.
  returned: always
  type: list
  elements: str
"""

import fnmatch
import gzip
import hashlib
import io
import os
import posixpath
import re
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple, cast

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.new_file import rename

FOLDERS = ("dags", "plugins", "include")
LEFT_OUT = {
    ".git", ".hg", ".svn", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".idea", ".vscode",
    ".DS_Store"
}
SECRETS = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "an AWS access key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "an AWS secret key": re.compile(rb"aws_secret_access_key[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}", re.IGNORECASE),
    "a GitHub token": re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{60}"),
    "a Slack token": re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{20}"),
}


class Problem(Exception):
    """What is wrong with the source, as an instruction."""


class GitProblem(Problem):
    """What git itself says."""


class Entry(NamedTuple):
    """A file (content) or a symbolic link (its target)."""

    executable: bool
    content: bytes
    link: str = ""


def wanted(path: str) -> bool:
    """Return whether a file of the source is worth packing."""
    return not (LEFT_OUT & set(path.split("/")) or path.endswith((".pyc", ".pyo", "~", ".swp")))


def in_folders(paths: list) -> dict:
    """Return {path in the source: path in the release}; a source without a directory dags is the DAGs folder itself."""
    whole = any(path.startswith("dags/") for path in paths)
    placed = {path: path if whole else f"dags/{path}" for path in paths if wanted(path)}
    return {
        path: place
        for path, place in placed.items()
        if place.split("/")[0] in FOLDERS and "/" in place and path != "requirements.txt"
    }


def check(entries: dict, limit: int, not_searched: list) -> list:
    """Return what must not be shipped, a sentence each."""
    problems = []
    places = {path for name in entries for path in [name, *parents(name)]}
    for name, entry in sorted(entries.items()):
        if entry.link:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.link))
            if entry.link.startswith("/") or target not in places:
                problems.append(
                    f"{name}: the link leads to {entry.link}, which is not in the release. Replace it by the file "
                    "itself."
                )
        elif len(entry.content) > limit * 2**20:
            problems.append(
                f"{name}: {len(entry.content) / 2**20:.1f} MB, more than {limit} MB. Keep data out of the DAGs, or "
                "raise airflow_dags_max_file_size_mb."
            )
        elif not any(fnmatch.fnmatch(name, pattern) for pattern in not_searched):
            for what, pattern in SECRETS.items():
                found = pattern.search(entry.content)
                if found:
                    line = entry.content.count(b"\n", 0, found.start()) + 1
                    problems.append(
                        f"{name}:{line}: holds what looks like {what}. Put it in a connection or a secrets backend;"
                        " a false alarm goes into airflow_dags_secrets_allowed."
                    )
    return problems


def parents(name: str) -> list:
    """Return the directories above a path."""
    parts = name.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]


def digest(entries: dict, folder: str = "") -> str:
    """Return a hash of names, contents, links and executable bits."""
    total = hashlib.sha256()
    for name, entry in sorted(entries.items()):
        if name.startswith(folder):
            kind = "link" if entry.link else "exec" if entry.executable else "file"
            total.update(f"{kind} {hashlib.sha256(entry.link.encode() or entry.content).hexdigest()} {name}\n".encode())
    return total.hexdigest()


def pack(entries: dict) -> bytes:
    """Return the archive: the same bytes for the same entries."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1,
                       mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, entry in sorted(entries.items()):
            info = tarfile.TarInfo(name)
            info.mode = 0o750 if entry.executable else 0o640
            if entry.link:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
            else:
                info.size = len(entry.content)
            archive.addfile(info, io.BytesIO(entry.content))
    return buffer.getvalue()


def forget(directory: str) -> None:
    """Remove the archives of other days."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.endswith(".tar.gz") and time.time() - os.path.getmtime(path) > 86400:
            os.unlink(path)


# ---- sources: each returns ({path: Entry}, commit) -------------------------------------------------------------------


def git(*arguments: str, **options) -> bytes:
    """Run git without asking anybody, and return what it printed."""
    environment = {
        **os.environ, "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"), "LC_ALL": "C"
    }
    try:
        return subprocess.run(["git", *arguments], env=environment, capture_output=True, check=True, **options).stdout
    except FileNotFoundError:
        raise Problem("git is not installed on the controller.") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(line.strip() for line in error.stderr.decode(errors="replace").splitlines() if line.strip())
        raise GitProblem(f"git says: {said.rstrip('.')}") from None


def from_directory(source: str) -> tuple:
    """Return the files of a directory; the commit, where they are those of one."""
    root = os.path.expanduser(source)
    if not os.path.isdir(root):
        raise Problem(
            f"airflow_dags_source: {source} is no directory of the controller. Valid are a directory, the address of a "
            "git repository, s3://bucket/prefix."
        )
    entries = {}
    for directory, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        if directory == root and "dags" in folders:
            # A project may hold much that is not shipped: it is not read.
            folders[:] = [name for name in folders if name in FOLDERS]
            names = [name for name in names if name == "requirements.txt"]
        for name in [*names, *(folder for folder in folders if os.path.islink(os.path.join(directory, folder)))]:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root)
            if os.path.islink(path):
                entries[relative] = Entry(False, b"", os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    entries[relative] = Entry(os.access(path, os.X_OK), file.read())
    try:
        clean = not git("-C", root, "status", "--porcelain", "--", ".")
        commit = git("-C", root, "rev-parse", "HEAD").decode().strip() if clean else ""
    except Problem:
        commit = ""
    return entries, commit


def without_token(source: str) -> str:
    """Return the source as people may see it: where the name of a user is, some put a token."""
    return re.sub(r"^(https?://)[^/@]*@", r"\1***@", source)


def from_git(source: str, ref: str, subdirectory: str) -> tuple:
    """Return the files of a commit of a repository, without a work tree."""
    if re.match(r"\w+://[^/@]*:[^/@]*@", source):
        raise Problem(
            "airflow_dags_source: the address holds a password. Leave it out and use an SSH key or git's credential "
            "helper on the controller."
        )
    address = without_token(source)
    with tempfile.TemporaryDirectory() as directory:
        git("init", "--quiet", "--bare", directory)
        try:
            git("-C", directory, "fetch", "--quiet", "--depth", "1", source, ref)
        except GitProblem as problem:
            said = str(problem).replace(source, address)
            if re.search("find remote ref|invalid refspec", said):
                raise Problem(
                    f"airflow_dags_ref: {ref} is no branch, tag or commit of {address} (airflow_dags_source); {said}. "
                    f"To see what there is: git ls-remote {address}"
                ) from None
            raise Problem(
                f"airflow_dags_source: git on the controller cannot read {address}; {said}. Valid is an address such "
                "as "
                "https://github.com/example/pipelines.git or git@github.com:example/pipelines.git. To try one: git "
                f"ls-remote {address}"
            ) from None
        commit = git("-C", directory, "rev-parse", "FETCH_HEAD^{commit}").decode().strip()
        tree = f"FETCH_HEAD:{subdirectory.strip('/')}" if subdirectory.strip("/") else "FETCH_HEAD"
        try:
            archive = git("-C", directory, "archive", "--format=tar", tree)
        except GitProblem as problem:
            raise Problem(
                f"airflow_dags_subdirectory: {subdirectory} is no directory of {address} at {ref}; {problem}. "
                "Valid is a path below the root of the repository, such as airflow; empty is the root itself."
            ) from None
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for info in tar:
            if info.issym():
                entries[info.name] = Entry(False, b"", info.linkname)
            elif info.isfile():
                entries[info.name] = Entry(bool(info.mode & 0o100), cast(IO[bytes], tar.extractfile(info)).read())
    return entries, commit


def from_s3(source: str) -> tuple:
    """Return the objects below a prefix."""
    try:
        import boto3
        import botocore.exceptions
    except ImportError:
        raise Problem("boto3 is not in the controller's Python; requirements/controller.txt has it.") from None
    bucket, _, prefix = source[len("s3://") :].partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    client = boto3.client("s3")
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        names = [
            item["Key"][len(prefix):] for page in pages for item in page.get("Contents", [])
            if not item["Key"].endswith("/")
        ]
        names = [*in_folders(names), *({"requirements.txt"} & set(names))]
        with ThreadPoolExecutor(16) as pool:
            bodies = pool.map(lambda name: client.get_object(Bucket=bucket, Key=prefix + name)["Body"].read(), names)
            return {name: Entry(False, body) for name, body in zip(names, bodies)}, ""
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise Problem(f"airflow_dags_source: {source}: {error}") from None


def collect(source: str, ref: str, subdirectory: str) -> tuple:
    """Return (entries as they lie in the source, commit, ref)."""
    if source.startswith("s3://"):
        return (*from_s3(source), "")
    if "://" in source or re.match(r"[\w.-]+@[\w.-]+:", source):
        return (*from_git(source, ref, subdirectory), ref)
    return (*from_directory(source), "")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "ref": {"type": "str", "default": "HEAD"},
            "subdirectory": {"type": "str", "default": ""},
            "dest": {"type": "path", "default": ""},
            "max_file_size_mb": {"type": "int", "default": 10},
            "not_searched": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    args = module.params
    try:
        found, commit, ref = collect(args["source"], args["ref"], args["subdirectory"])
    except Problem as problem:
        module.fail_json(msg=str(problem))
    entries = {place: found[path] for path, place in in_folders(list(found)).items()}
    if not entries:
        module.fail_json(msg=f"airflow_dags_source: there is nothing to deploy in {without_token(args['source'])}.")
    problems = check(entries, args["max_file_size_mb"], args["not_searched"])
    if problems:
        module.fail_json(msg="\n".join([
            f"{without_token(args['source'])} can't be shipped: {len(problems)} problem{'s' * (len(problems) > 1)}.",
            *problems
        ]))

    content = digest(entries)
    revision = {
        # The commit is for people; whether two releases are the same, the hash says.
        "id": f"{commit[:12]}-{content[:12]}" if commit else content[:12],
        "hash": content,
        "plugins": digest(entries, "plugins/"),
        "source": without_token(args["source"]),
        "ref": ref,
        "commit": commit,
        "files": len(entries),
    }
    archive = pack(entries)
    path = os.path.join(args["dest"], f"{revision['id']}.tar.gz") if args["dest"] else ""
    if path and not os.path.exists(path):
        os.makedirs(args["dest"], mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=args["dest"], delete=False) as file:
            file.write(archive)
            file.flush()
            os.fsync(file.fileno())
        rename(file.name, path)
        forget(args["dest"])
    requirements = found.get("requirements.txt", Entry(False, b"")).content.decode(errors="replace").splitlines()
    module.exit_json(
        changed=False,
        revision=revision,
        path=path,
        sha256=hashlib.sha256(archive).hexdigest(),
        requirements=[
            line.strip() for line in requirements if line.strip() and not line.lstrip().startswith(("#", "-"))
        ],
    )


if __name__ == "__main__":
    main()
