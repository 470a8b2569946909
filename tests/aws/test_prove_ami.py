"""kiln prove --ami, the half of AWS: what is made, for whom it is open, and that nothing of it stays."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import cli
from kiln.errors import KilnError, RefusedError, UsageError
from kiln.remote import Remote
from launch import names, prove_ami
from launch.instance import Wish
from launch.prove_ami import _run_id
from scripts import seed
from tests.aws.conftest import Seeded
from tests.emulator.handle import Emulator

HERE = "203.0.113.7/32"
VERSION = "20260102T030405Z-01234567"


@pytest.fixture
def ami(seeded: Seeded, client: Callable[..., Any], kiln_toml: Path) -> str:
    """The AMI of the seeded group, tagged as publish tags its own."""
    tags = {names.IMAGE: "monai-label", names.VERSION: VERSION}
    client("ec2").create_tags(Resources=[seeded.image], Tags=names.tags(tags))
    return seeded.image


class Body:
    """Stands for the half of scripts: notes what it was given, and what there was meanwhile."""

    def __init__(self, ec2: Any, fails: BaseException | None = None) -> None:
        self.ec2 = ec2
        self.fails = fails
        self.hosts: list[Remote] = []
        self.versions: list[str | None] = []
        self.there: dict[str, Any] = {}

    def __call__(self, host: Remote, version: str | None) -> None:
        self.hosts.append(host)
        self.versions.append(version)
        self.there = left(self.ec2)
        assert host.key.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
        if self.fails:
            raise self.fails


def left(ec2: Any) -> dict[str, Any]:
    """Instances, keys and groups of a proof that are there."""
    tagged = {"Filters": [{"Name": "tag-key", "Values": [names.RUN]}]}
    return {
        "instances": [
            each
            for held in ec2.describe_instances(**tagged)["Reservations"]
            for each in held["Instances"]
            if each["State"]["Name"] != "terminated"
        ],
        "keys": [each["KeyName"] for each in ec2.describe_key_pairs()["KeyPairs"]],
        "groups": [
            each
            for each in ec2.describe_security_groups()["SecurityGroups"]
            if each["GroupName"].startswith("kiln-prove")
        ],
    }


NOTHING: dict[str, Any] = {"instances": [], "keys": [], "groups": []}


def prove(ami: str, body: Body, version: str | None = VERSION, **more: Any) -> int:
    wish = {"ami": ami, "instance_type": "", "source": HERE} | more.pop("wish", {})
    return prove_ami.run(
        "monai-label", version, Wish(**wish), body=body, user=seed.USER, user_data=seed.user_data, **more
    )


def test_an_instance_is_there_for_the_proof_and_no_longer(
    ami: str, client: Callable[..., Any], emulator: Emulator, seeded: Seeded
) -> None:
    ec2 = client("ec2")
    body = Body(ec2)
    before = len(emulator.requests())
    assert prove(ami, body, wish={"subnet": seeded.subnets[0]}) == 0
    assert left(ec2) == NOTHING
    (host,) = body.hosts
    (instance,) = body.there["instances"]
    assert instance["InstanceType"] == "g5.xlarge"
    assert host.machine == f"g5.xlarge {instance['InstanceId']} of {ami} in us-east-1"
    assert (host.port, host.user, host.proxy) == (22, "kiln", "")
    assert host.address in (instance.get("PublicIpAddress"), instance["PrivateIpAddress"])
    assert not host.key.exists(), "the key goes with the instance"
    (rule,) = body.there["groups"][0]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
    assert [each["CidrIp"] for each in rule["IpRanges"]] == [HERE]
    (sent,) = [each for each in emulator.requests(before) if each["operation"] == "RunInstances"]
    assert sent["params"]["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert sent["params"]["MetadataOptions"]["HttpTokens"] == "required"
    assert len(sent["params"]["ClientToken"]) == 64
    text = base64.b64decode(sent["params"]["UserData"]).decode()
    (user,) = json.loads(text.removeprefix("#cloud-config\n"))["users"]
    assert user["name"] == host.user
    assert user["ssh_authorized_keys"][0].startswith("ssh-ed25519 ")
    wrong = [each for each in emulator.requests(before) if not each["valid"]]
    assert wrong == []


def test_the_plan_names_every_request_and_sends_none(
    ami: str,
    client: Callable[..., Any],
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    seeded: Seeded,
) -> None:
    before = len(emulator.requests())
    body = Body(client("ec2"))
    wish = {"subnet": seeded.subnets[0]}
    assert prove(ami, body, only_plan=True, as_json=True, wish=wish) == 0
    assert emulator.mutating(before) == []
    assert body.hosts == []
    planned = {each for step in json.loads(capsys.readouterr().out)["steps"] for each in step["requests"]}
    assert prove(ami, body, wish=wish) == 0
    sent = {f"{each['service']}:{each['operation']}@{each['region']}" for each in emulator.mutating(before)}
    assert sent
    assert sent <= planned


@pytest.mark.parametrize(
    "error", [RefusedError("a check", "mend it"), KilnError("no ssh", "look"), KeyboardInterrupt()]
)
def test_nothing_is_left_whatever_comes_of_it(
    ami: str, client: Callable[..., Any], error: BaseException, seeded: Seeded
) -> None:
    ec2 = client("ec2")
    with pytest.raises(type(error)):
        prove(ami, Body(ec2, fails=error), wish={"subnet": seeded.subnets[0]})
    assert left(ec2) == NOTHING


def test_what_a_killed_run_left_is_ended_first(
    ami: str, client: Callable[..., Any], seeded: Seeded, capsys: pytest.CaptureFixture[str]
) -> None:
    ec2, name = client("ec2"), _run_id(ami)
    ec2.create_security_group(GroupName=name, Description="of a killed run", VpcId=seeded.vpc)
    ec2.create_key_pair(KeyName=name)
    tags = [{"ResourceType": "instance", "Tags": names.tags({names.RUN: name})}]
    old = ec2.run_instances(ImageId=ami, MinCount=1, MaxCount=1, TagSpecifications=tags)["Instances"][0]
    body = Body(ec2)
    assert prove(ami, body, wish={"subnet": seeded.subnets[0]}) == 0
    assert old["InstanceId"] not in body.hosts[0].machine
    assert "end what an earlier run left" in capsys.readouterr().out
    assert left(ec2) == NOTHING


@pytest.mark.campaign
@pytest.mark.parametrize(
    "operation",
    ["CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "ImportKeyPair", "RunInstances",
     "TerminateInstances", "DeleteKeyPair", "DeleteSecurityGroup"],
)  # fmt: skip
def test_a_lost_answer_makes_nothing_twice(
    ami: str, client: Callable[..., Any], emulator: Emulator, seeded: Seeded, operation: str
) -> None:
    ec2 = client("ec2")
    emulator.faults([{"operation": operation, "fault": "lost", "times": 1}])
    body = Body(ec2)
    assert prove(ami, body, wish={"subnet": seeded.subnets[0]}) == 0
    assert len(body.there["instances"]) == 1
    assert left(ec2) == NOTHING


def test_session_manager_opens_no_port(ami: str, client: Callable[..., Any], seeded: Seeded) -> None:
    ec2 = client("ec2")
    client("iam").create_instance_profile(InstanceProfileName="kiln-ssm")
    body = Body(ec2)
    wish = {"session": True, "profile": "kiln-ssm", "subnet": seeded.subnets[0], "source": ""}
    assert prove(ami, body, wish=wish) == 0
    (host,) = body.hosts
    assert host.address.startswith("i-")
    assert "aws ssm start-session" in host.proxy
    assert "AWS-StartSSHSession" in host.proxy
    assert body.there["groups"][0]["IpPermissions"] == []
    with pytest.raises(UsageError, match="only an instance with a role"):
        prove(ami, Body(ec2), wish=wish | {"profile": ""})


def test_an_ami_of_another_version_is_refused(
    ami: str, client: Callable[..., Any], emulator: Emulator
) -> None:
    before = len(emulator.requests())
    with pytest.raises(RefusedError, match=f"is tagged monai-label@{VERSION}, not monai-label@20260"):
        prove(ami, Body(client("ec2")), version="20260909T000000Z-89abcdef")
    assert emulator.mutating(before) == []


def test_the_version_is_the_tags(ami: str, client: Callable[..., Any], seeded: Seeded) -> None:
    body = Body(client("ec2"))
    assert prove(ami, body, version=None, wish={"subnet": seeded.subnets[0]}) == 0
    assert body.versions == [VERSION]


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"ami": "ami-0123456789abcdef0"}, KilnError, "InvalidAMIID.NotFound"),
        ({"source": "here"}, UsageError, "is no network"),
        ({"address": "127.0.0.1"}, UsageError, "is no address"),
        ({"instance_type": "g5.nothing"}, KilnError, "running ami-"),
    ],
)
def test_bad_input_is_two_lines_and_leaves_nothing(
    ami: str,
    client: Callable[..., Any],
    seeded: Seeded,
    wish: dict[str, str],
    error: type[KilnError],
    message: str,
) -> None:
    ec2 = client("ec2")
    with pytest.raises(error, match=message) as told:
        prove(ami, Body(ec2), wish={"subnet": seeded.subnets[0]} | wish)
    assert "\n" not in told.value.what
    assert left(ec2) == NOTHING


def test_a_version_that_is_not_here_starts_nothing(
    ami: str, emulator: Emulator, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(emulator.requests())
    assert cli.run(["prove", f"monai-label@{VERSION}", "--ami", ami, "--from", HERE]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert emulator.mutating(before) == []


def test_options_of_an_instance_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prove", "monai-label", "--session-manager"]) == 2
    assert "--ami" in capsys.readouterr().err
