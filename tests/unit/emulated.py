"""An emulator for the tests of what it does over time: a server, and a group in it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3

from tests.emulator.handle import Process

ACCOUNT = "111122223333"
OTHER = "222233334444"
REGION = "us-east-1"
GROUP = "kiln-annotators"
OVER = ("Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed")


@functools.cache
def connect(endpoint: str, service: str, account: str, region: str) -> Any:
    """A client; made once, since making one takes longer than what it asks."""
    return boto3.client(  # type: ignore[call-overload]
        service,
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=f"AKIAKILN{account}",
        aws_secret_access_key="secret",
    )


@dataclass
class World:
    """A server that was emptied, and clients of it.

    Parameters
    ----------
    server:
        Its process.
    """

    server: Process
    template: str = ""
    subnets: list[str] = field(default_factory=list)
    made: int = 0

    def client(self, service: str, account: str = ACCOUNT, region: str = REGION) -> Any:
        """A client of one account."""
        return connect(self.server.endpoint, service, account, region)

    @property
    def scaling(self) -> Any:
        """A client of Auto Scaling."""
        return self.client("autoscaling")

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.server.admin("advance", seconds=seconds)

    # -- images and templates

    def ami(self, health: str = "", key: str = "", **changes: Any) -> str:
        """Register an AMI; ``health`` is what becomes of its instances."""
        ec2, self.made = self.client("ec2"), self.made + 1
        encrypted = {"Encrypted": True, "KmsKeyId": key} if key else {}
        volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8, **encrypted)["VolumeId"]
        snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        while ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] != "completed":
            pass
        given = {
            "Name": f"kiln-{self.made}",
            "Architecture": "x86_64",
            "VirtualizationType": "hvm",
            "RootDeviceName": "/dev/xvda",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        }
        image = ec2.register_image(**{**given, **changes})["ImageId"]
        while ec2.describe_images(ImageIds=[image])["Images"][0]["State"] != "available":
            pass
        if health:
            self.tag(image, health)
        return str(image)

    def tag(self, resource: str, health: str) -> None:
        """Say how healthy an AMI's instances are, or an instance is."""
        tags = [{"Key": "kiln-test:health", "Value": health}]
        self.client("ec2").create_tags(Resources=[resource], Tags=tags)

    def version(self, image: str, **data: Any) -> str:
        """Make a version of the group's launch template; the first one makes the template."""
        ec2, given = self.client("ec2"), {"ImageId": image, "InstanceType": "g5.xlarge", **data}
        if not self.template:
            made = ec2.create_launch_template(LaunchTemplateName=GROUP, LaunchTemplateData=given)
            self.template = made["LaunchTemplate"]["LaunchTemplateId"]
            return "1"
        made = ec2.create_launch_template_version(LaunchTemplateId=self.template, LaunchTemplateData=given)
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    # -- the group

    def group(self, capacity: int = 4, version: str = "1", **given: Any) -> None:
        """Make the group, in service."""
        if not self.template:
            self.version(self.ami())
        self.subnets = [each["SubnetId"] for each in self.client("ec2").describe_subnets()["Subnets"]][:2]
        template = {"LaunchTemplateId": self.template, "Version": version}
        source = {} if "MixedInstancesPolicy" in given else {"LaunchTemplate": template}
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName=GROUP,
            **{
                "MinSize": 0,
                "MaxSize": 20,
                "DesiredCapacity": capacity,
                "VPCZoneIdentifier": ",".join(self.subnets),
                "HealthCheckGracePeriod": 30,
                **source,
                **given,
            },
        )
        self.advance(30)

    def described(self) -> dict[str, Any]:
        """The group."""
        found = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])
        group: dict[str, Any] = found["AutoScalingGroups"][0]
        return group

    def instances(self) -> list[dict[str, Any]]:
        """The group's instances."""
        found: list[dict[str, Any]] = self.described()["Instances"]
        return found

    def states(self) -> list[str]:
        """Lifecycle states of the instances, sorted."""
        return sorted(each["LifecycleState"] for each in self.instances())

    def versions(self) -> list[str]:
        """Versions of the template that the instances in service were launched with, sorted."""
        found = [each for each in self.instances() if each["LifecycleState"] == "InService"]
        return sorted(each["LaunchTemplate"]["Version"] for each in found)

    def activities(self) -> list[dict[str, Any]]:
        """What the group did, the newest first."""
        found: list[dict[str, Any]] = self.scaling.describe_scaling_activities(AutoScalingGroupName=GROUP)[
            "Activities"
        ]
        return found

    # -- refreshes

    def refresh(self, version: str | None = "2", **preferences: Any) -> str:
        """Start a refresh, by default to version 2, launching before ending, with a minute of warm-up."""
        given: dict[str, Any] = {
            "MinHealthyPercentage": 100,
            "MaxHealthyPercentage": 200,
            "InstanceWarmup": 60,
            **preferences,
        }
        wanted = {"LaunchTemplate": {"LaunchTemplateId": self.template, "Version": version}}
        desired = {"DesiredConfiguration": wanted} if version else {}
        given = {key: value for key, value in given.items() if value is not None}
        started = self.scaling.start_instance_refresh(
            AutoScalingGroupName=GROUP, Preferences=given, **desired
        )
        return str(started["InstanceRefreshId"])

    def look(self) -> dict[str, Any]:
        """The newest refresh."""
        found = self.scaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"]
        refresh: dict[str, Any] = found[0]
        return refresh

    def follow(self, most: int = 600) -> list[dict[str, Any]]:
        """Ask for the newest refresh until it is over; every answer."""
        seen = []
        for _ in range(most):
            seen.append(self.look())
            if seen[-1]["Status"] in OVER:
                return seen
        raise AssertionError(f"not over after {most} answers: {seen[-1]}")


@contextmanager
def serve() -> Iterator[Process]:
    """A server for a module of tests."""
    with Process() as process:
        yield process
