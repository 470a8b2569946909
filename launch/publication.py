"""What is to be published, and what of it is there already: read before a plan, and read back after it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from kiln.config import Config, FleetTarget, Publish
from kiln.published import Published
from kiln.version_files import VersionFiles
from launch import ami, names, preflight, sharing, snapshot
from launch.cloud import Cloud
from launch.execute import LANES
from launch.packer_ami import Source
from launch.records import Records
from launch.trouble import told


@dataclass
class Place:
    """A region, as it is before the plan.

    Parameters
    ----------
    region:
        Its name.
    ground:
        What the preflight has found.
    image:
        The AMI, pending or available, as EC2 describes it; None where there is none yet.
    failed:
        AMIs of its name that came to nothing.
    foreign:
        AMIs of its name that are something else.
    shared, parts:
        Who may launch the AMI, and who may use each snapshot; nothing where it is not available yet.
    record:
        What an earlier run has written of it.
    """

    region: str
    ground: preflight.Ground
    image: dict[str, Any] | None = None
    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    shared: sharing.Shared | None = None
    parts: dict[str, sharing.Shared] = field(default_factory=dict)
    record: Published | None = None


class Subject:
    """A version on its way to AWS.

    Parameters
    ----------
    cloud:
        The account.
    config:
        kiln.toml.
    files:
        The version on this machine.
    """

    def __init__(self, cloud: Cloud, config: Config, files: VersionFiles) -> None:
        self.cloud = cloud
        self.config = config
        self.files = files
        self.image = files.manifest.image
        self.version = files.manifest.version
        self.publish: Publish = config.publication(self.image)
        self.home = self.publish.regions[0]
        self.records = Records(cloud, config)
        self.wanted = frozenset(self.publish.share_with)
        self._lock = threading.Lock()
        self._reference: set[int] | None = None

    @property
    def keep_others(self) -> bool:
        """Whether accounts that kiln.toml does not name stay: AppStream adds its own to what it imports."""
        targets = self.config.target.values()
        return any(isinstance(each, FleetTarget) and each.image == self.image for each in targets)

    @cached_property
    def source(self) -> Source | None:
        """Packer's AMI, in the first region if it has one there; None where the disk is on this machine."""
        if not self.files.from_aws:
            return None
        found = self.files.packer_amis()
        region = self.home if self.home in found else sorted(found)[0]
        with told(f"looking at {found[region]}"):
            return Source(region, found[region], ami.describe(self.cloud, region, found[region]))

    @cached_property
    def adopts(self) -> bool:
        """Whether Packer's AMI is as kiln.toml says: then it is published itself, else a copy of its disk."""
        source = self.source
        if source is None or source.image is None or source.region != self.home:
            return False
        if source.image.get("Name") != self.name:
            return False
        if not self.publish.encrypt:
            return not ami.encrypted(source.image)
        ground = preflight.look(self.cloud, self.home, self.publish, new=False)
        if not ami.encrypted(source.image) or ground.refusals:
            return False
        with told(f"looking at the snapshots of {source.ami}"):
            parts = self._described(self.home, ami.snapshots(source.image))
        return ground.key is None or all(each.get("KmsKeyId") == ground.key.arn for each in parts)

    @property
    def name(self) -> str:
        """Name of the AMIs, in every region."""
        return names.ami(self.config.project.name, self.image, self.version)

    @cached_property
    def tags(self) -> dict[str, str]:
        """Tags of the AMIs and the snapshots."""
        manifest = self.files.manifest
        base = self.config.select(self.image).base
        parent = self.source.base if self.source else f"{base}/{manifest.inputs.base_lock}"
        return {
            names.PROJECT: self.config.project.name,
            names.IMAGE: self.image,
            names.VERSION: self.version,
            names.INPUT_DIGEST: manifest.input_digest,
            names.MANIFEST_DIGEST: self.files.manifest_digest,
            names.PARENT: parent,
            names.RUN: self.cloud.run_id,
        }

    @property
    def description(self) -> str:
        """Of the AMIs, for people."""
        return f"{self.image} {self.version}, published by kiln"

    def record_key(self, region: str) -> str:
        """Return the key of a region's record."""
        return self.records.published_key(self.image, self.version, self.cloud.account, region)

    # ---- what is

    def places(self) -> list[Place]:
        """Look at every region, side by side.

        Returns
        -------
        list of Place
            In the order of kiln.toml.

        Raises
        ------
        KilnError
            Something could not be found out.
        """
        # Both are asked once, not by every thread.
        _ = self.adopts, self.tags, self.cloud.account
        with ThreadPoolExecutor(max_workers=min(LANES, len(self.publish.regions))) as pool:
            return list(pool.map(self._place, self.publish.regions))

    def _place(self, region: str) -> Place:
        with told(f"looking for {self.name} in {region}"):
            found = ami.find(self.cloud, region, [self.name])
        ours = [each for each in found if self._is_ours(region, each)]
        image = next((each for each in ours if not ami.lost(each)), None)
        place = Place(region, preflight.look(self.cloud, region, self.publish, new=image is None), image)
        place.failed = [each["ImageId"] for each in ours if ami.lost(each)]
        source = self.source.ami if self.source else None
        place.foreign = [each["ImageId"] for each in found if each not in ours and each["ImageId"] != source]
        place.record = self.records.read(self.record_key(region), Published)
        if image is not None and image["State"] == "available":
            with told(f"asking who may use {image['ImageId']}"):
                place.shared = sharing.of_image(self.cloud, region, image["ImageId"])
                place.parts = {
                    each: sharing.of_snapshot(self.cloud, region, each) for each in ami.snapshots(image)
                }
        return place

    def _is_ours(self, region: str, image: dict[str, Any]) -> bool:
        source = self.source
        adopted = (
            source is not None and self.adopts and (region, image["ImageId"]) == (source.region, source.ami)
        )
        return adopted or ami.belongs(image, self.tags)

    def _described(self, region: str, ids: Iterable[str]) -> list[dict[str, Any]]:
        answer = self.cloud.client("ec2", region).describe_snapshots(SnapshotIds=list(ids))
        return list(answer["Snapshots"])

    def here(self, region: str) -> dict[str, Any] | None:
        """Return the AMI of a region as it is now, None where there is none that will be of use."""
        found = ami.find(self.cloud, region, [self.name])
        ours = (each for each in found if self._is_ours(region, each) and not ami.lost(each))
        return next(ours, None)

    # ---- what should be

    def deprecate_at(self, image: dict[str, Any]) -> datetime | None:
        """Return when an AMI is to be called deprecated; None for what has passed: EC2 takes no such time."""
        wanted = ami.deprecation(image, self.publish.deprecate_after_days)
        return wanted if wanted > datetime.now(UTC) else None

    def flaws(self, region: str, key: str | None) -> list[str]:
        """Read a published AMI back, and tell all that is not as it should be.

        Parameters
        ----------
        region:
            Where.
        key:
            ARN of the key that its snapshots must have; None for any, or where nothing is encrypted.

        Returns
        -------
        list of str
            Empty when all is well.
        """
        image = self.here(region)
        if image is None:
            return [f"{self.name} is not there"]
        shared = sharing.of_image(self.cloud, region, image["ImageId"])
        wanted_end = self.deprecate_at(image)
        judged = {
            f"it is {image['State']}": image["State"] == "available",
            f"it boots by {image.get('BootMode')}": image.get("BootMode") in ami.BOOT_MODES,
            "it lets IMDSv1 in": image.get("ImdsSupport") == "v2.0",
            "it has no ENA": image.get("EnaSupport") is True,
            "its tags are not those of the version": self._tagged(image),
            "it is public": not ami.is_public(image) and not shared.public,
            "an account of share_with may not launch it": self.wanted <= shared.accounts,
            "it has no date of deprecation": wanted_end in (None, ami.deprecated_at(image)),
        }
        parts = self._described(region, ami.snapshots(image))
        for part in parts:
            at, encrypted = part["SnapshotId"], bool(part["Encrypted"])
            who = sharing.of_snapshot(self.cloud, region, at)
            judged |= {
                f"{at} is {'' if encrypted else 'not '}encrypted": encrypted == self.publish.encrypt,
                f"{at} has the key {part.get('KmsKeyId')}": key is None or part.get("KmsKeyId") == key,
                f"{at} is public": not who.public,
                f"an account of share_with may not use {at}": self.wanted <= who.accounts,
                f"the tags of {at} are not those of the version": self._tagged(part),
            }
        if not parts:
            judged["it has no snapshot"] = False
        return [what for what, well in judged.items() if not well]

    def _tagged(self, thing: dict[str, Any]) -> bool:
        return ami.belongs(thing, self.tags) and set(self.tags) <= set(names.read(thing.get("Tags")))

    def differs(self, region: str) -> str | None:
        """Hold the blocks of a region's snapshot against those of the first region's.

        EBS lists which blocks hold something. What they hold could only be compared by reading them.

        Parameters
        ----------
        region:
            A region that has a copy.

        Returns
        -------
        str or None
            What differs; None when nothing does.
        """
        copy = set(snapshot.blocks(self.cloud, region, self._root(region)))
        with self._lock:
            if self._reference is None:
                self._reference = set(snapshot.blocks(self.cloud, self.home, self._root(self.home)))
        if missing := sorted(self._reference - copy):
            return f"{len(missing)} blocks are missing, the first is {missing[0]}"
        return None

    def _root(self, region: str) -> str:
        image = self.here(region)
        assert image is not None, region
        return ami.snapshots(image)[0]
