"""``published/<account>-<region>.json``: what became of a version in one account and region of AWS."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from kiln.manifest import SHA256_PATTERN, VERSION_PATTERN, Strict


class Published(Strict):
    """Written once the image was read back and is as it should be. Who may use it can change later."""

    contract: Literal[1] = Field(description="version of this contract")
    image: str = Field(description="as in the manifest")
    version: str = Field(pattern=VERSION_PATTERN, description="as in the manifest")
    manifest_digest: str = Field(pattern=SHA256_PATTERN, description="sha256 of manifest.json")
    account: str = Field(pattern=r"^\d{12}$", description="account that owns the AMI")
    region: str = Field(description="region of the AMI")
    ami: str = Field(pattern=r"^ami-[0-9a-f]+$", description="id of the AMI")
    name: str = Field(description="name of the AMI, unique in account and region")
    snapshots: list[str] = Field(min_length=1, description="its snapshots, the root's first")
    encrypted: bool = Field(description="whether the snapshots are encrypted")
    kms_key: str | None = Field(description="ARN of the key, null where nothing is encrypted")
    boot_mode: Literal["uefi", "uefi-preferred"] = Field(description="how EC2 boots it")
    made_by: Literal["ebs-direct", "amazon-ebs"] = Field(
        description="upload of the local disk, or Packer's builder instance"
    )
    copied_from: str | None = Field(description="region of the AMI that it is a copy of, null for the first")
    run: str = Field(description="run that published it, as in the tag kiln:run")
    time: datetime = Field(description="when it was read back, UTC")
