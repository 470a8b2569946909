"""An instance of an AMI for as long as it is needed: key, group and instance, gone as a whole at the end.

What a killed run left is found by its tag and its names, and is ended before another is started.
"""

from __future__ import annotations

import ipaddress
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from kiln.errors import KilnError, UsageError
from kiln.remote import Remote
from launch import names, pages
from launch.cloud import Cloud
from launch.plan import Request, Say, requests
from launch.trouble import code, told
from launch.until import until

SSH_PORT = 22

WHERE_AM_I = "https://checkip.amazonaws.com/"
"""AWS's own answer to where we come from."""

LOOKS = 80
"""How often we look for an instance that starts or ends: 20 minutes at 15 s each; an EBS volume that loads
slowly does not keep an instance from running."""

DOWN = ("TerminateInstances", "DeleteKeyPair", "DeleteSecurityGroup")

LIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]

HINTS = {
    "VcpuLimitExceeded": "raise the quota of vCPUs of these instances, or name another --instance-type",
    "InsufficientInstanceCapacity": "AWS has none of this type there now: name another --subnet or type",
    "Unsupported": "name another --instance-type or a --subnet in a zone that has it",
    "InvalidAMIID.NotFound": "name an AMI of this region (--region), or one that is shared with the account",
    "InvalidAMIID.Malformed": "an AMI's id reads like ami-0123456789abcdef0",
    "VPCIdNotSpecified": "the account has no default VPC: name a --subnet",
    "MissingInput": "the account has no default VPC: name a --subnet",
    "InvalidSubnetID.NotFound": "name a subnet of this region",
}


@dataclass(frozen=True)
class Wish:
    """Which instance is wanted.

    Parameters
    ----------
    ami:
        Its AMI.
    instance_type:
        As in ``g5.xlarge``.
    subnet:
        Where; empty takes the default VPC's.
    source:
        Network that may reach its ssh, in CIDR notation; empty asks AWS where we come from.
    address:
        Where ssh reaches it, ``HOST:PORT``, where that is not its own address: a tunnel, a bastion.
    profile:
        IAM instance profile; with one and ``session``, ssh goes through Session Manager and no port is open.
    session:
        Whether ssh goes through Session Manager.
    """

    ami: str
    instance_type: str
    subnet: str = ""
    source: str = ""
    address: str = ""
    profile: str = ""
    session: bool = False


