"""bake.full_over_bare: Packer and Ansible from base root to sealed root ÷ a bare script that does the same.

``python -m tests.benchmarks.bake_over_bare [ROUNDS]``. Both sides start from the same base root, with
the same package lists, downloads, uv cache and locks, one after the other in each round; disk, qcow2 and
proof are in neither. The program ends with an error unless both roots hold the same packages and the same
set of files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kiln import config, errors, figures, paths
from kiln.errors import KilnError
from kiln.progress import Progress
from scripts import archive, bake, base, dpkg, driver, inputs, mirrors, workspace
from tests.benchmarks import lock_parts

IMAGE = "monai-label"
COMMAND = "make bench (tests/benchmarks/bake_over_bare.py)"
ROLE = "monai_label"
VENV = "opt/monai-label/venv"
MADE_BY_SCRIPT = (
    VENV,
    "var/lib/monai-label/apps/",
    "var/lib/monai-label/cache/",
    "var/lib/dpkg",
    "var/cache",
)
"""Trees that the bare script makes itself; what else the roles write comes to it as a payload."""

LEFTOVERS = (
    "etc/.resolv.conf.*",
    "var/log/apt/eipp.log.xz",
    "var/cache/ldconfig/aux-cache",
    "run/*",
    "var/lib/dpkg/*-old",
    "var/cache/debconf/*-old",
    "etc/*-",
    "etc/.pwd.lock",
    "etc/ssh/ssh_host_*",
    "var/cache/apt/*.bin",
    "var/lib/monai-label/.cache",
)
"""What installers leave and the seal removes."""

# A name drawn at random on each run: numbered byte-code caches have none, so this list stays short.
_RANDOM = re.compile(r"^var/lib/monai-label/cache/.*/tmp")


def listing(root: Path) -> set[str]:
    """Every path below a root, relative."""
    found = set()
    for folder, folders, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        found |= {str(inside / name) for name in (*folders, *files)}
    return {path for path in found if not _RANDOM.match(path)}


def payload(full: Path, bare_base: set[str], tar: Path) -> None:
    """Pack the files that roles write: not of the base, of a package, or of the script's own trees."""
    of_packages: set[str] = set()
    for names in (full / "var/lib/dpkg/info").glob("*.list"):
        of_packages |= {line.lstrip("/") for line in names.read_text().splitlines()}
    # Files of a package that a role changed or masked count as the role's.
    with tarfile.open(tar, "w") as out:
        for path in sorted(listing(full)):
            written = path not in of_packages or path.startswith("etc/")
            if written and path not in bare_base | _accounts() and not path.startswith(MADE_BY_SCRIPT):
                out.add(full / path, path, recursive=False)


def _accounts() -> set[str]:
    return {f"etc/{name}{end}" for name in ("passwd", "shadow", "group", "gshadow") for end in ("", "-")}


def run_full(
    resolved: inputs.Resolved, root: Path, work: Path, progress: Progress, lent: Mapping[str, Path]
) -> float:
    """Seconds of the bake's own Packer stage on a base root."""
    release = {"image": IMAGE, "version": "20000101T000000Z-00000000", "input_digest": resolved.digest,
               "git_commit": "none", "base": "bench"}  # fmt: skip
    start = time.monotonic()
    bake.run_packer(resolved, release, root, work, work / "packer.log", progress, lent)
    return time.monotonic() - start


