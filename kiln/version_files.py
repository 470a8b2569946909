"""A version as it lies on this machine: its files, and whether they belong together."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from kiln import paths
from kiln.errors import KilnError, UsageError
from kiln.manifest import Disk, Manifest, Proof, sha256_file

_Model = TypeVar("_Model", Manifest, Proof)

LATEST = "latest"

PACKER = "packer-manifest.json"
"""What Packer's post-processor leaves where the image was baked on AWS."""


@dataclass(frozen=True)
class VersionFiles:
    """The folder of a version.

    Parameters
    ----------
    folder:
        ``build/<image>/<version>``.
    manifest:
        As bake wrote it.
    """

    folder: Path
    manifest: Manifest

    @cached_property
    def manifest_bytes(self) -> bytes:
        """``manifest.json`` to the byte."""
        return (self.folder / "manifest.json").read_bytes()

    @cached_property
    def manifest_digest(self) -> str:
        """What proofs, tags and records call the manifest by: its sha256."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    def bytes_of(self, name: str) -> bytes | None:
        """Return a file beside the manifest, None where there is none.

        Parameters
        ----------
        name:
            Its name, as in ``proof.json``.
        """
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    @property
    def disk(self) -> Path:
        """The disk that the manifest names; whether it is there is not looked at."""
        return self.folder / self.manifest.disk.file

    @property
    def from_aws(self) -> bool:
        """Whether Packer made an AMI of it, rather than a disk on this machine."""
        return self.manifest.inputs.destination == "aws"

    def proof(self) -> Proof | None:
        """Read the proof.

        Returns
        -------
        Proof or None
            None where there is none.

        Raises
        ------
        KilnError
            ``proof.json`` is none.
        """
        body = self.bytes_of("proof.json")
        return None if body is None else _parsed(Proof, body, self.folder / "proof.json", "prove it again")

    def unproven(self) -> tuple[str, str, str] | None:
        """Tell why the version must not leave this machine.

        Returns
        -------
        tuple of str or None
            Name of the rule, what is wrong and what to do, a line each; None for a version whose proof passed
            and speaks of just this manifest.

        Raises
        ------
        KilnError
            ``proof.json`` cannot be read.
        """
        name = f"{self.manifest.image}@{self.manifest.version}"
        again = f"prove it: kiln prove {name}"
        proof = self.proof()
        if proof is None:
            return "proof-missing", f"{name} has no proof", again
        if (proof.image, proof.version, proof.manifest_digest) != (
            self.manifest.image,
            self.manifest.version,
            self.manifest_digest,
        ):
            return "proof-stale", f"the proof of {name} is of another manifest.json", again
        failed = [check for check in proof.checks if check.outcome == "failed"]
        if proof.verdict != "passed" or failed:
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            first = f"{failed[0].id}: {failed[0].message}{more}" if failed else "no check is named"
            return "proof-refused", f"the proof of {name} was refused: {first}", "bake it anew without that"
        return None

    def damaged(self) -> tuple[str, str, str] | None:
        """Hold the disk against the manifest; reads all of it.

        Returns
        -------
        tuple of str or None
            As of :meth:`unproven`.
        """
        disk: Disk = self.manifest.disk
        again = f"bake it anew: kiln bake {self.manifest.image} --force"
        try:
            size = self.disk.stat().st_size
        except FileNotFoundError:
            return "disk-missing", f"{self.disk} is not there", again
        if size != disk.bytes or sha256_file(self.disk) != disk.sha256:
            return "disk-digest", f"{self.disk} is not the disk of manifest.json: its sha256 differs", again
        return None

    def packer_amis(self) -> dict[str, str]:
        """Read which AMIs Packer made, from the manifest of its post-processor.

        Returns
        -------
        dict of str to str
            Region → id of the AMI.

        Raises
        ------
        KilnError
            It is not there, cannot be read, or is of another version.
        """
        path = self.folder / PACKER
        again = f"bake it again: kiln bake {self.manifest.image} --on aws"
        body = self.bytes_of(PACKER)
        if body is None:
            raise KilnError(f"{path} is not there: which AMI Packer made is not known", again)
        try:
            data = json.loads(body)
            last = data.get("last_run_uuid")
            builds = [each for each in data["builds"] if each["builder_type"] == "amazon-ebs"]
            build = next(each for each in reversed(builds) if last in (None, each.get("packer_run_uuid")))
            version = build["custom_data"]["version"]
            pairs = [each.split(":", 1) for each in build["artifact_id"].split(",")]
            found = dict(pairs)
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise KilnError(f"{path} is no manifest of Packer's: {error!r}", again) from None
        if version != self.manifest.version:
            raise KilnError(f"{path} is of version {version}", again)
        return found


def find(image: str, version: str | None = None) -> VersionFiles:
    """Find a version on this machine.

    Parameters
    ----------
    image:
        As in kiln.toml.
    version:
        By default the latest proven.

    Returns
    -------
    VersionFiles
        Its manifest read; nothing else looked at.

    Raises
    ------
    UsageError
        It is not on this machine.
    KilnError
        Its manifest cannot be read, or is of something else.
    """
    folder = paths.build_dir() / image
    path = folder / (version or LATEST)
    if not path.is_dir():
        there = sorted((each.name for each in folder.glob("*Z-????????")), reverse=True)[:3]
        raise UsageError(
            f"this machine has no {image}@{version}" if version else f"this machine has no proven {image}",
            f"it has {', '.join(there)}" if there else f"bake it: kiln bake {image}",
        )
    path = path.resolve()
    manifest = read_manifest(path)
    if (manifest.image, manifest.version) != (image, path.name):
        raise KilnError(
            f"{path}/manifest.json is of {manifest.image}@{manifest.version}", "move the folder back"
        )
    return VersionFiles(path, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a version's folder.

    Parameters
    ----------
    folder:
        ``build/<image>/<version>``.

    Returns
    -------
    Manifest
        As bake wrote it.

    Raises
    ------
    KilnError
        There is none, or it is not one.
    """
    path = folder / "manifest.json"
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise KilnError(f"{folder} has no manifest.json", "it is no version; remove the folder") from None
    return _parsed(Manifest, body, path, "bake again with --force")


def _parsed(model: type[_Model], body: bytes, path: Path, hint: str) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise KilnError(f"{path} breaks the contract at {where}: {first['msg']}", hint) from None
