"""The roles work offline as they do on a live host: by chroot, without systemd, they make the same root."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import paths
from scripts import layer
from tests.molecule.test_scenarios import baked_root, lent

OF_THE_ENGINE = {"gone: etc/hostname", "gone: etc/resolv.conf"}
"""Empty files on which a container's engine had mounted its own: without one there are none."""


@pytest.mark.slow
@pytest.mark.root
def test_roles_by_chroot_make_the_root_that_the_bake_made(tmp_path: Path) -> None:
    root, place = baked_root(), tmp_path / "layer"
    modules = next(path for path in lent("nvidia", tmp_path).values() if path.suffix == ".deb")
    program = [sys.executable, "-m", "tests.molecule.offline", layer.merged(place), root.parent, modules]
    done = subprocess.run(layer.command(root, place, program), cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    came = json.loads(done.stdout)
    # Of every role there was something to write, and no service to start.
    assert len(came["forgotten"]) > 30
    (changed,) = re.findall(r"changed=(\d+)", came["said"])
    assert int(changed) >= 5
    assert set(differences(root, place / "upper")) <= OF_THE_ENGINE


def differences(root: Path, upper: Path) -> list[str]:
    """Paths of a layer that are not as in the root."""
    found = []
    for path in sorted(upper.rglob("*")):
        name = path.relative_to(upper)
        mine, base = path.lstat(), root / name
        if stat.S_ISCHR(mine.st_mode):
            found.append(f"gone: {name}")
        elif not base.exists() and not base.is_symlink():
            found.append(f"new: {name}")
        elif (mine.st_mode, mine.st_uid, mine.st_gid) != (
            (theirs := base.lstat()).st_mode, theirs.st_uid, theirs.st_gid
        ) or (stat.S_ISREG(mine.st_mode) and path.read_bytes() != base.read_bytes()):  # fmt: skip
            found.append(f"changed: {name}")
    return found
