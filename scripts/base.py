"""The base root: a minimal Debian with systemd and Python, made by mmdebstrap and cached by digest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from kiln import paths
from kiln.errors import KilnError
from scripts import archive, cache, dpkg, mirrors, proc

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "e2fsprogs",
    "tzdata",
    "python3",
    "python3-apt",
    "ca-certificates",
)
"""What Ansible and systemd need to be there first; all else is installed by roles."""

# Written into the root instead of this machine's mirrors: the sources that Debian's apt ships as its example.
_PUBLIC_SOURCES = (
    "sed -nE 's/^(deb \\S+ \\S+) main.*/\\1 main/p' \"$1/usr/share/doc/apt/examples/sources.list\""
    ' > "$1/etc/apt/sources.list" && test "$(wc -l < "$1/etc/apt/sources.list")" = 3'
)
_CLEAN = (
    'cd "$1/etc" && rm -f apt/apt.conf.d/99mmdebstrap dpkg/dpkg.cfg.d/99mmdebstrap apt/sources.list.d/*'
    " resolv.conf hostname"
)


def compare(root: Path, expected: dict[str, str], what: str) -> None:
    """Check that just the resolved packages are in a root.

    Raises
    ------
    KilnError
        A package is missing, surplus, or of another version.
    """
    found = {package.name: package.version for package in dpkg.installed(root)}
    if found == expected:
        return
    names = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
    shown = ", ".join(f"{n} {expected.get(n, 'absent')} → {found.get(n, 'absent')}" for n in names[:4])
    raise KilnError(
        f"{what} differs from base.lock in {len(names)} packages: {shown}",
        "run again: the archive moved, or a role installs what its <role>_packages does not list",
    )


def _digest(lock: archive.BaseLock, tools: dict[str, str]) -> str:
    parts = [lock.base_digest(), tools["mmdebstrap"], *PACKAGES, _PUBLIC_SOURCES]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def cached(lock: archive.BaseLock, tools: dict[str, str]) -> Path:
    """Return where the base root of these inputs is cached, as a tar archive; it may not be there yet."""
    return paths.cache_dir() / "base" / f"{_digest(lock, tools)[:16]}.tar"


def _make(tar: Path, work: Path, log: Path) -> None:
    """Make a base root in a folder of the run, which a sweep removes, and put it into the cache whole."""
    work.mkdir()
    half = work / "base.tar"
    sources, settings = mirrors.for_mmdebstrap(work)
    proc.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            "--dpkgopt=force-unsafe-io",
            f"--aptopt={settings}",
            f"--customize-hook={_PUBLIC_SOURCES}",
            f"--customize-hook={_CLEAN}",
            mirrors.SUITES[0],
            half,
            sources,
        ],
        log,
        what="making the base root",
        env={**os.environ, "TMPDIR": str(work)},
    )
    cache.keep(half, tar)
    shutil.rmtree(work)


def unpack(
    lock: archive.BaseLock, tools: dict[str, str], root: Path, log: Path, say: Callable[[str], None]
) -> str:
    """Lay the base root out in a folder, from the cache or newly made.

    Parameters
    ----------
    lock:
        What was resolved.
    tools:
        Tool → version, of which mmdebstrap's counts.
    root:
        The folder, which does not exist yet.
    log:
        Where mmdebstrap's output goes.
    say:
        Called with what happens.

    Returns
    -------
    str
        ``debian-12@<digest>``, the base as ``/etc/image-release`` names it.

    Raises
    ------
    KilnError
        It cannot be made, or differs from what was resolved.
    """
    tar = cached(lock, tools)
    if cache.ready(tar, f"base root {tar.name}", say):
        say("from the cache")
    else:
        say(f"mmdebstrap, {len(lock.base)} packages")
        _make(tar, root.with_name("base-made"), log)
    root.mkdir()
    unpacking = ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    proc.run([*unpacking, f"--file={tar}", f"--directory={root}"], log, what="unpacking the base root")
    compare(root, {n: p.version for n, p in lock.base.items()}, "the base root")
    return f"debian-12@{tar.stem}"
