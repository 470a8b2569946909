"""The AMI that Packer made on AWS, from which a version is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launch import ami, names
from launch.plan import Refusal

BASE = "kiln:base"
"""Tag in which Packer notes the AMI that it began with."""


@dataclass(frozen=True)
class Source:
    """Packer's AMI.

    Parameters
    ----------
    region, ami:
        Where it is.
    image:
        As EC2 describes it; None where it is gone.
    """

    region: str
    ami: str
    image: dict[str, Any] | None

    @property
    def base(self) -> str:
        """The AMI that it was made from; its own id where that is not known any more."""
        return names.read((self.image or {}).get("Tags")).get(BASE, self.ami)

    def is_of(self, version: str) -> bool:
        """Tell whether it is there, and tagged by the bake of a version."""
        return names.read((self.image or {}).get("Tags")).get(names.VERSION) == version


def judge(source: Source, image: str, version: str, account: str, *, encrypt: bool) -> Iterator[Refusal]:
    """Tell why an AMI cannot be what is published.

    Parameters
    ----------
    source:
        Packer's AMI.
    image, version, account:
        What it must be of.
    encrypt:
        Whether what is published is to be encrypted.

    Yields
    ------
    Refusal
        One a reason.
    """
    where, again = f"{source.ami} in {source.region}", f"bake it again: kiln bake {image} --on aws"
    found = source.image
    if found is None:
        yield Refusal("ami-missing", f"{where}, which Packer made, is not there", again)
        return
    if found.get("OwnerId") != account:
        what = f"{where} is of account {found.get('OwnerId')}, and the credentials are of {account}"
        yield Refusal("ami-foreign", what, "sign in to the account that baked it")
    if not source.is_of(version):
        yield Refusal("ami-other", f"{where} is not tagged as {version}", again)
    if found["State"] != "available":
        yield Refusal("ami-state", f"{where} is {found['State']}", f"wait until it is available, or {again}")
    if found.get("BootMode") not in ami.BOOT_MODES:
        yield Refusal("ami-boot", f"{where} does not boot by UEFI", "bake from a base AMI that does")
    if found.get("EnaSupport") is not True:
        yield Refusal("ami-ena", f"{where} has no ENA", "bake from a base AMI that has")
    if not encrypt and ami.encrypted(found):
        what = f"{where} is encrypted, and encrypt = false is asked for"
        yield Refusal("ami-encrypted", what, "bake in an account that does not encrypt by default")
