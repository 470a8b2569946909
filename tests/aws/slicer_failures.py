"""What AWS says no by on the way to an AppStream image and its fleet: how each comes about, and the answer.

``docs/appstream.md`` has the same failures for people, by the same names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kiln import paths
from kiln.config import Config
from kiln.errors import KilnError
from launch import appstream_image, builder_plan, fleet_plan
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.plan import Plan
from tests.aws import streaming
from tests.aws.builder_local import Local
from tests.aws.conftest import REGION
from tests.aws.streaming import FIRST, PLAYBOOK, Ground, name
from tests.emulator.handle import Emulator

DOCUMENT = paths.ROOT / "docs/appstream.md"

Way = Literal["import", "builder", "fleet"]


@dataclass
class World:
    """An account in which something is about to go wrong.

    Parameters
    ----------
    cloud, client, emulator, ground:
        The account.
    kiln_toml:
        The file; what is in it follows from the way.
    host:
        The builder.
    """

    cloud: Cloud
    client: Callable[..., Any]
    emulator: Emulator
    ground: Ground
    kiln_toml: Path
    host: Local
    appstream: str = ""
    target: str = ""
    builder: str = "prepared = true\n"
    playbook: str = PLAYBOOK

    def ami(self, **said: Any) -> None:
        """A version's AMI, as Packer leaves it, and the role of its import."""
        streaming.windows_ami(self.client, FIRST, **said)
        streaming.import_role(self.client)

    def registered(self, size: int = 30, **said: Any) -> None:
        """An AMI of the version with properties of its own."""
        ec2 = self.client("ec2")
        volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=size)["VolumeId"]
        snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        for _ in range(20):
            if ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed":
                break
        disk = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3"}}
        sound = {"Architecture": "x86_64", "BootMode": "uefi", "TpmSupport": "v2.0", "EnaSupport": True}
        given = {**sound, **said, "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": [disk]}
        ec2.register_image(
            Name=name(FIRST), VirtualizationType="hvm", **{k: v for k, v in given.items() if v is not None}
        )
        streaming.import_role(self.client)

    def fault(self, operation: str, code: str, *, after: int = 0, times: int = 50) -> None:
        """Let AppStream answer an operation with an error, however often it is asked."""
        rule = {"service": "appstream", "operation": operation, "fault": "error", "code": code}
        self.emulator.faults([{**rule, "after": after, "times": times}])

    def imported(self) -> None:
        """An AppStream image of the version, which the channel names."""
        self.ami()
        plan = Plan("test", "test")
        appstream_image.plan_import(plan, self.cloud, self.config("import"), "slicer", FIRST, REGION)
        carry_out(plan, self.cloud)
        streaming.promote(self.client, FIRST)

    def config(self, way: Way) -> Config:
        """kiln.toml for a way."""
        if way == "builder":
            return streaming.write_built(
                self.kiln_toml, self.ground, builder=self.builder, playbook=self.playbook
            )
        return streaming.write(self.kiln_toml, appstream=self.appstream, target=self.target)

    def plan(self, way: Way) -> Plan:
        """What the command of a way would do."""
        config = self.config(way)
        if way == "builder":
            return builder_plan.plan(self.cloud, config, "slicer", reach=self.host.reach)
        if way == "fleet":
            return fleet_plan.plan(self.cloud, config, "readers", None, True)
        made = Plan("kiln apply readers", "test")
        appstream_image.plan_import(made, self.cloud, config, "slicer", FIRST, REGION)
        return made

    def answers(self, way: Way) -> list[tuple[str, str]]:
        """What kiln says: the refusals of its plan, else the error that the plan ends with."""
        try:
            made = self.plan(way)
            if made.refusals:
                return [(each.what, each.hint) for each in made.refusals]
            carry_out(made, self.cloud)
        except KilnError as error:
            return [(error.what, error.hint)]
        return []

    def builders(self) -> list[str]:
        """Image builders that are there, and billed."""
        found = self.client("appstream").describe_image_builders()["ImageBuilders"]
        return [each["Name"] for each in found]