def role_variables(resolved: inputs.Resolved) -> dict[str, Any]:
    """Variables of the server's role as the bake has them: its defaults, and over them kiln.toml's."""
    defaults = yaml.safe_load((inputs.ROLES / ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    return {**defaults, **inputs.variables(resolved.settings, [ROLE])}


def left_out() -> list[dict[str, str]]:
    """What the server's role removes from the environment: globs and their reasons."""
    internal = yaml.safe_load((inputs.ROLES / ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    rows: list[dict[str, str]] = internal[f"__{ROLE}_left_out"]
    return rows


def run_bare(
    resolved: inputs.Resolved, root: Path, full: Path, work: Path, lent: Mapping[str, Path]
) -> float:
    """Seconds of the bare script on a base root."""
    apt = archive.folder()
    loan = mirrors.lend(work, apt)
    settings = work / "kiln-build"
    for name, path in lent.items():
        shutil.copy(path, settings / name)
    lock = paths.ROOT / "requirements/monai-label.lock"
    lock_parts.write(lock, settings)
    shutil.copy(lock, settings / "installed.lock")
    (settings / "left-out").write_text("".join(f"{row['glob']}\n" for row in left_out()))
    prepared = next((full / "var/lib/monai-label/cache").glob("prepared-*"))
    (settings / "prepared").write_text("/" + str(prepared.relative_to(full)))
    before = listing(root)
    payload(full, before, work / "payload.tar")
    # What the seal removes: of the base itself, and of what installers leave.
    (settings / "absent").write_text("\n".join([*sorted(before - listing(full)), *LEFTOVERS]))
    wanted = role_variables(resolved)
    packages = " ".join(dict.fromkeys(name for role in resolved.roles for name in inputs.packages(role)))
    script = Path(__file__).with_name("bare.sh")
    start = time.monotonic()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", script, root, settings, apt / "lists",
         apt / "archives", paths.cache_dir() / "uv", packages, work / "payload.tar",
         wanted["monai_label_app"], ",".join(wanted["monai_label_models"]), str(wanted["monai_label_seed"])],
        env={**os.environ, **loan.environment}, capture_output=True, text=True,
    )  # fmt: skip
    took = time.monotonic() - start
    if done.returncode != 0:
        raise KilnError(f"bare.sh failed: {done.stderr[-800:]}", "correct tests/benchmarks/bare.sh")
    return took


def compare(full: Path, bare: Path) -> None:
    """Refuse to print a ratio of two different things.

    Raises
    ------
    KilnError
        Packages or files differ.
    """
    ours, theirs = ({p.name: p.version for p in dpkg.installed(root)} for root in (full, bare))
    if ours != theirs:
        raise KilnError(f"packages differ: {sorted(ours.items() ^ theirs.items())[:6]}", "correct bare.sh")
    ours, theirs = listing(full), listing(bare)
    if only := sorted(ours ^ theirs):
        sides = [f"{'bake' if path in ours else 'bare'}:{path}" for path in only]
        raise KilnError(f"{len(only)} files differ: {', '.join(sides[:12])}", "correct bare.sh")


def warm() -> None:
    """Read the uv cache and write out what the last side left: neither side may find a colder disk."""
    subprocess.run(["sync"], check=True)
    # cat and not tar, which does not read what it writes to /dev/null.
    find = ["find", paths.cache_dir() / "uv", "-type", "f", "-exec", "cat", "{}", "+"]
    subprocess.run(find, stdout=subprocess.DEVNULL, check=True)


def main(rounds: int) -> None:
    """Measure, compare, write the figure."""
    folder = paths.build_dir() / "bench"
    settings = config.load().select(IMAGE)
    if settings.weights != "random":
        raise KilnError(
            f"{IMAGE} has {settings.weights} weights, and bare.sh makes random ones",
            'set weights = "random" in kiln.toml for the time of the measurement',
        )
    with contextlib.ExitStack() as held:
        held.enter_context(workspace.claim(folder))
        # A measurement that was killed leaves two roots.
        workspace.sweep(folder)
        progress = held.enter_context(Progress("bake.full_over_bare"))
        work = held.enter_context(workspace.workspace(folder))
        resolved = inputs.resolve(IMAGE, settings, work / "inputs.log")
        # Neither side compiles: a bake does once for a kernel and a driver, and keeps the package.
        modules = driver.make(
            resolved.lock, inputs.packages(driver.ROLE), resolved.inputs.tools, work, work / "driver.log",
            progress.detail,
        )  # fmt: skip
        ratios = []
        for number in range(rounds):
            place = work / str(number)
            place.mkdir()
            roots = {}
            for name in ("full", "bare"):
                roots[name] = place / name
                base.unpack(
                    resolved.lock, resolved.inputs.tools, roots[name], work / "base.log", progress.detail
                )
            warm()
            with progress.stage("full"), archive.hold():
                full = run_full(resolved, roots["full"], work, progress, modules)
            warm()
            with progress.stage("bare"), archive.hold():
                bare = run_bare(resolved, roots["bare"], roots["full"], place, modules)
            compare(roots["full"], roots["bare"])
            ratios.append(full / bare)
            print(
                f"round {number + 1}: full {full:.1f} s, bare {bare:.1f} s, ratio {ratios[-1]:.3f}",
                flush=True,
            )
            workspace.remove_tree(place)
    figures.write("bake.full_over_bare", round(statistics.median(ratios), 3), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(lambda: main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)))
