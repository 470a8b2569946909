#!/usr/bin/python
"""Empties the root of an image: what is removed, emptied, truncated and written is the caller's table."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: seal_tree
short_description: Take away what must not be in an image
description:
  - Works on the file system of I(tree) itself and sees what lies under its mounts, such as the files that a
    container engine covers with its own resolv.conf, hosts and hostname. For this it binds the tree, without
    its submounts, below /run for as long as it works.
  - A symbolic link is never followed out of the tree.
  - It refuses, before it touches anything, a host without the mark of a build, and one that has a file system
    of the network mounted, which somebody works with.
options:
  build:
    description: A path that only a machine under build has.
    type: path
    required: true
  foreign:
    description: Kinds of file system that no build mounts.
    type: list
    elements: str
    default: []
  tree:
    description: Root of the image.
    type: path
    required: true
  remove:
    description: Globs below the root. A leading ~ stands for every home folder of /etc/passwd.
    type: list
    elements: str
    default: []
  empty:
    description: Folders that stay and lose what is in them.
    type: list
    elements: str
    default: []
  truncate:
    description: Globs of files that stay and lose their content.
    type: list
    elements: str
    default: []
  write:
    description: Content of files, by path.
    type: dict
    default: {}
  lock:
    description: Accounts whose password must not open anything.
    type: list
    elements: str
    default: []
"""

BELOW = Path("/run/kiln-seal")


def homes(tree: Path) -> list[Path]:
    """Home folders of the tree's accounts, without the root folder itself."""
    passwd = tree / "etc/passwd"
    lines = passwd.read_text().splitlines() if passwd.exists() else []
    named = {line.split(":")[5] for line in lines if line.count(":") == 6}
    found = [tree / home.lstrip("/") for home in sorted(named) if home.strip("/")]
    return [home for home in found if home.is_dir() and home.resolve().is_relative_to(tree.resolve())]


def expand(tree: Path, pattern: str) -> list[Path]:
    """Paths below the tree that a glob names; ``**`` crosses folders and names files."""
    tops = (
        [(home, pattern[2:]) for home in homes(tree)]
        if pattern.startswith("~/")
        else [(tree, pattern.lstrip("/"))]
    )
    # The last letter as a class, since glob follows a link that is named plainly, and misses a dangling one.
    wanted = [(top, f"{rest}/*" if rest.endswith("**") else rest) for top, rest in tops]
    wanted = [(top, rest if rest[-1] in "*]" else f"{rest[:-1]}[{rest[-1]}]") for top, rest in wanted]
    return sorted({path for top, rest in wanted for path in top.glob(rest)})


def remove(path: Path) -> bool:
    """Remove a file, a link or a whole folder; a file that something is mounted on is emptied instead."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return truncate(path)
    return True


def truncate(path: Path) -> bool:
    """Empty a regular file that has content."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return False
    os.truncate(path, 0)
    return True


def write(path: Path, content: str) -> bool:
    """Give a file this content; what was there, a link as well, is replaced."""
    if not path.is_symlink() and path.is_file() and path.read_text() == content:
        return False
    if path.is_symlink():
        path.unlink()
    path.write_text(content)  # in place: something may be mounted on it
    path.chmod(0o644)
    return True


def lock(shadow: Path, accounts: list[str]) -> bool:
    """Give these accounts, and any that needs no password, a field that no password matches."""
    before = [line.split(":") for line in shadow.read_text().splitlines()]
    after = [
        [name, "*", *rest]
        if not field or (name in accounts and field[0] not in "!*")
        else [name, field, *rest]
        for name, field, *rest in before
    ]
    if after == before:
        return False
    shadow.write_text("".join(":".join(fields) + "\n" for fields in after))
    return True


def objection(build: Path, mounts: str, foreign: list[str]) -> str:
    """Why this host is no build, from the text of /proc/mounts; empty where it is one."""
    if not build.exists():
        return f"{build} is missing, which every build has: this host is no image under build"
    found = [line.split()[1] for line in mounts.splitlines() if line.split()[2] in foreign]
    return f"{found[0]} is mounted from the network: somebody works with this host" if found else ""


def seal(tree: Path, parameters: dict[str, object]) -> list[str]:
    """Do all of it; return what changed, as paths of the image."""
    inside = [pattern for folder in parameters["empty"] for pattern in (f"{folder}/*", f"{folder}/.[!.]*")]
    changed = [
        path for pattern in [*parameters["remove"], *inside] for path in expand(tree, pattern) if remove(path)
    ]
    changed += [
        path for pattern in parameters["truncate"] for path in expand(tree, pattern) if truncate(path)
    ]
    changed += [
        tree / p.lstrip("/")
        for p, content in parameters["write"].items()
        if write(tree / p.lstrip("/"), content)
    ]
    if lock(tree / "etc/shadow", parameters["lock"]):
        changed.append(tree / "etc/shadow")
    return ["/" + str(path.relative_to(tree)) for path in changed]


def main() -> None:
    """Run as an Ansible module."""
    lists = {
        name: {"type": "list", "elements": "str", "default": []}
        for name in ("remove", "empty", "truncate", "lock", "foreign")
    }
    paths = {name: {"type": "path", "required": True} for name in ("tree", "build")}
    module = AnsibleModule({**paths, "write": {"type": "dict", "default": {}}, **lists})
    mounts = Path("/proc/mounts").read_text()
    if refused := objection(Path(module.params["build"]), mounts, module.params["foreign"]):
        module.fail_json(msg=f"{refused}. Nothing was changed.")
    BELOW.mkdir(exist_ok=True)
    try:
        module.run_command(
            ["mount", "--bind", "--make-private", module.params["tree"], str(BELOW)], check_rc=True
        )
        changed = seal(BELOW, module.params)
    finally:
        module.run_command(["umount", str(BELOW)])
        BELOW.rmdir()
    module.exit_json(changed=bool(changed), paths=changed)


if __name__ == "__main__":
    main()
