"""Launch templates, launches, keys, quotas and parameters in the emulator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.aws.conftest import ACCOUNT, OTHER, shared_key
from tests.unit.test_emulator_images import refused, register, settle, shown, snapshot

NAME = "/kiln/monai-label/stable"
G_QUOTA = "L-DB2E81BA"


def template(ec2: Any, **data: Any) -> str:
    made: str = ec2.create_launch_template(LaunchTemplateName="kiln", LaunchTemplateData=data)[
        "LaunchTemplate"
    ]["LaunchTemplateId"]
    return made


def version(ec2: Any, identity: str, number: str) -> dict[str, Any]:
    found = ec2.describe_launch_template_versions(LaunchTemplateId=identity, Versions=[number])
    data: dict[str, Any] = found["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return data


def test_a_version_keeps_what_its_source_has(client: Any) -> None:
    ec2 = client("ec2")
    options = {"HttpTokens": "required", "HttpEndpoint": "enabled"}
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]
    made = template(
        ec2, ImageId="ami-11111111", InstanceType="g5.xlarge", MetadataOptions=options, TagSpecifications=tags
    )
    ec2.create_launch_template_version(
        LaunchTemplateId=made, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-22222222"}
    )
    found = version(ec2, made, "2")
    assert found["ImageId"] == "ami-22222222"
    assert (found["InstanceType"], found["TagSpecifications"]) == ("g5.xlarge", tags)
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert version(ec2, made, "1")["ImageId"] == "ami-11111111"
    ec2.create_launch_template_version(LaunchTemplateId=made, LaunchTemplateData={"ImageId": "ami-33333333"})
    assert "InstanceType" not in version(ec2, made, "3")


def test_a_token_makes_a_version_once(client: Any) -> None:
    ec2 = client("ec2")
    made = template(ec2, ImageId="ami-11111111")
    asked = {
        "LaunchTemplateId": made,
        "ClientToken": "one",
        "LaunchTemplateData": {"ImageId": "ami-22222222"},
    }
    numbers = {
        ec2.create_launch_template_version(**asked)["LaunchTemplateVersion"]["VersionNumber"] for _ in "ab"
    }
    assert numbers == {2}
    with refused("IdempotentParameterMismatch"):
        ec2.create_launch_template_version(**{**asked, "LaunchTemplateData": {"ImageId": "ami-33333333"}})


def test_a_version_that_names_no_image_is_kept_with_a_warning(client: Any) -> None:
    answer = client("ec2").create_launch_template(
        LaunchTemplateName="kiln", LaunchTemplateData={"ImageId": "ami-0123456789abcdef0"}
    )
    assert answer["Warning"]["Errors"][0]["Code"] == "InvalidAMIID.NotFound"


def test_versions_are_deleted_but_not_the_default_one(client: Any) -> None:
    ec2 = client("ec2")
    made = template(ec2, ImageId="ami-11111111")
    for _ in range(2):
        ec2.create_launch_template_version(
            LaunchTemplateId=made, LaunchTemplateData={"ImageId": "ami-22222222"}
        )
    answer = ec2.delete_launch_template_versions(LaunchTemplateId=made, Versions=["1", "2", "9"])
    assert [each["VersionNumber"] for each in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [2]
    assert [each["VersionNumber"] for each in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]] == [1, 9]
    found = ec2.describe_launch_template_versions(LaunchTemplateId=made)["LaunchTemplateVersions"]
    assert [each["VersionNumber"] for each in found] == [3, 1]
    with refused("InvalidLaunchTemplateId.VersionNotFound"):
        version(ec2, made, "2")


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("ami-0123456789abcdef0", "InvalidAMIID.NotFound"),
        ("theirs", "AuthFailure"),
        ("pending", "InvalidAMIID.Un"),
    ],
)
def test_what_cannot_be_launched_is_refused(client: Any, image: str, code: str) -> None:
    ec2 = client("ec2")
    if image == "theirs":
        image = register(client("ec2", account=OTHER))
    elif image == "pending":
        code = "InvalidAMIID.Unavailable"
        image = ec2.copy_image(SourceImageId=register(ec2), SourceRegion="us-east-1", Name="kiln-b")[
            "ImageId"
        ]
    with refused(code):
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    assert not ec2.describe_instances()["Reservations"]


def test_a_launch_takes_disks_from_the_image_and_options_from_the_template(client: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2, ImdsSupport="v2.0")
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 40}}
    spec = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    made = template(
        ec2, ImageId=image, InstanceType="t3.micro", BlockDeviceMappings=[disk], TagSpecifications=spec
    )
    asked = {"LaunchTemplate": {"LaunchTemplateId": made}, "MinCount": 1, "MaxCount": 1, "ClientToken": "one"}
    runs = [ec2.run_instances(**asked)["Instances"][0]["InstanceId"] for _ in "ab"]
    assert runs[0] == runs[1]
    (found,) = ec2.describe_instances(InstanceIds=runs[:1])["Reservations"][0]["Instances"]
    assert (found["ImageId"], found["MetadataOptions"]["HttpTokens"]) == (image, "required")
    (attached,) = found["BlockDeviceMappings"]
    (volume,) = ec2.describe_volumes(VolumeIds=[attached["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Size"], volume["Tags"]) == (40, spec[0]["Tags"])


def test_what_a_request_does_not_say_of_a_disk_is_the_images(client: Any) -> None:
    ec2 = client("ec2")
    image, _ = encrypted(client)
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20}},
        {"DeviceName": "/dev/xvdb", "Ebs": {"VolumeSize": 5, "DeleteOnTermination": False}},
    ]
    run = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro", BlockDeviceMappings=disks
    )
    (found,) = ec2.describe_instances(InstanceIds=[run["Instances"][0]["InstanceId"]])["Reservations"]
    attached = {each["DeviceName"]: each["Ebs"] for each in found["Instances"][0]["BlockDeviceMappings"]}
    assert [attached[name]["DeleteOnTermination"] for name in ("/dev/xvda", "/dev/xvdb")] == [True, False]
    volumes = ec2.describe_volumes(VolumeIds=[each["VolumeId"] for each in attached.values()])["Volumes"]
    assert {each["Size"]: each["Encrypted"] for each in volumes} == {20: True, 5: False}


def test_an_image_by_parameter_is_resolved_at_launch(client: Any) -> None:
    ec2, ssm = client("ec2"), client("ssm")
    image = register(ec2)
    ssm.put_parameter(Name=NAME, Value=image, Type="String", DataType="aws:ec2:image")
    settle(lambda: len(ssm.get_parameters(Names=[NAME])["Parameters"]), 1)  # type: ignore[arg-type]
    made = template(ec2, ImageId=f"resolve:ssm:{NAME}", InstanceType="t3.micro")
    run = ec2.run_instances(LaunchTemplate={"LaunchTemplateId": made}, MinCount=1, MaxCount=1)
    assert run["Instances"][0]["ImageId"] == image
    found = ec2.describe_launch_template_versions(LaunchTemplateId=made, Versions=["1"], ResolveAlias=True)
    assert found["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"] == image


def encrypted(client: Any, kms_policy: dict[str, Any] | None = None) -> tuple[str, str]:
    """An image and its customer key."""
    ec2, kms = client("ec2"), client("kms")
    key = shared_key(kms)
    made = ec2.copy_image(
        SourceImageId=register(ec2), SourceRegion="us-east-1", Name="kiln-e", Encrypted=True, KmsKeyId=key
    )["ImageId"]
    settle(lambda: shown(ec2, made)["State"], "available")
    return made, key


def test_an_instance_whose_key_may_not_be_used_ends_as_it_begins(client: Any, emulator: Any) -> None:
    ec2 = client("ec2")
    image, key = encrypted(client)
    asked = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    good = ec2.run_instances(**asked)["Instances"][0]["InstanceId"]
    client("kms").disable_key(KeyId=key)
    bad = ec2.run_instances(**asked)["Instances"][0]["InstanceId"]
    found = {
        each["InstanceId"]: (each["State"]["Name"], each.get("StateReason", {}).get("Code"))
        for run in ec2.describe_instances()["Reservations"]
        for each in run["Instances"]
    }
    assert found[good][0] == "running"
    assert found[bad] == ("terminated", "Client.InternalError")


def test_another_account_starts_a_shared_image_only_with_its_key(client: Any, emulator: Any) -> None:
    ec2, theirs = client("ec2"), client("ec2", account=OTHER)
    image, key = encrypted(client)
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})
    asked = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    theirs.run_instances(**asked)
    only_us = {
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": "kms:*",
                "Resource": "*",
            }
        ]
    }
    client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(only_us))
    theirs.run_instances(**asked)
    states = [
        each["State"]["Name"]
        for run in theirs.describe_instances()["Reservations"]
        for each in run["Instances"]
    ]
    assert sorted(states) == ["running", "terminated"]


@pytest.mark.parametrize(
    ("principal", "grant", "may"),
    [("root", False, False), ("role", False, True), ("root", True, True)],
)
def test_a_service_role_needs_to_be_named_or_a_grant(
    client: Any, principal: str, grant: bool, may: bool
) -> None:
    from tests.emulator import keys

    role = keys.service_role(ACCOUNT)
    named = {"root": keys.root(ACCOUNT), "role": role}[principal]

    class Grant:
        grantee_principal = role
        operations = ("CreateGrant", "Decrypt", "GenerateDataKeyWithoutPlaintext")

    class Key:
        key_state, key_manager, account_id = "Enabled", "CUSTOMER", ACCOUNT
        arn, region = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1", "us-east-1"
        policy = json.dumps(
            {
                "Statement": [
                    {"Effect": "Allow", "Principal": {"AWS": named}, "Action": "kms:*", "Resource": "*"}
                ]
            }
        )
        grants = {"one": Grant()} if grant else {}

    assert keys.may_use(role, Key(), keys.TO_ATTACH) is may
    assert not keys.may_use(role, None, keys.TO_ATTACH)


@pytest.mark.parametrize(
    ("service", "may"), [("ec2.us-east-1.amazonaws.com", True), ("s3.us-east-1.amazonaws.com", False)]
)
def test_conditions_of_a_key_policy_are_read(client: Any, service: str, may: bool) -> None:
    from tests.emulator import keys

    class Key:
        key_state, key_manager, account_id, grants = "Enabled", "CUSTOMER", ACCOUNT, {}
        arn, region = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1", "us-east-1"
        policy = json.dumps(
            {
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"AWS": keys.root(ACCOUNT)},
                        "Action": "kms:*",
                        "Condition": {"StringEquals": {"kms:ViaService": service}},
                    }
                ]
            }
        )

    assert keys.may_use(keys.root(ACCOUNT), Key(), keys.TO_READ) is may


def test_an_instance_that_was_stopped_gets_ena_support(client: Any) -> None:
    ec2 = client("ec2")
    run = ec2.run_instances(ImageId=register(ec2), MinCount=1, MaxCount=1, InstanceType="t3.micro")
    instance = run["Instances"][0]["InstanceId"]
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=instance, EnaSupport={"Value": True})
    ec2.stop_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, EnaSupport={"Value": True})


def test_a_quota_is_what_a_test_says_and_holds(client: Any, emulator: Any) -> None:
    ec2, quotas = client("ec2"), client("service-quotas")
    image = register(ec2)
    emulator.settings(quotas={f"ec2/{G_QUOTA}": 4})
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode=G_QUOTA)["Quota"]["Value"] == 4
    asked = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": "g5.xlarge"}
    ec2.run_instances(**asked)
    with refused("VcpuLimitExceeded"):
        ec2.run_instances(**asked)
    with refused("NoSuchResourceException"):
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-00000000")


def test_a_channel_appears_after_a_while(client: Any) -> None:
    ec2, ssm = client("ec2"), client("ssm")
    image = register(ec2)
    asked = {"Name": NAME, "Value": image, "Type": "String", "DataType": "aws:ec2:image", "Overwrite": True}
    assert ssm.put_parameter(**asked)["Version"] == 1
    with refused("ParameterNotFound"):
        ssm.get_parameter(Name=NAME)
    assert ssm.get_parameter(Name=NAME)["Parameter"]["Value"] == image
    assert ssm.put_parameter(**asked)["Version"] == 2
    assert ssm.get_parameter(Name=NAME)["Parameter"]["Version"] == 1
    assert ssm.get_parameter(Name=NAME)["Parameter"]["Version"] == 2


def test_a_channel_that_names_no_image_never_appears(client: Any) -> None:
    ssm = client("ssm")
    asked = {"Name": NAME, "Type": "String", "DataType": "aws:ec2:image"}
    ssm.put_parameter(**asked, Value="ami-0123456789abcdef0")
    assert [ssm.get_parameters(Names=[NAME])["InvalidParameters"] for _ in range(4)] == [[NAME]] * 4
    with refused("ValidationException"):
        ssm.put_parameter(**asked, Value="no-image")


def test_public_parameters_name_images_that_are_there(client: Any) -> None:
    name = "/aws/service/ami-windows-latest/TPM-Windows_Server-2022-English-Full-Base"
    found = shown(client("ec2"), client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
    assert (found["BootMode"], found["TpmSupport"]) == ("uefi", "v2.0")


def test_answers_are_what_the_model_says(client: Any, emulator: Any) -> None:
    ec2, ssm = client("ec2"), client("ssm")
    made = template(ec2, ImageId=register(ec2, snapshot=snapshot(ec2)), InstanceType="t3.micro")
    ec2.create_launch_template_version(
        LaunchTemplateId=made, SourceVersion="1", LaunchTemplateData={"EbsOptimized": True}
    )
    ec2.describe_launch_templates()
    ec2.describe_launch_template_versions(LaunchTemplateId=made)
    ec2.delete_launch_template_versions(LaunchTemplateId=made, Versions=["2"])
    ec2.run_instances(LaunchTemplate={"LaunchTemplateId": made}, MinCount=1, MaxCount=1)
    ec2.describe_instances()
    ec2.describe_volumes()
    ssm.put_parameter(Name="a", Value="b", Type="String")
    ssm.get_parameters(Names=["a"])
    client("service-quotas").list_service_quotas(ServiceCode="ec2")
    wrong = [each["wrong_answer"] for each in emulator.requests() if not each["valid_answer"]]
    assert wrong == []
