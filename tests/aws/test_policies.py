"""The policies: what the code may send is allowed, nothing else is, what is foreign is out of reach."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kiln import cli, paths
from kiln.errors import Exit
from tests.aws import operations, released
from tests.aws.conftest import BUCKET, REGION, REGIONS
from tests.aws.released import V1, V2
from tests.emulator.needs import PREFIX, S3_ACTIONS

FOLDER = paths.ROOT / "launch/policies"
INSTANCE = "instance"
ROLES = (*operations.COMMANDS, INSTANCE)
CALLS = paths.ROOT / "ansible/roles/health/files/kiln_aws.py"

MOST = 6144
"""Characters of a managed policy, blanks not counted (IAM and STS quotas)."""

NOT_SENT = {
    "autoscaling:DescribeLoadBalancers": "reckoning asks Elastic Load Balancing, which has the same name",
    "sts:GetCallerIdentity": "needs no permission",
}
"""What the reading of the code finds and no command sends, or what needs nothing."""

NOT_THEIRS: dict[str, dict[str, str]] = {
    "operator": dict.fromkeys(
        ("appstream:CreateImageBuilder", "appstream:StartImageBuilder"),
        "sweep takes of builder_state what removes a builder, and nothing else",
    ),
    "builder": dict.fromkeys(
        (
            f"appstream:{each}"
            for each in (
                "AssociateFleet", "CreateFleet", "DisassociateFleet", "StartFleet", "StopFleet",
                "UpdateFleet", "UntagResource", "DescribeSessions", "DescribeStacks", "ListAssociatedFleets",
                "ListAssociatedStacks",
            )
        ),
        "builder_state takes a hint for an error from fleet, and nothing else",
    ),
}  # fmt: skip
"""Role → what the modules that it reaches can send, and none of its commands does → why."""

METRICS = "cloudwatch:PutMetricData"
"""Of no resource; its condition is the namespace."""

BESIDES: dict[str, dict[str, str]] = {
    INSTANCE: {},
    "operator": {
        "ec2:CreateTags": "tags at creation",
        "iam:PassRole": "roles of fleets and of the import",
        "kms:CreateGrant": "EC2 copies and reads encrypted snapshots for the caller",
        "kms:ReEncryptFrom": "the same",
        "kms:ReEncryptTo": "the same",
        "ssm:AddTagsToResource": "a channel's parameter is made with tags",
    },
    "builder": {
        "iam:PassRole": "roles of builders, and Packer's temporary one",
        "ec2:CreateTags": "tags at creation",
        "ssm:StartSession": "Session Manager as the way in: Packer, kiln prove --ami --session",
        "ssm:ResumeSession": "the same",
        "ssm:TerminateSession": "the same",
        "ssm:DescribeInstanceInformation": "the same",
    }
    | dict.fromkeys(
        (
            f"ec2:{each}"
            for each in (
                "CopyImage", "CreateImage", "CreateKeyPair", "DeleteSnapshot", "DeleteVolume",
                "DeregisterImage", "DescribeInstanceStatus", "DescribeRegions", "DescribeSnapshots",
                "DescribeTags", "DescribeVolumes", "DescribeVpcs", "ModifyImageAttribute",
                "ModifyInstanceAttribute", "ModifySnapshotAttribute", "StopInstances",
            )
        ),
        "Packer's amazon-ebs (Packer documentation, IAM Task or Instance Role)",
    )
    | dict.fromkeys(
        (
            f"iam:{each}"
            for each in (
                "AddRoleToInstanceProfile", "CreateInstanceProfile", "CreateRole", "DeleteInstanceProfile",
                "DeleteRole", "DeleteRolePolicy", "GetInstanceProfile", "PutRolePolicy",
                "RemoveRoleFromInstanceProfile",
            )
        ),
        "Packer's temporary instance profile",
    ),
}  # fmt: skip
"""Role → what it needs beside what the code sends itself → why."""


def policy(role: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{role}.json").read_text())
    return document


def on_an_instance() -> ModuleType:
    """What makes the calls of an instance: kiln_aws.py of the role health."""
    spec = importlib.util.spec_from_file_location("kiln_aws", CALLS)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def actions(role: str) -> set[str]:
    return {action for each in policy(role)["Statement"] for action in listed(each["Action"])}


def needed(role: str) -> dict[str, set[str]]:
    """Actions for what the code may send → the modules that do."""
    if role == INSTANCE:
        return {
            f"{service}:{''.join(word.capitalize() for word in name.split('_'))}": {CALLS.name}
            for service, names in on_an_instance().ALLOWED.items()
            for name in names
        }
    found: dict[str, set[str]] = {}
    for (service, operation), modules in operations.of_role(role).items():
        name = S3_ACTIONS.get(operation, operation) if service == "s3" else operation
        action = f"{PREFIX.get(service, service)}:{name}"
        if action not in NOT_SENT and action not in NOT_THEIRS[role]:
            found.setdefault(action, set()).update(modules)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_operation_that_the_code_may_send_is_allowed(role: str) -> None:
    missing = {
        action: sorted(modules) for action, modules in needed(role).items() if action not in actions(role)
    }
    assert missing == {}


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_allowed_that_nothing_sends(role: str) -> None:
    assert actions(role) - needed(role).keys() - BESIDES[role].keys() == set()


@pytest.mark.parametrize("role", ROLES)
def test_no_action_is_a_wildcard(role: str) -> None:
    for statement in policy(role)["Statement"]:
        assert statement["Effect"] == "Allow"
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        for action in listed(statement["Action"]):
            assert "*" not in action and "?" not in action


@pytest.mark.parametrize("role", ROLES)
def test_all_resources_only_to_look(role: str) -> None:
    reading = ("Describe", "Get", "List")
    for statement in policy(role)["Statement"]:
        if "*" in listed(statement["Resource"]):
            acting = [
                each for each in listed(statement["Action"]) if not each.split(":")[1].startswith(reading)
            ]
            assert acting in ([], [METRICS])
            assert not acting or "cloudwatch:namespace" in statement["Condition"]["StringLike"]


@pytest.mark.parametrize("role", ROLES)
def test_it_fits_a_managed_policy(role: str) -> None:
    assert len("".join((FOLDER / f"{role}.json").read_text().split())) <= MOST


def test_the_operations_name_every_call_of_an_instance() -> None:
    text = (paths.ROOT / "docs/operations.md").read_text()
    section = text.partition("## Instances end in the middle of work, or never")[2].partition("\n## ")[0]
    assert [each for each in actions(INSTANCE) if each.partition(":")[2] not in section] == []


def test_the_reading_of_the_code_finds_what_is_planted(tmp_path: Path) -> None:
    module = tmp_path / "planted.py"
    module.write_text(
        'SERVICE = "kms"\n'
        "def f(cloud, region):\n"
        '    cloud.client("ec2", region).delete_vpc(VpcId="x")\n'
        '    cloud.client(SERVICE).get_paginator("list_keys")\n'
        '    ask(cloud, region, "doing", "delete_stack")\n'
        '    return requests("ssm", region, "DeleteParameter")\n'
    )
    assert operations.sent(module) == {
        ("ec2", "DeleteVpc"),
        ("kms", "ListKeys"),
        ("appstream", "DeleteStack"),
        ("ssm", "DeleteParameter"),
    }


Client = Callable[..., Any]


def kiln(*arguments: str) -> int:
    return cli.run(list(arguments))


def test_the_operator_can_do_all_of_channels_and_cleaning(
    client: Client, kiln_toml: Path, acting_as: Callable[..., str]
) -> None:
    released.ready(client)
    one, two = released.publish(client, V1), released.publish(client, V2)
    ec2 = client("ec2")
    tags = [{"Key": "kiln:run", "Value": "prove-abc"}, {"Key": "kiln:image", "Value": "monai-label"}]
    ec2.create_security_group(
        GroupName="left",
        Description="x",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )
    acting_as(FOLDER / "operator.json")
    for version in (V1, V2):
        assert kiln("promote", f"monai-label@{version}", "stable") == Exit.DONE
    assert kiln("history", "monai-label", "stable") == Exit.DONE
    assert kiln("revoke", f"monai-label@{V2}", "--why", "it is bad") == Exit.DONE
    assert kiln("promote", f"monai-label@{V1}", "dev") == Exit.DONE
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.DONE
    assert kiln("sweep") == Exit.DONE
    left = {
        region: {each["ImageId"] for each in client("ec2", region).describe_images(Owners=["self"])["Images"]}
        for region in REGIONS
    }
    assert left == {region: {one[region]} for region in REGIONS}
    assert two != one


def test_what_is_foreign_is_out_of_the_operator_s_reach(
    client: Client, kiln_toml: Path, emulator: Any, acting_as: Callable[..., str], monkeypatch: Any
) -> None:
    released.ready(client)
    foreign, snapshot = released.register(client, name="foreign", tags={})
    instance = client("ec2").run_instances(
        ImageId=foreign, MinCount=1, MaxCount=1, InstanceType="t3.micro",
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "kiln:run", "Value": "x"},
                                                  {"Key": "kiln:target", "Value": "annotators"}]}
        ],
    )["Instances"][0]["InstanceId"]  # fmt: skip
    released.put(client, "images/monai-label/x/manifest.json", b"{}")
    acting_as(FOLDER / "operator.json")
    import boto3

    def of(service: str) -> Any:
        return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]

    refused: list[Callable[[], Any]] = [
        lambda: of("ec2").deregister_image(ImageId=foreign),
        lambda: of("ec2").delete_snapshot(SnapshotId=snapshot),
        lambda: of("ec2").disable_image(ImageId=foreign),
        lambda: of("ec2").create_tags(Resources=[foreign], Tags=[{"Key": "kiln:run", "Value": "mine"}]),
        lambda: of("ec2").terminate_instances(InstanceIds=[instance]),
        lambda: of("ec2").run_instances(ImageId=foreign, MinCount=1, MaxCount=1),
        lambda: of("ssm").put_parameter(Name="/other/x", Value="x", Type="String"),
        lambda: of("s3").delete_object(Bucket=BUCKET, Key="kiln/images/monai-label/x/manifest.json"),
        lambda: of("s3").put_object(Bucket=BUCKET, Key="other/x", Body=b""),
        lambda: of("iam").create_role(RoleName="x", AssumeRolePolicyDocument="{}"),
    ]
    for call in refused:
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] in (
            "UnauthorizedOperation",
            "AccessDenied",
            "AccessDeniedException",
        )


def test_an_instance_can_make_its_calls_for_its_group_and_no_other(
    client: Client, acting_as: Callable[..., str]
) -> None:
    scaling, instances = client("autoscaling"), {}
    template = client("ec2").create_launch_template(
        LaunchTemplateName="any",
        LaunchTemplateData={
            "ImageId": released.register(client, name="any", tags={})[0],
            "InstanceType": "t3.micro",
        },
    )["LaunchTemplate"]["LaunchTemplateId"]
    for group in ("kiln-annotators", "foreign"):
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=group, LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
            MinSize=0, MaxSize=1, DesiredCapacity=1, AvailabilityZones=[f"{REGION}a"],
        )  # fmt: skip
        found = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]
        instances[group] = found["Instances"][0]["InstanceId"]
    acting_as(FOLDER / "instance.json", name="kiln-instance")
    import boto3

    def said(group: str, service: str, operation: str) -> str:
        """AWS's code for a refusal."""
        hook = {"AutoScalingGroupName": group, "LifecycleHookName": "kiln-drain"}
        known: dict[str, dict[str, Any]] = {
            "describe_auto_scaling_instances": {"InstanceIds": [instances[group]]},
            "describe_lifecycle_hooks": {"AutoScalingGroupName": group},
            "set_instance_health": {"InstanceId": instances[group], "HealthStatus": "Healthy"},
            "set_instance_protection": {
                "AutoScalingGroupName": group,
                "InstanceIds": [instances[group]],
                "ProtectedFromScaleIn": True,
            },
            "record_lifecycle_action_heartbeat": {**hook, "InstanceId": instances[group]},
            "complete_lifecycle_action": {
                **hook,
                "InstanceId": instances[group],
                "LifecycleActionResult": "CONTINUE",
            },
            "put_metric_data": {
                "Namespace": {"kiln-annotators": "Kiln/Annotators", "foreign": "AWS/EC2"}[group],
                "MetricData": [{"MetricName": "Busy", "Value": 1}],
            },
        }
        try:
            # A session of its own: boto3's keeps the keys of whoever asked first in this process.
            client_ = boto3.Session(region_name=REGION).client(service)  # type: ignore[call-overload]
            getattr(client_, operation)(**known[operation])
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    calls = [(service, name) for service, names in on_an_instance().ALLOWED.items() for name in names]
    for group in instances:
        refused = {name for service, name in calls if said(group, service, name).startswith("AccessDenied")}
        looks = {name for _, name in calls if name.startswith("describe_")}
        assert refused == (set() if group == "kiln-annotators" else {name for _, name in calls} - looks)


def test_who_may_not_is_told_where_to_look(
    client: Client, kiln_toml: Path, acting_as: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    released.ready(client)
    released.publish(client, V1)
    acting_as(FOLDER / "builder.json")
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.FAILED
    error = capsys.readouterr().err
    assert "let the operator's role do it: launch/policies/ has what kiln needs" in error
    assert len(error[error.index("error:") :].strip().splitlines()) == 2
