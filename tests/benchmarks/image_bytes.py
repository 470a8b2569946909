"""image.bytes_over_plain: bytes of the sealed root ÷ those of a root where nothing was kept out.

``python -m tests.benchmarks.image_bytes``. The plain root has the same Debian packages at the same versions,
with the driver by DKMS and with its compiler and headers, and the environment of
requirements/monai-label-plain.lock, which is the image's lock before anything is left out of it. Bytecode is
in both. Counted are the sizes of regular files (``st_size``), hard links once; the sealed root also has the
app, weights and caches, which the plain one lacks.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from kiln import config, errors, figures, paths
from kiln.errors import KilnError
from kiln.progress import Progress
from scripts import archive, base, distributions, dpkg, driver, images, inputs, tree, versions, workspace
from tests.benchmarks import lock_parts, machine

IMAGE = "monai-label"
COMMAND = "make bench (tests/benchmarks/image_bytes.py)"
LOCK = "requirements/monai-label-plain.lock"
INSIDE = "/run/kiln-plain"


def size(root: Path) -> int:
    """Bytes of the regular files of a root, each inode once."""
    return sum({entry.inode: entry.stat.st_size for entry in tree.scan(root) if entry.is_file}.values())


def write_settings(lock: archive.BaseLock, folder: Path) -> None:
    """Write what plain.sh installs: names with versions, and the parts of the lock."""
    folder.mkdir()
    sources = [name for name in driver.SOURCES if name in lock.stage]
    others = {**lock.roles, **lock.stage}
    for name, chosen in (("packages", sorted(others.keys() - set(sources))), ("sources", sources)):
        lines = (f"{package}={others[package].version}\n" for package in chosen)
        (folder / name).write_text("".join(lines))
    lock_parts.write(paths.ROOT / LOCK, folder)


def compare(sealed: Path, plain: Path) -> None:
    """Refuse to print a ratio of two different things: the plain root has all that the sealed one has.

    Raises
    ------
    KilnError
        It lacks a package or a distribution, or has another version of one.
    """
    pairs = (
        ({p.name: p.version for p in dpkg.installed(root)} for root in (sealed, plain)),
        ({p.name: p.version for p in distributions.installed(root)} for root in (sealed, plain)),
    )
    for ours, theirs in pairs:
        # The driver's modules come by DKMS there.
        lacking = [
            f"{name} {version} (plain: {theirs.get(name, 'none')})" for name, version in sorted(ours.items())
            if theirs.get(name) != version and not name.startswith("kiln-nvidia-modules-")
        ]  # fmt: skip
        if lacking:
            raise KilnError(f"the plain root differs: {', '.join(lacking[:6])}", "bake, then measure again")


def main() -> None:
    """Make the plain root, compare, print the sums, write the figure."""
    place = images.resolve(IMAGE)
    if versions.read(place).facts.driver is None:
        raise KilnError(f"{place.name} has no driver, so nothing was kept out", "bake an image with one")
    folder = paths.build_dir() / "bench"
    with contextlib.ExitStack() as held:
        held.enter_context(workspace.claim(folder))
        workspace.sweep(folder)
        progress = held.enter_context(Progress("image.bytes_over_plain"))
        work = held.enter_context(workspace.workspace(folder))
        resolved = inputs.resolve(IMAGE, config.load().select(IMAGE), work / "inputs.log")
        plain, settings, log = work / "plain", work / "settings", folder / "image_bytes.log"
        log.unlink(missing_ok=True)
        base.unpack(resolved.lock, resolved.inputs.tools, plain, work / "base.log", progress.detail)
        write_settings(resolved.lock, settings)
        script = Path(__file__).with_name("plain.sh")
        volumes = (f"{settings}:{INSIDE}:ro", f"{script}:{INSIDE}.sh:ro")
        with (
            progress.stage("plain root"),
            archive.hold(progress.detail),
            machine.start(plain, work, archive.folder(), log, volumes) as one,
        ):
            one.run(f"{INSIDE}.sh", INSIDE)
        compare(place / "root", plain)
        ours, theirs = size(place / "root"), size(plain)
        progress.say(f"sealed {ours / 1e9:.3f} GB, plain {theirs / 1e9:.3f} GB, ratio {ours / theirs:.3f}")
        figures.write("image.bytes_over_plain", round(ours / theirs, 4), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