@dataclass(frozen=True)
class Failure:
    """One way in which it can fail.

    Parameters
    ----------
    name:
        As the table of ``docs/appstream.md`` calls it.
    way:
        Import, builder or fleet.
    arrange:
        Lets it come about.
    what, hint:
        Words of the two lines of the answer.
    """

    name: str
    way: Way
    arrange: Callable[[World], None]
    what: str
    hint: str


# ---- how each comes about


def _import_fails(world: World) -> None:
    world.ami(inside="Windows updates are pending")


def _validation_fails(world: World) -> None:
    world.appstream = f'import_role = "{streaming.ROLE}"\nvalidate_on = "GeneralPurpose.m7i.xlarge"\n'
    world.ami(inside="validation: 3D Slicer does not start")


def _appstream_fails(world: World) -> None:
    world.ami(inside="internal")


def _encrypted_by_default(world: World) -> None:
    world.client("ec2").enable_ebs_encryption_by_default()
    world.ami(encrypted=True)


def _untrusting_role(world: World) -> None:
    streaming.windows_ami(world.client, FIRST)
    streaming.import_role(world.client, "ec2.amazonaws.com")


def _powerless_role(world: World) -> None:
    streaming.windows_ami(world.client, FIRST)
    streaming.import_role(world.client, may=False)


def _other_windows(world: World) -> None:
    world.ami()
    ec2 = world.client("ec2")
    (image,) = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name(FIRST)]}])[
        "Images"
    ]
    ec2.create_tags(
        Resources=[image["ImageId"]], Tags=[{"Key": "kiln-test:os", "Value": "WINDOWS_SERVER_2019"}]
    )


def _suspended(world: World) -> None:
    world.ami()
    world.fault("CreateImportedImage", "InvalidAccountStatusException")


def _images_used_up(world: World) -> None:
    world.ami()
    world.emulator.settings(appstream_limits={"images": 0})


def _somebody_else_at_it(world: World) -> None:
    world.ami()
    # The first is the trial.
    world.fault("CreateImportedImage", "ConcurrentModificationException", after=1)


def _failed_image_in_use(world: World) -> None:
    _import_fails(world)
    world.answers("import")
    world.fault("DeleteImage", "ResourceInUseException")


def _graphics_builder(world: World) -> None:
    world.builder += 'instance_type = "stream.graphics.g4dn.xlarge"\n'


def _builders_used_up(world: World) -> None:
    world.emulator.settings(appstream_limits={"builders": 0})


def _builder_forbidden(world: World) -> None:
    world.fault("CreateImageBuilder", "OperationNotPermittedException")


def _stop_forbidden_once(world: World) -> None:
    world.host.tell(fails={"add-application": [1, "Name is not unique"]})
    world.fault("StopImageBuilder", "OperationNotPermittedException", times=1)


def _no_security_group(world: World) -> None:
    world.ground = replace(world.ground, security_group="sg-0123456789abcdef0")


def _unseeded(world: World) -> None:
    world.builder = ""


def _playbook_fails(world: World) -> None:
    world.playbook = PLAYBOOK.replace("{{ kiln_version }}", "{{ nobody }}")


def _file_missing(world: World) -> None:
    world.host.tell(fails={"add-application": [1, "File not found (absolute-app-path)"]})


def _unreachable(world: World) -> None:
    world.host.closed = 1000


def _snapshot_fails(world: World) -> None:
    world.host.tell(image_fails="The image builder was stopped.")


def _graphics_fleet(world: World) -> None:
    world.imported()
    streaming.put(world.client, world.ground, image=name(FIRST), instance_type="GeneralPurpose.m7i.xlarge")
    world.target = 'instance_type = "Accelerated.g4dn.xlarge"\n'


def _wrong_fleet(world: World) -> None:
    world.imported()
    streaming.put(world.client, world.ground)


def _fleet_in_use(world: World) -> None:
    _wrong_fleet(world)
    world.target = 'instance_type = "GeneralPurpose.m7i.xlarge"\n'
    world.fault("DisassociateFleet", "ResourceInUseException")


