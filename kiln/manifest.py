"""The contract: what a bake leaves for every later station (house plan, The contract)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION_PATTERN = r"^\d{8}T\d{6}Z-[0-9a-f]{8}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"


class Strict(BaseModel):
    """A model that refuses unknown keys and never changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Git(Strict):
    """The checkout that baked, a fact beside the input digest."""

    commit: str | None = Field(description="commit of the checkout, null outside of git")
    dirty: bool = Field(description="whether tracked files differed from that commit")


class Inputs(Strict):
    """Everything that the input digest covers."""

    destination: Literal["local", "aws"] = Field(description="where the image was baked")
    files: dict[str, str] = Field(description="path in the checkout → sha256")
    variables: dict[str, object] = Field(description="variables of the playbook as resolved")
    base_lock: str = Field(
        pattern=SHA256_PATTERN,
        description="sha256 over the packages in base.lock, without the digests of the Release files",
    )
    tools: dict[str, str] = Field(description="tool → version")


class Facts(Strict):
    """Read from the finished root, never from the inputs."""

    kernel: str = Field(description="the one kernel release under /lib/modules")
    driver: str | None = Field(description="NVIDIA driver version, null where there is none")
    cuda: str | None = Field(description="CUDA version that torch was built for, null without torch")
    torch: str | None = Field(description="torch version, null without torch")
    monai_label: str | None = Field(description="MONAI Label version, null where it is not installed")
    python: str = Field(description="version of the distribution's python3")
    debian: str = Field(description="content of /etc/debian_version")
    roles: list[str] = Field(description="Ansible roles of the playbook, in order")
    packages: dict[str, str] = Field(description="Debian package → version")
    distributions: dict[str, str] = Field(description="Python distribution → version")
    settings_schemas: list[int] = Field(description="schemas of the settings document that the image reads")
    weights: Literal["pinned", "random", "test"] | None = Field(description="origin of the models' weights")
    slicer: Literal["real", "stand-in"] | None = Field(
        description="origin of 3D Slicer, null on a server image"
    )


class Root(Strict):
    """The sealed root folder, from which the disk is made byte by byte."""

    digest: str = Field(pattern=SHA256_PATTERN, description="sha256 over the sorted listing of the tree")
    files: int = Field(description="number of entries")
    bytes: int = Field(description="sum of the sizes of the regular files")


class Disk(Strict):
    """The bootable disk."""

    file: str = Field(description="name beside the manifest")
    format: Literal["qcow2"] = Field(description="container format")
    sha256: str = Field(pattern=SHA256_PATTERN, description="digest of the file")
    bytes: int = Field(description="size of the file")
    virtual_bytes: int = Field(description="size of the disk that a guest sees")
    root_uuid: str = Field(description="PARTUUID of the root partition")


class Manifest(Strict):
    """``manifest.json``: written once by bake and never changed."""

    contract: Literal[1] = Field(description="version of this contract")
    image: str = Field(description="name of the image in kiln.toml")
    version: str = Field(
        pattern=VERSION_PATTERN, description="time of the bake and start of the input digest"
    )
    created: datetime = Field(description="start of the bake, UTC")
    input_digest: str = Field(pattern=SHA256_PATTERN, description="sha256 over the inputs")
    inputs: Inputs = Field(description="what went in")
    git: Git = Field(description="the checkout that baked")
    facts: Facts = Field(description="what came out")
    root: Root = Field(description="the sealed root")
    disk: Disk = Field(description="the disk")
    seconds: dict[str, float] = Field(description="stage of the bake → seconds")


class Check(Strict):
    """One check of a proof. A check that could not run has failed."""

    id: str = Field(description="stage and test, as pytest names it")
    stage: Literal["files", "static", "boot", "live", "client"] = Field(description="when it runs")
    outcome: Literal["passed", "failed"] = Field(description="what came of it")
    message: str = Field(default="", description="why it failed, one line")
    seconds: float = Field(description="time it took")


class Boot(Strict):
    """Times of the proof's boot in seconds from the start of QEMU."""

    accelerator: Literal["kvm", "tcg"] = Field(description="how the guest's code ran")
    ssh: float = Field(description="first ssh command answered")
    running: float = Field(description="systemd reported running")
    ready: float | None = Field(description="/info/ answered 200, null for an image without a server")


class Proof(Strict):
    """``proof.json``: what was checked on exactly the bytes that the manifest names."""

    contract: Literal[1] = Field(description="version of this contract")
    image: str = Field(description="as in the manifest")
    version: str = Field(pattern=VERSION_PATTERN, description="as in the manifest")
    manifest_digest: str = Field(pattern=SHA256_PATTERN, description="sha256 of manifest.json")
    checks_digest: str = Field(pattern=SHA256_PATTERN, description="sha256 over the files of the checks")
    started: datetime = Field(description="start of the proof, UTC")
    seconds: float = Field(description="length of the proof")
    machine: str = Field(description="cores, memory and accelerator of the proving machine")
    verdict: Literal["passed", "refused"] = Field(description="passed only if every check passed")
    boot: Boot | None = Field(description="null where the proof ended before or in the boot")
    checks: list[Check] = Field(description="every check, in the order of the run")


def sha256_file(path: Path) -> str:
    """Digest of a file as lower-case hexadecimal.

    Parameters
    ----------
    path:
        A file of any size; it is read in blocks.

    Returns
    -------
    str
        64 digits.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


SCHEMAS: dict[str, type[Strict]] = {"manifest": Manifest, "proof": Proof}
"""Models whose JSON Schema is committed as ``kiln/schemas/<name>.schema.json``."""
