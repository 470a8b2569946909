"""An account with a fleet, a stack and Windows AMIs: what the tests of AppStream stand on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln import config as configuration
from kiln.config import Config
from tests.aws.conftest import ACCOUNT, BUCKET, KILN_TOML, REGION

Clients = Callable[..., Any]

NATIVE = "AppStream-WinServer2022-06-18-2026"
"""An image of AWS's own; so is the next, with another system."""

NATIVE_2025 = "AppStream-WinServer2025-06-18-2026"

FIRST = "20260102T030405Z-01234567"
SECOND = "20260203T040506Z-89abcdef"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/kiln-appstream-import"

PLAYBOOK = """---
- name: Slicer, as far as a test needs one
  hosts: all
  gather_facts: false
  tasks:
    - name: Leave a trace
      ansible.builtin.copy:
        content: "{{ kiln_version }}"
        dest: "{{ trace }}"
        mode: "0644"
"""


@dataclass(frozen=True)
class Ground:
    """What an account has before: two subnets, a security group, the bucket of the records."""

    subnets: tuple[str, ...]
    security_group: str


def ground(client: Clients) -> Ground:
    """Make it: the part of ``seeded`` that a fleet stands on, since each request costs a test its time."""
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnets = tuple(
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{n}.0/24")["Subnet"]["SubnetId"] for n in range(2)
    )
    group: str = ec2.create_security_group(GroupName="kiln", Description="kiln", VpcId=vpc)["GroupId"]
    client("s3").create_bucket(Bucket=BUCKET)
    return Ground(subnets, group)


def name(version: str) -> str:
    """Name of the AMI and of the AppStream image of a version."""
    return f"kiln-slicer-{version}"


def write(path: Path, *, appstream: str = "", target: str = "", playbook: Path | None = None) -> Config:
    """Write a kiln.toml whose slicer is an image of AppStream, and read it.

    Parameters
    ----------
    path:
        Where.
    appstream:
        What stands below ``[image.slicer.appstream]``, by default the role of an import.
    target:
        More keys of ``[target.readers]``.
    playbook:
        Of the image.
    """
    said = appstream or f'import_role = "{ROLE}"\n'
    text = KILN_TOML.replace("[target.annotators]", f"[image.slicer.appstream]\n{said}\n[target.annotators]")
    text = text.replace('stack = "kiln-readers"\n', f'stack = "kiln-readers"\n{target}\n')
    if playbook is not None:
        before, _, after = text.partition("[image.slicer]\n")
        line, _, rest = after.partition("\n")
        assert line.startswith("playbook")
        text = f'{before}[image.slicer]\nplaybook = "{playbook}"\n{rest}'
    path.write_text(text)
    return configuration.load(path)


def write_built(
    kiln_toml: Path, ground: Ground, *, builder: str = "prepared = true\n", playbook: str = PLAYBOOK
) -> Config:
    """Write a kiln.toml whose slicer is made on an image builder, which is a folder of this machine.

    Parameters
    ----------
    kiln_toml:
        Where; the playbook and what it names lie beside it.
    ground:
        What the account has.
    builder:
        More keys of ``[image.slicer.appstream.builder]``.
    playbook:
        What is run on it.
    """
    folder = kiln_toml.parent
    (folder / "slicer.yml").write_text(playbook)
    (folder / "Slicer").write_text("#!/bin/sh\n")
    said = f"""display_name = "3D Slicer"
[[image.slicer.appstream.applications]]
name = "slicer"
path = "{folder / "Slicer"}"
display_name = "3D Slicer"
launch_parameters = "--no-splash"
[image.slicer.appstream.builder]
base = "{NATIVE}"
subnet = "{ground.subnets[0]}"
security_groups = ["{ground.security_group}"]
connect = "ssh"
secret = "env:KILN_TEST_SECRET"
{builder}"""
    return write(kiln_toml, appstream=said, playbook=folder / "slicer.yml")


def import_role(client: Clients, service: str = "appstream.amazonaws.com", *, may: bool = True) -> str:
    """Make the role by which AppStream reads an AMI."""
    iam = client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn: str = iam.create_role(
        RoleName="kiln-appstream-import", AssumeRolePolicyDocument=json.dumps(document)
    )["Role"]["Arn"]
    actions = ["ec2:ModifyImageAttribute", "ec2:DescribeImages"] if may else ["ec2:DescribeImages"]
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName="kiln-appstream-import", PolicyName="import", PolicyDocument=policy)
    return arn


def windows_ami(client: Clients, version: str, *, encrypted: bool = False, inside: str = "") -> str:
    """Put an AMI of a version into the account, as Packer leaves it.

    Parameters
    ----------
    client:
        Makes clients.
    version:
        Of the slicer image.
    encrypted:
        Whether its volume is.
    inside:
        What an import stumbles over; see ``tests/emulator/appstream/imports.py``.
    """
    ec2 = client("ec2")
    public = ec2.describe_images(Filters=[{"Name": "name", "Values": ["TPM-Windows_Server-2022*"]}])[
        "Images"
    ][0]
    made: str = ec2.copy_image(
        SourceImageId=public["ImageId"], SourceRegion=REGION, Name=name(version), Encrypted=encrypted
    )["ImageId"]
    for _ in range(20):
        if ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available":
            break
    tags = {"kiln:project": "kiln", "kiln:image": "slicer", "kiln:version": version}
    tags |= {"kiln-test:import": inside} if inside else {}
    ec2.create_tags(Resources=[made], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    return made


def promote(client: Clients, version: str) -> None:
    """Let the channel name a version."""
    client("ssm").put_parameter(
        Name="/kiln/slicer/stable", Value=name(version), Type="String", DataType="text", Overwrite=True
    )


def state(client: Clients, fleet: str) -> dict[str, Any]:
    """A fleet as AppStream describes it."""
    found: dict[str, Any] = client("appstream").describe_fleets(Names=[fleet])["Fleets"][0]
    return found


def reach(client: Clients, fleet: str, wanted: str) -> dict[str, Any]:
    """Look at a fleet until it is in a state."""
    for _ in range(200):
        found = state(client, fleet)
        if found["State"] == wanted:
            return found
    raise AssertionError(f"{fleet} does not become {wanted}")


@dataclass(frozen=True)
class Streaming:
    """What :func:`put` has put into the account."""

    fleet: str
    stack: str


def put(
    client: Clients,
    there: Ground,
    *,
    image: str = NATIVE,
    instance_type: str = "stream.standard.large",
    running: bool = True,
) -> Streaming:
    """Make a fleet of two instances and the stack that shows it."""
    appstream = client("appstream")
    appstream.create_fleet(
        Name="kiln-readers",
        ImageName=image,
        InstanceType=instance_type,
        FleetType="ON_DEMAND",
        ComputeCapacity={"DesiredInstances": 2},
        VpcConfig={"SubnetIds": list(there.subnets), "SecurityGroupIds": [there.security_group]},
        DisplayName="Readers",
        MaxUserDurationInSeconds=4 * 3600,
        IdleDisconnectTimeoutInSeconds=900,
        Tags={"team": "imaging"},
    )
    appstream.create_stack(Name="kiln-readers")
    appstream.associate_fleet(FleetName="kiln-readers", StackName="kiln-readers")
    if running:
        appstream.start_fleet(Name="kiln-readers")
        reach(client, "kiln-readers", "RUNNING")
    return Streaming("kiln-readers", "kiln-readers")


def sent(emulator: Any, since: int, service: str = "appstream") -> list[str]:
    """Operations of a service that changed something, in order, from a request on."""
    return [each["operation"] for each in emulator.mutating(since) if each["service"] == service]
