#!/usr/bin/python
"""Removes and writes files, folders and links in one call: a loop over template costs a second for each."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: write_tree
short_description: Write several files, folders and links at once
description: >-
  What is to be absent goes first; then come folders, in the order given, then files, then links. A file is
  replaced in one step.
options:
  absent:
    description: >-
      Paths or globs to remove, folders with all that is in them; ** crosses folders and follows no link.
    type: list
    elements: path
    default: []
  folders:
    description: Folders, with the missing ones above them; path, owner and mode of each.
    type: list
    elements: dict
    default: []
  files:
    description: Files; dest and content of each, and where they differ from root and 0644, owner and mode.
    type: list
    elements: dict
    default: []
  links:
    description: Target of each symbolic link, by path.
    type: dict
    default: {}
"""

FOLDER = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0755"},
}
FILE = {
    "dest": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
}


def own(path: Path, owner: str, mode: str) -> bool:
    """Give a path to a user and the group of the same name, with this mode; say whether that changed it."""
    uid, gid, wanted = pwd.getpwnam(owner).pw_uid, grp.getgrnam(owner).gr_gid, int(mode, 8)
    status = path.lstat()
    if (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (uid, gid, wanted):
        return False
    os.chown(path, uid, gid)
    path.chmod(wanted)  # after chown, which clears the setgid bit
    return True


def folder(path: Path, owner: str, mode: str) -> bool:
    """Make a folder."""
    missing = not path.is_dir()
    path.mkdir(parents=True, exist_ok=True)
    # What is mounted there is not the folder that was meant: studies on EFS would be closed to everybody.
    if path.is_mount():
        return False
    return own(path, owner, mode) or missing


def file(path: Path, content: str, owner: str, mode: str) -> bool:
    """Write a file, replacing a link or what it said before."""
    if not path.is_symlink() and path.is_file() and path.read_bytes() == content.encode():
        return own(path, owner, mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.kiln")
    half.write_bytes(content.encode())
    own(half, owner, mode)
    half.replace(path)
    return True


def link(path: Path, target: str) -> bool:
    """Make a symbolic link."""
    if path.is_symlink() and str(path.readlink()) == target:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return True


def named(pattern: str) -> list[Path]:
    """Paths that a glob names, a folder before what is in it; a path without wildcards stands for itself."""
    if not glob.has_magic(pattern):
        return [Path(pattern)]
    return sorted(Path("/").glob(pattern.lstrip("/")))


def gone(path: Path) -> bool:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        {
            "absent": {"type": "list", "elements": "path", "default": []},
            "folders": {"type": "list", "elements": "dict", "options": FOLDER, "default": []},
            "files": {"type": "list", "elements": "dict", "options": FILE, "default": []},
            "links": {"type": "dict", "default": {}},
        }
    )
    given = module.params
    changed = [str(path) for pattern in given["absent"] for path in named(pattern) if gone(path)]
    changed += [f["path"] for f in given["folders"] if folder(Path(f["path"]), f["owner"], f["mode"])]
    changed += [
        f["dest"] for f in given["files"] if file(Path(f["dest"]), f["content"], f["owner"], f["mode"])
    ]
    changed += [path for path, target in given["links"].items() if link(Path(path), target)]
    module.exit_json(changed=bool(changed), paths=changed)


if __name__ == "__main__":
    main()