@dataclass
class Stand:
    """The instance of a proof, with its key and its group; made step by step, and taken down as a whole.

    Parameters
    ----------
    cloud:
        Where.
    wish:
        What is wanted.
    folder:
        Existing folder for the key.
    user:
        Whom the user data makes.
    user_data:
        Public key → what the instance is told at its first boot.
    tags:
        Of the instance and its volume, beside the run's.
    """

    cloud: Cloud
    wish: Wish
    folder: Path
    user: str
    user_data: Callable[[str], str]
    tags: dict[str, str]
    vpc: str = ""
    started: float = 0.0
    remote: Remote | None = None
    identity: str = ""
    _network: str = ""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def name(self) -> str:
        """Name of key and group, and the run's tag: the same on this machine for the same AMI."""
        return self.cloud.run_id

    @property
    def ec2(self) -> Any:
        """EC2's client."""
        return self.cloud.client("ec2")

    def may(self, *operations: str) -> tuple[Request, ...]:
        """Requests of EC2 in the stand's region."""
        return requests("ec2", self.cloud.region, *operations)

    def instances(self) -> list[dict[str, Any]]:
        """Every instance of this name that is not gone."""
        filters = [
            {"Name": f"tag:{names.RUN}", "Values": [self.name]},
            {"Name": "instance-state-name", "Values": LIVE},
        ]
        return list(pages.held(pages.every(self.ec2, "describe_instances", "Reservations", Filters=filters)))

    def groups(self) -> list[str]:
        """Ids of the security groups of this name."""
        found = self.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [self.name]}])
        return [each["GroupId"] for each in found["SecurityGroups"]]

    def has_key(self) -> bool:
        """Whether there is a key pair of this name."""
        filters = [{"Name": "key-name", "Values": [self.name]}]
        return bool(self.ec2.describe_key_pairs(Filters=filters)["KeyPairs"])

    def leftovers(self) -> list[str]:
        """What an earlier run has left, a phrase each."""
        found = [each["InstanceId"] for each in self.instances()]
        found += [f"key pair {self.name}"] if self.has_key() else []
        return found + self.groups()

    def source(self) -> str:
        """Network that may reach the instance, in CIDR notation.

        Raises
        ------
        KilnError
            It was not given and AWS does not tell it.
        UsageError
            What was given is no network.
        """
        if not self._network:
            given = self.wish.source or _own_address()
            try:
                self._network = str(ipaddress.ip_network(given))
            except ValueError as error:
                hint = "write it like 203.0.113.7/32"
                raise UsageError(f"--from {given} is no network: {error}", hint) from None
        return self._network

    def make_group(self, _say: Say) -> None:
        """Make the security group, open to the source alone."""
        if self.wish.subnet:
            found = self.ec2.describe_subnets(SubnetIds=[self.wish.subnet])["Subnets"]
            self.vpc = found[0]["VpcId"]
        where = {"VpcId": self.vpc} if self.vpc else {}
        tagged = [{"ResourceType": "security-group", "Tags": names.tags({names.RUN: self.name})}]
        try:
            self.ec2.create_security_group(
                GroupName=self.name,
                Description=f"kiln proves {self.wish.ami}",
                TagSpecifications=tagged,
                **where,
            )
        except ClientError as error:
            # The answer to an attempt before this one was lost.
            if code(error) != "InvalidGroup.Duplicate":
                raise
        group = until(self.cloud, lambda: next(iter(self.groups()), None), f"group {self.name}", LOOKS)
        if self.wish.session:
            return
        rule = {
            "IpProtocol": "tcp",
            "FromPort": SSH_PORT,
            "ToPort": SSH_PORT,
            "IpRanges": [{"CidrIp": self.source(), "Description": "who proves"}],
        }
        try:
            self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
        except ClientError as error:
            if code(error) != "InvalidPermission.Duplicate":
                raise

    def import_key(self, _say: Say) -> None:
        """Make a key here and give EC2 its public half."""
        # Ours, so that the private half is on no wire, and a lost answer loses no key.
        try:
            self.ec2.import_key_pair(
                KeyName=self.name,
                PublicKeyMaterial=self._public().encode(),
                TagSpecifications=[{"ResourceType": "key-pair", "Tags": names.tags({names.RUN: self.name})}],
            )
        except ClientError as error:
            if code(error) != "InvalidKeyPair.Duplicate":
                raise

    def _private(self) -> Path:
        key = self.folder / "key"
        if not key.exists():
            made = subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(key)],
                capture_output=True,
                text=True,
            )
            if made.returncode:
                raise KilnError(f"ssh-keygen made no key: {made.stderr.strip()}", "install openssh-client")
        return key

    def _public(self) -> str:
        return self._private().with_suffix(".pub").read_text(encoding="ascii").strip()

    def start(self, say: Say) -> None:
        """Run the instance and wait until it does; ``remote`` is known then."""
        wish = self.wish
        tags = names.tags({**self.tags, names.RUN: self.name, "Name": self.name})
        more: dict[str, Any] = {"SubnetId": wish.subnet} if wish.subnet else {}
        if wish.profile:
            more["IamInstanceProfile"] = {"Name": wish.profile}
        self.started = time.monotonic()
        with told(f"running {wish.ami}", HINTS):
            answer = self.ec2.run_instances(
                ImageId=wish.ami,
                InstanceType=wish.instance_type,
                MinCount=1,
                MaxCount=1,
                KeyName=self.name,
                SecurityGroupIds=self.groups(),
                UserData=self.user_data(self._public()),
                # A killed kiln leaves at worst what ends itself with its own shutdown, and what sweep finds.
                InstanceInitiatedShutdownBehavior="terminate",
                MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled"},
                TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
                ClientToken=names.token("prove", self.name, self.nonce),
                **more,
            )
        self.identity = answer["Instances"][0]["InstanceId"]
        found = until(self.cloud, partial(self._running, say), f"{wish.ami} to run", LOOKS)
        self.remote = self._reach(found)

    def _running(self, say: Say) -> dict[str, Any] | None:
        every = self.instances()
        if not every:
            return None
        instance = every[0]
        state = instance["State"]["Name"]
        say(f"{instance['InstanceId']} is {state}")
        if state in ("shutting-down", "stopping", "stopped"):
            why = instance.get("StateReason", {}).get("Message", "no reason given")
            raise KilnError(
                f"{instance['InstanceId']} of {self.wish.ami} ended as it began: {why}",
                "a key that may not be used, a snapshot that is gone? look at the AMI and its snapshots",
            )
        return instance if state == "running" else None

    def _reach(self, instance: dict[str, Any]) -> Remote:
        wish, identity = self.wish, instance["InstanceId"]
        host = instance.get("PublicIpAddress") or instance.get("PrivateIpAddress", "")
        port, proxy = SSH_PORT, ""
        if wish.address:
            host, _, text = wish.address.rpartition(":")
            port = int(text)
        elif wish.session:
            host = identity
            proxy = (
                f"aws ssm start-session --region {self.cloud.region} --target %h"
                " --document-name AWS-StartSSHSession --parameters portNumber=%p"
            )
        return Remote(
            address=host,
            port=port,
            user=self.user,
            key=self._private(),
            started=self.started,
            machine=f"{wish.instance_type} {identity} of {wish.ami} in {self.cloud.region}",
            proxy=proxy,
        )

    def down(self, say: Say) -> None:
        """Take everything down, whatever there is of it; what is gone already is no error.

        Parameters
        ----------
        say:
            Told what is at hand.

        Raises
        ------
        KilnError
            Something is still there afterwards.
        """
        # What was just started may not be listed yet; its id is known from the answer.
        running = sorted({each["InstanceId"] for each in self.instances()} | {self.identity} - {""})
        if running:
            say(f"terminating {', '.join(running)}")
            try:
                self.ec2.terminate_instances(InstanceIds=running)
            except ClientError as error:
                if code(error) != "InvalidInstanceID.NotFound":
                    raise
            self.identity = ""
            until(self.cloud, lambda: None if self.instances() else True, "the instance to end", LOOKS)
        if self.has_key():
            self.ec2.delete_key_pair(KeyName=self.name)
        until(self.cloud, self._groups_gone, f"group {self.name} to go", LOOKS)

    def _groups_gone(self) -> bool | None:
        for group in self.groups():
            try:
                self.ec2.delete_security_group(GroupId=group)
            except ClientError as error:
                # The interface of an instance outlives it by a moment.
                if code(error) not in ("DependencyViolation", "InvalidGroup.NotFound", "InvalidGroup.InUse"):
                    raise
        return None if self.groups() else True


def _own_address() -> str:
    try:
        with urllib.request.urlopen(WHERE_AM_I, timeout=10) as answer:
            return f"{answer.read(64).decode('ascii', 'replace').strip()}/32"
    except (OSError, urllib.error.URLError) as error:
        raise KilnError(
            f"could not determine from where we reach AWS: {error}",
            "name the network that may reach the instance: --from 203.0.113.7/32",
        ) from None
