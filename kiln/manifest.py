"""The contract: what a bake leaves for every later station (house plan, The contract)."""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION_PATTERN = r"^\d{8}T\d{6}Z-[0-9a-f]{8}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
DOTTED_PATTERN = r"^\d+(\.\d+)+$"


class Strict(BaseModel):
    """A model that refuses unknown keys and never changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Git(Strict):
    """The checkout that baked, a fact beside the input digest."""

    commit: str | None = Field(description="commit of the checkout, null outside of git")
    dirty: bool = Field(description="whether tracked files differed from that commit")


class Inputs(Strict):
    """Everything that the input digest covers."""

    destination: Literal["local", "aws", "builder"] = Field(
        description="where the image was baked; builder is AppStream's image builder"
    )
    files: dict[str, str] = Field(description="path in the checkout → sha256")
    variables: dict[str, object] = Field(description="variables of the playbook as resolved")
    base_lock: str = Field(
        pattern=SHA256_PATTERN,
        description="sha256 over the packages in base.lock, without the digests of the Release files; on a"
        " builder over the name of the AppStream image that it started from",
    )
    tools: dict[str, str] = Field(description="tool → version")

    def digest(self) -> str:
        """Return the input digest: sha256 over all of it, in hexadecimal."""
        body = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()


class Module(Strict):
    """A kernel module of NVIDIA's, as its .modinfo tells."""

    name: str = Field(description="name without the distribution's suffix: nvidia, nvidia-uvm and so on")
    version: str = Field(pattern=DOTTED_PATTERN, description="driver version that it belongs to")
    kernel: str = Field(
        min_length=1, description="kernel release that it was compiled for, the start of its vermagic"
    )
    processor: str = Field(description="processor that it was compiled for, as Debian calls it")


class Driver(Strict):
    """NVIDIA's driver, its kernel modules and its libraries, read from their files."""

    version: str = Field(pattern=DOTTED_PATTERN, description="version of the module nvidia")
    flavour: Literal["open", "proprietary"] = Field(description="NVIDIA's two kinds of kernel modules")
    modules: list[Module] = Field(description="every kernel module of the driver")
    libraries: dict[str, list[str]] = Field(
        description="library of the driver → versions in the names of its files; empty where it is missing"
    )
    firmware: dict[str, bool] = Field(
        description="firmware that the module nvidia names → whether it is there"
    )
    fabric_manager: str | None = Field(description="version of NVIDIA's fabric manager, null without it")


class Facts(Strict):
    """Read from the finished root, never from the inputs."""

    kernel: str | None = Field(
        description="the one kernel release under /lib/modules; on a builder what runs"
    )
    driver: Driver | None = Field(description="NVIDIA's driver, null where there is none")
    cuda: str | None = Field(description="CUDA version that torch was built for, null without torch")
    torch: str | None = Field(description="torch version, null without torch")
    architectures: list[str] = Field(
        default_factory=list,
        description="GPU code that torch brings: sm_ for one compute capability, compute_ for PTX",
    )
    monai_label: str | None = Field(description="MONAI Label version, null where it is not installed")
    python: str | None = Field(description="version of the distribution's python3, null without one")
    debian: str | None = Field(description="content of /etc/debian_version, null on another system")
    roles: list[str] = Field(description="Ansible roles of the playbook, in order")
    packages: dict[str, str] = Field(
        description="Debian package → version; on a builder package of its system, or installed program"
    )
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


class Built(Strict):
    """What every ``manifest.json`` says: written once, and never changed."""

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
    seconds: dict[str, float] = Field(description="stage of the bake → seconds")

    @property
    def root_bytes(self) -> int | None:
        """Sum of the sizes of the files, None where nobody could see the root."""
        return None


class Manifest(Built):
    """``manifest.json`` of an image that a bake has made, here or on AWS."""

    root: Root = Field(description="the sealed root")
    disk: Disk = Field(description="the disk")

    @property
    def root_bytes(self) -> int:
        """Sum of the sizes of the files."""
        return self.root.bytes


class BuilderManifest(Built):
    """``manifest.json`` of an image that an image builder of AppStream became: nobody ever sees its disk."""


def model_of(body: bytes) -> type[Manifest] | type[BuilderManifest]:
    """Return the model of a ``manifest.json``, by its destination.

    Parameters
    ----------
    body:
        What the file says; a broken one is of the usual model, which tells what is wrong with it.
    """
    try:
        builder = json.loads(body)["inputs"]["destination"] == "builder"
    except (ValueError, LookupError, TypeError):
        builder = False
    return BuilderManifest if builder else Manifest


class Waiver(Strict):
    """A refusal that kiln.toml accepts for a while."""

    check: str = Field(description="name of the rule that refuses")
    reason: str = Field(description="why it is accepted")
    until: date = Field(description="last day on which it counts")


class Demand(Strict):
    """What kiln.toml asked of an image when it was proven."""

    instance_types: list[str] = Field(description="EC2 instance types that the image must suit")
    waivers: list[Waiver] = Field(description="refusals that are accepted, also those past their day")


class Check(Strict):
    """One check of a proof. A check that could not run has failed."""

    id: str = Field(description="stage and test, as pytest names it")
    stage: Literal["files", "static", "boot", "live", "client"] = Field(description="when it runs")
    outcome: Literal["passed", "failed", "not-for-stable", "waived"] = Field(
        description="what came of it; not-for-stable and waived refuse no proof: the channel stable refuses"
        " the first always and the second after the waiver's last day"
    )
    message: str = Field(
        default="", description="why it did not simply pass, or what is to be known; one line"
    )
    waiver: Waiver | None = Field(default=None, description="what accepts a waived refusal, null otherwise")
    seconds: float = Field(description="time it took")

    def keeps_from_stable(self, day: date) -> bool:
        """Tell whether the channel ``stable`` refuses an image for this check.

        Parameters
        ----------
        day:
            The day on which it is asked: a waiver counts to the end of its last.

        Returns
        -------
        bool
            Also true for what has failed.
        """
        if self.outcome == "waived":
            return self.waiver is None or day > self.waiver.until
        return self.outcome != "passed"


class Boot(Strict):
    """Times of the proof's boot in seconds from the start of QEMU, or from the request for an instance."""

    accelerator: Literal["kvm", "tcg", "ec2"] = Field(
        description="how the guest's code ran; ec2 is an instance of an AMI"
    )
    ssh: float = Field(description="first ssh command answered")
    running: float = Field(description="systemd reported running")
    ready: float | None = Field(
        description="/readyz answered 200, /info/ before there was a gateway, null without a server"
    )


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
    verdict: Literal["passed", "refused"] = Field(description="passed only if no check failed")
    demand: Demand | None = Field(
        description="what the driver was judged against, null for an image without one"
    )
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


SCHEMAS: dict[str, type[Strict]] = {
    "manifest": Manifest,
    "builder-manifest": BuilderManifest,
    "proof": Proof,
}
"""Models whose JSON Schema is committed as ``kiln/schemas/<name>.schema.json``."""
