"""Policies of IAM are judged as AWS judges them, as far as launchers use them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulator import needs, policies
from tests.emulator.fixtures import ACCOUNT
from tests.emulator.policies import Need
from tests.emulator.understand import Asked


def statement(effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": effect, "Action": "ec2:CopyImage", "Resource": "*", **more}]}


NEED = Need("ec2:CopyImage", "arn:aws:ec2:us-east-1::image/ami-1", {"aws:requesttag/a": ("b",)})


@pytest.mark.parametrize(
    ("documents", "allowed"),
    [
        ([], False),
        ([statement()], True),
        ([statement(Action="ec2:copyimage")], True),
        ([statement(Action=["ec2:Describe*", "ec2:Copy*"])], True),
        ([statement(Action="ec2:Describe*")], False),
        ([{"Statement": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}}], True),
        ([{"Statement": {"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"}}], False),
        ([statement(), statement("Deny")], False),
        ([statement(), statement("Deny", Resource="arn:aws:ec2:*::snapshot/*")], True),
        ([statement(Resource=["arn:aws:ec2:*::image/*"])], True),
        ([statement(Resource="arn:aws:ec2:eu-west-1::image/*")], False),
        ([statement(Condition={"StringEquals": {"aws:RequestTag/a": "b"}})], True),
        ([statement(Condition={"StringEquals": {"aws:RequestTag/a": ["c", "d"]}})], False),
        ([statement(Condition={"StringEquals": {"aws:RequestTag/z": "b"}})], False),
        ([statement(Condition={"StringEqualsIfExists": {"aws:RequestTag/z": "b"}})], True),
        ([statement(Condition={"StringNotEquals": {"aws:RequestTag/a": "b"}})], False),
        ([statement(Condition={"StringNotEquals": {"aws:RequestTag/z": "b"}})], True),
        ([statement(Condition={"StringLike": {"aws:RequestTag/a": "b*"}})], True),
        ([statement(Condition={"Null": {"aws:RequestTag/a": "false"}})], True),
        ([statement(Condition={"Null": {"aws:RequestTag/a": True}})], False),
        ([statement(Condition={"ForAllValues:StringEquals": {"aws:RequestTag/a": ["b", "c"]}})], True),
        ([statement(Condition={"ForAnyValue:StringEquals": {"aws:RequestTag/z": "b"}})], False),
    ],
)
def test_a_policy_is_judged(documents: list[dict[str, Any]], allowed: bool) -> None:
    assert policies.allowed(NEED, documents) is allowed


def test_a_condition_that_nobody_knows_lets_nobody_in() -> None:
    with pytest.raises(NotImplementedError, match="DateLessThan"):
        policies.allowed(NEED, [statement(Condition={"DateLessThan": {"aws:RequestTag/a": "b"}})])


TAGS = [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (
            Asked("ec2", "CopyImage", "us-east-1", {"SourceImageId": "ami-1", "SourceRegion": "eu-west-1"}),
            {
                ("ec2:CopyImage", "arn:aws:ec2:us-east-1::image/*"),
                ("ec2:CopyImage", "arn:aws:ec2:us-east-1::snapshot/*"),
                ("ec2:CopyImage", "arn:aws:ec2:eu-west-1::image/ami-1"),
            },
        ),
        (
            Asked("ec2", "CreateSnapshot", "us-east-1", {"VolumeId": "vol-1", "TagSpecifications": TAGS}),
            {
                ("ec2:CreateSnapshot", "arn:aws:ec2:us-east-1::snapshot/*"),
                ("ec2:CreateSnapshot", f"arn:aws:ec2:us-east-1:{ACCOUNT}:volume/vol-1"),
                ("ec2:CreateTags", "arn:aws:ec2:us-east-1::snapshot/*"),
            },
        ),
        (Asked("ec2", "DescribeImages", "us-east-1", {"ImageId": "ami-1"}), {("ec2:DescribeImages", "*")}),
        (
            Asked("s3", "ListObjectsV2", "us-east-1", {"Bucket": "b", "Prefix": "kiln/"}),
            {("s3:ListBucket", "arn:aws:s3:::b")},
        ),
        (
            Asked("s3", "HeadObject", "us-east-1", {"Bucket": "b", "Key": "k/a"}),
            {("s3:GetObject", "arn:aws:s3:::b/k/a")},
        ),
        (
            Asked("ssm", "PutParameter", "us-east-1", {"Name": "/kiln/a"}),
            {("ssm:PutParameter", f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/kiln/a")},
        ),
        (
            Asked("ebs", "StartSnapshot", "us-east-1", {"Tags": [{"Key": "a", "Value": "b"}]}),
            {
                ("ebs:StartSnapshot", "arn:aws:ec2:us-east-1::snapshot/*"),
                ("ec2:CreateTags", "arn:aws:ec2:us-east-1::snapshot/*"),
            },
        ),
        (
            Asked("appstream", "CreateImportedImage", "us-east-1", {"Name": "n", "IamRoleArn": "arn:role"}),
            {
                ("appstream:CreateImportedImage", f"arn:aws:appstream:us-east-1:{ACCOUNT}:image/n"),
                ("iam:PassRole", "arn:role"),
            },
        ),
        (
            Asked("appstream", "AssociateFleet", "us-east-1", {"FleetName": "f", "StackName": "s"}),
            {
                ("appstream:AssociateFleet", f"arn:aws:appstream:us-east-1:{ACCOUNT}:fleet/f"),
                ("appstream:AssociateFleet", f"arn:aws:appstream:us-east-1:{ACCOUNT}:stack/s"),
            },
        ),
        (
            Asked("service-quotas", "GetServiceQuota", "us-east-1", {"ServiceCode": "ec2"}),
            {("servicequotas:GetServiceQuota", "*")},
        ),
    ],
)
def test_a_request_needs_what_aws_says(asked: Asked, wanted: set[tuple[str, str]]) -> None:
    assert {(need.action, need.resource) for need in needs.of(asked, ACCOUNT)} == wanted