FAILURES: tuple[Failure, ...] = (
    Failure(
        "IMAGE_IMPORT_FAILURE", "import", _import_fails, "Windows updates are pending", "correct in the AMI"
    ),
    Failure(
        "VALIDATION_ERROR", "import", _validation_fails, "3D Slicer does not start", "correct in the AMI"
    ),
    Failure("INTERNAL_ERROR", "import", _appstream_fails, "INTERNAL_ERROR", "AWS Support"),
    Failure(
        "boot-mode",
        "import",
        lambda world: world.registered(BootMode="legacy-bios", TpmSupport=None),
        "boot mode is legacy-bios, and must be uefi",
        "TPM-Windows_Server",
    ),
    Failure(
        "tpm", "import", lambda world: world.registered(TpmSupport=None), "tpm is None", "TPM-Windows_Server"
    ),
    Failure(
        "volume-size",
        "import",
        lambda world: world.registered(size=501),
        "volume size is 501, and must be at most 500 GB",
        "volume_size",
    ),
    Failure(
        "encrypted", "import", lambda world: world.ami(encrypted=True), "encrypted is True", "encrypt = false"
    ),
    Failure("encrypted-by-default", "import", _encrypted_by_default, "encrypted is True", "kiln builder run"),
    Failure("role", "import", _untrusting_role, "does not trust", "iam:PassRole"),
    Failure(
        "InvalidRoleException", "import", _powerless_role, "InvalidRoleException", "ec2:ModifyImageAttribute"
    ),
    Failure(
        "IncompatibleImageException", "import", _other_windows, "Windows Server 2022 or 2025", "does not suit"
    ),
    Failure("InvalidAccountStatusException", "import", _suspended, "InvalidAccountStatus", "AWS Support"),
    Failure("LimitExceededException", "import", _images_used_up, "limit of 0 images", "Service Quotas"),
    Failure(
        "ConcurrentModificationException",
        "import",
        _somebody_else_at_it,
        "ConcurrentModificationException",
        "wait a few minutes",
    ),
    Failure("ResourceInUseException", "import", _failed_image_in_use, "ResourceInUse", "end its sessions"),
    Failure("quota-builder", "builder", _graphics_builder, "stream.graphics.g4dn.xlarge", "Service Quotas"),
    Failure("builders-used-up", "builder", _builders_used_up, "limit of 0 builders", "Service Quotas"),
    Failure(
        "OperationNotPermittedException",
        "builder",
        _builder_forbidden,
        "OperationNotPermitted",
        "AWS Support",
    ),
    Failure("name-not-unique", "builder", _stop_forbidden_once, "Name is not unique", "rename it"),
    Failure("SECURITY_GROUPS_NOT_FOUND", "builder", _no_security_group, "SECURITY_GROUPS", "kiln.toml"),
    Failure("base", "builder", _unseeded, "has no account for Ansible", "kiln builder seed slicer"),
    Failure("playbook", "builder", _playbook_fails, "nobody", "correct the playbook"),
    Failure("file-not-found", "builder", _file_missing, "File not found", "correct the path in kiln.toml"),
    Failure("unreachable", "builder", _unreachable, "did not answer", "reaches the builder's address"),
    Failure(
        "IMAGE_BUILDER_NOT_AVAILABLE", "builder", _snapshot_fails, "was stopped", "run the builder again"
    ),
    Failure("quota-fleet", "fleet", _graphics_fleet, "is 0: needed 2", "Service Quotas"),
    Failure("instance-type", "fleet", _wrong_fleet, "stream.standard.large", "Accelerated"),
    Failure("stack-in-use", "fleet", _fleet_in_use, "ResourceInUse", "sessions are open"),
)

_ROW = re.compile(r"^\| `([A-Za-z_-]+)` \|", re.MULTILINE)


def documented() -> list[str]:
    """Failures that the document's table has, by name."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return _ROW.findall(text.partition("## What AWS says no by")[2].partition("\n## ")[0])


def answered(failure: Failure, world: World) -> str:
    """Let a failure come about; returns what is wrong with the answer, empty where nothing is.

    Parameters
    ----------
    failure:
        Which.
    world:
        A fresh account.
    """
    failure.arrange(world)
    answers = world.answers(failure.way)
    if not any(failure.what in what and failure.hint in hint for what, hint in answers):
        return f"not answered by {failure.what!r} and {failure.hint!r}, but by {answers}"
    if long := [each for answer in answers for each in answer if "\n" in each or not each]:
        return f"not a line: {long[0]!r}"
    if left := world.builders():
        return f"left behind and billed: {', '.join(left)}"
    return ""
