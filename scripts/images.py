"""The versions on this machine, as their files tell; nothing here writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kiln import compat, paths
from kiln.errors import KilnError, UsageError
from kiln.manifest import Check, Demand, Manifest, Proof, sha256_file
from kiln.mistakes import suggest
from scripts import versions

Verdict = Literal["passed", "refused", "unproven", "unreadable"]

_STYLES: dict[Verdict, str] = {"passed": "green", "refused": "red", "unproven": "yellow", "unreadable": "red"}


@dataclass(frozen=True)
class Version:
    """A version folder and what its files say.

    Parameters
    ----------
    folder:
        ``build/<image>/<version>``.
    """

    folder: Path

    @property
    def image(self) -> str:
        """Name of the image."""
        return self.folder.parent.name

    @property
    def name(self) -> str:
        """The version."""
        return self.folder.name

    @property
    def latest(self) -> bool:
        """Whether ``latest`` names it."""
        link = self.folder.parent / versions.LATEST
        return link.is_symlink() and link.readlink().name == self.name

    @cached_property
    def manifest(self) -> Manifest | None:
        """What was baked; None where it cannot be read."""
        try:
            return versions.read(self.folder)
        except KilnError:
            return None

    @cached_property
    def proof(self) -> Proof | None:
        """What was checked; None where nothing was, or where the proof is of another manifest."""
        found = versions.read_proof(self.folder)
        if found is None or self.manifest is None:
            return None
        same = found.manifest_digest == sha256_file(self.folder / "manifest.json")
        return found if same else None

    @property
    def verdict(self) -> Verdict:
        """What the proof says, or why nothing is said."""
        if self.manifest is None:
            return "unreadable"
        return "unproven" if self.proof is None else self.proof.verdict

    def row(self) -> dict[str, object]:
        """Return what a list shows of it, in plain types.

        Returns
        -------
        dict of str to object
            Strings, numbers, truth values and None, as JSON has them.
        """
        made, proof = self.manifest, self.proof
        return {
            "image": self.image,
            "version": self.name,
            "latest": self.latest,
            "verdict": self.verdict,
            "created": made.created.isoformat() if made else None,
            "bytes": made.disk.bytes if made else None,
            "checks": len(proof.checks) if proof else 0,
            "failed": sum(check.outcome == "failed" for check in proof.checks) if proof else 0,
            "folder": str(self.folder),
        }


def find() -> dict[str, list[Version]]:
    """Return every version on this machine, oldest first, by image.

    Returns
    -------
    dict of str to list of Version
        Name of the image → its versions; an image without any is not in it.
    """
    build = paths.build_dir()
    folders = sorted(path for path in build.iterdir() if path.is_dir()) if build.is_dir() else []
    found = {folder.name: [Version(path) for path in versions.every(folder)] for folder in folders}
    return {image: listed for image, listed in found.items() if listed}


def resolve(image: str, version: str | None = None) -> Path:
    """Return the folder of a version.

    Parameters
    ----------
    image:
        Name of the image.
    version:
        One of its versions; None or ``latest`` means the latest proven one.

    Returns
    -------
    Path
        ``build/<image>/<version>``.

    Raises
    ------
    UsageError
        No such image or version is here; the message names those that are.
    KilnError
        The image has no proven version, or the version's manifest cannot be read.
    """
    found = find()
    if image not in found:
        hint = suggest(image, found, "images here") if found else f"bake it: kiln bake {image}"
        raise UsageError(f"no version of {image!r} is on this machine", hint)
    names = {listed.name: listed for listed in found[image]}
    if version in (None, versions.LATEST):
        chosen = next((listed for listed in names.values() if listed.latest), None)
        if chosen is None:
            newest = found[image][-1]
            raise KilnError(
                f"{image} has no proven version: its newest, {newest.name}, is {newest.verdict}",
                f"prove it: kiln prove {image}@{newest.name}",
            )
    elif version in names:
        chosen = names[version]
    else:
        raise UsageError(f"{image} has no version {version!r}", suggest(str(version), names, "versions"))
    versions.read(chosen.folder)  # tells why where it cannot be read
    return chosen.folder


def print_images(as_json: bool) -> None:
    """Print every version on this machine.

    Parameters
    ----------
    as_json:
        A list of objects for programs, instead of a table.
    """
    rows = [version for listed in find().values() for version in listed]
    if as_json:
        print(json.dumps([version.row() for version in rows], indent=1))
        return
    if not rows:
        print("no image has been baked here; bake one: kiln bake monai-label")
        return
    table = Table("image", "version", "created", "disk", "checks", "verdict", box=None, pad_edge=False)
    for version in rows:
        row, made = version.row(), version.manifest
        failed = f", {row['failed']} failed" if row["failed"] else ""
        table.add_row(
            version.image,
            version.name + (" (latest)" if version.latest else ""),
            f"{made.created:%Y-%m-%d %H:%M}" if made else "",
            size(made.disk.bytes) if made else "",
            f"{row['checks']}{failed}" if version.proof else "",
            f"[{_STYLES[version.verdict]}]{version.verdict}[/]",
        )
    _console().print(table)


def print_version(image: str, version: str | None, as_json: bool) -> None:
    """Print a version's manifest and proof.

    Parameters
    ----------
    image, version:
        As for :func:`resolve`; without a version and without a latest, the newest.
    as_json:
        The files as they are, for programs.

    Raises
    ------
    KilnError
        As :func:`resolve`.
    """
    if version is None and not any(listed.latest for listed in find().get(image, [])):
        # To look at a version is how one learns why it is not proven.
        version = next((listed.name for listed in reversed(find().get(image, []))), None)
    chosen = Version(resolve(image, version))
    made, proof = chosen.manifest, chosen.proof
    assert made is not None, "resolve has read it"
    if as_json:
        document = {
            "folder": str(chosen.folder),
            "latest": chosen.latest,
            "verdict": chosen.verdict,
            "manifest": made.model_dump(mode="json"),
            "proof": proof.model_dump(mode="json") if proof else None,
        }
        print(json.dumps(document, indent=1))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _described(chosen, made, proof):
        table.add_row(name, value)
    today = datetime.now(UTC).date()
    for name, value in _suits(made, proof, today):
        table.add_row(name, value)
    for check in proof.checks if proof else ():
        if check.outcome != "passed":
            table.add_row(_outcome(check, today), escape(f"{check.id}: {check.message}"))
    _console().print(table)


def _outcome(check: Check, day: date) -> str:
    """Write what came of a check; a waiver past its day is none."""
    if check.outcome == "failed":
        return "[red]failed[/]"
    return f"[yellow]{'not-for-stable' if check.keeps_from_stable(day) else check.outcome}[/]"


def _suits(made: Manifest, proof: Proof | None, day: date) -> list[tuple[str, str]]:
    """Return what each instance type that was asked for has, and whether the image suits it today."""
    found = []
    stack, table = compat.Stack.of(made.facts), compat.load()
    for name in proof.demand.instance_types if proof and proof.demand else ():
        verdicts = compat.judge(stack, Demand(instance_types=[name], waivers=[]), day)
        refused = [verdict.sentence for verdict in verdicts if verdict.outcome == "refused"]
        said = f"[red]refused[/]: {escape(refused[0])}" if refused else "[green]suits[/]"
        found.append(f"{table.instance(name) or name}: {said}")
    return [("" if number else "instances", line) for number, line in enumerate(found)]


def _described(chosen: Version, made: Manifest, proof: Proof | None) -> list[tuple[str, str]]:
    """Return what is worth telling of a version, line by line."""
    facts, commit = made.facts, made.git.commit or "none"
    counts = f"{len(facts.packages)} Debian packages, {len(facts.distributions)} Python distributions"
    lines = [
        ("image", f"{made.image}@{made.version}" + (" (latest)" if chosen.latest else "")),
        ("created", f"{made.created:%Y-%m-%d %H:%M:%S} UTC in {sum(made.seconds.values()):.0f} s"),
        ("verdict", f"[{_STYLES[chosen.verdict]}]{chosen.verdict}[/]"),
        ("git", commit + (", with changes" if made.git.dirty else "")),
        ("inputs", made.input_digest),
        ("root", f"{made.root.files} files, {size(made.root.bytes)}, {made.root.digest}"),
        (
            "disk",
            f"{chosen.folder / made.disk.file}, {size(made.disk.bytes)} of {size(made.disk.virtual_bytes)}",
        ),
        ("holds", counts),
    ]
    for name in ("debian", "kernel", "python", "monai_label", "torch", "cuda", "weights"):
        if (value := getattr(facts, name)) is not None:
            lines.append((name, str(value)))
    if facts.architectures:
        lines.append(("gpu code", " ".join(facts.architectures)))
    if facts.driver is not None:
        lines.append(("driver", f"{facts.driver.version}, {facts.driver.flavour} modules"))
    if facts.settings_schemas:
        lines.append(("settings", f"schema {', '.join(map(str, facts.settings_schemas))}"))
    lines.append(("roles", ", ".join(facts.roles)))
    if proof is not None:
        passed = sum(check.outcome != "failed" for check in proof.checks)
        lines.append(
            ("proof", f"{passed} of {len(proof.checks)} checks in {proof.seconds:.0f} s on {proof.machine}")
        )
    if proof is not None and (boot := proof.boot) is not None:
        ready = f", ready {boot.ready:.0f} s" if boot.ready is not None else ""
        lines.append(
            ("boot", f"{boot.accelerator}: ssh {boot.ssh:.0f} s, running {boot.running:.0f} s{ready}")
        )
    return lines


def size(count: float) -> str:
    """Write a number of bytes in decimal units, as disks are sold.

    Parameters
    ----------
    count:
        Bytes.

    Returns
    -------
    str
        Such as ``12 kB`` or ``3.45 GB``.
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _console() -> Console:
    # A pipe has no width: a version cut in two is of no use to grep.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=250)
