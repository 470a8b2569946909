"""An account before kiln comes, and a kiln.toml that fits it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCOUNT = "111122223333"
OTHER = "222233334444"
REGION = "us-east-1"
REGIONS = ("us-east-1", "eu-west-1")
BUCKET = f"kiln-records-{ACCOUNT}"
ROOT = Path(__file__).parents[2]

KILN_TOML = f"""
[project]
name = "kiln"
owner = "imaging-platform"
bucket = "{BUCKET}"

[image.monai-label]
playbook = "{ROOT}/ansible/playbooks/monai_label.yml"
template = "{ROOT}/packer/monai-label"
app = "radiology"
models = ["segmentation_spleen"]
weights = "random"
driver = "debian"
instance_types = ["g5.xlarge", "g4dn.xlarge"]
root_gb = 40

[image.monai-label.publish]
regions = ["us-east-1", "eu-west-1"]
share_with = ["{OTHER}"]
kms_key = "alias/kiln"
deprecate_after_days = 90
keep = 5

[image.slicer]
playbook = "{ROOT}/ansible/playbooks/monai_label.yml"
template = "{ROOT}/packer/monai-label"

[image.slicer.publish]
regions = ["us-east-1"]
encrypt = false

[target.annotators]
image = "monai-label"
channel = "stable"
region = "us-east-1"
group = "kiln-annotators"
min_healthy = 100
max_healthy = 200
checkpoints = [20, 50, 100]
checkpoint_minutes = 10
bake_minutes = 10
alarms = ["kiln-annotators-5xx"]
settings = {{ studies = "/mnt/studies/spleen" }}

[target.readers]
image = "slicer"
channel = "stable"
region = "us-east-1"
fleet = "kiln-readers"
stack = "kiln-readers"

[[waiver]]
check = "driver-support"
reason = "535 is what Debian 12 ships; 580 on AWS from the next release"
until = 2099-12-31
"""


@dataclass(frozen=True)
class Seeded:
    """What an account has before kiln comes.

    Parameters
    ----------
    image:
        A Debian AMI of ours that the group runs.
    template:
        Id of the launch template, whose version 1 names the image.
    group:
        Name of the Auto Scaling group.
    subnets, vpc, security_group, target_group, alarm, bucket:
        Ids, ARN and names of the rest.
    keys:
        Region → ARN of the key behind ``alias/kiln``.
    """

    image: str
    template: str
    group: str
    subnets: tuple[str, ...]
    vpc: str
    security_group: str
    target_group: str
    alarm: str
    bucket: str
    keys: dict[str, str]


def seed(client: Callable[..., Any]) -> Seeded:
    """Make a VPC with two subnets, a target group, a group of four with a template, a bucket and keys."""
    ec2, elb = client("ec2"), client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    zones = [f"{REGION}a", f"{REGION}b"]
    subnets = tuple(
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{n}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for n, zone in enumerate(zones)
    )
    security = ec2.create_security_group(GroupName="kiln-annotators", Description="server", VpcId=vpc)[
        "GroupId"
    ]
    balancer = elb.create_load_balancer(Name="kiln-annotators", Subnets=list(subnets), Scheme="internal")
    balancer_arn = balancer["LoadBalancers"][0]["LoadBalancerArn"]
    targets = elb.create_target_group(
        Name="kiln-annotators", Protocol="HTTP", Port=80, VpcId=vpc, HealthCheckPath="/readyz"
    )["TargetGroups"][0]["TargetGroupArn"]
    forward = [{"Type": "forward", "TargetGroupArn": targets}]
    elb.create_listener(LoadBalancerArn=balancer_arn, Protocol="HTTP", Port=80, DefaultActions=forward)
    snapshot = new_snapshot(ec2, REGION, 8, [])
    image = ec2.register_image(
        Name="kiln-first",
        Architecture="x86_64",
        BootMode="uefi",
        EnaSupport=True,
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3"}}
        ],
    )["ImageId"]
    available(ec2, image)
    template = ec2.create_launch_template(
        LaunchTemplateName="kiln-annotators",
        LaunchTemplateData={
            "ImageId": image,
            "InstanceType": "g5.xlarge",
            "SecurityGroupIds": [security],
            "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": [{"Key": "service", "Value": "annotators"}]}
            ],
        },
    )["LaunchTemplate"]["LaunchTemplateId"]
    client("cloudwatch").put_metric_alarm(
        AlarmName="kiln-annotators-5xx",
        Namespace="AWS/ApplicationELB",
        MetricName="HTTPCode_Target_5XX_Count",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
    )
    client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="kiln-annotators",
        LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
        MinSize=0,
        MaxSize=10,
        DesiredCapacity=4,
        VPCZoneIdentifier=",".join(subnets),
        TargetGroupARNs=[targets],
        HealthCheckType="EC2",
    )
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    keys = {region: shared_key(client("kms", region)) for region in REGIONS}
    return Seeded(
        image=image,
        template=template,
        group="kiln-annotators",
        subnets=subnets,
        vpc=vpc,
        security_group=security,
        target_group=targets,
        alarm="kiln-annotators-5xx",
        bucket=BUCKET,
        keys=keys,
    )


def shared_key(kms: Any, alias: str = "alias/kiln") -> str:
    """Make a customer key that our account, the other one and both their Auto Scaling roles may use."""
    roles = [
        f"arn:aws:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
        for account in (ACCOUNT, OTHER)
    ]
    use = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
    accounts = [f"arn:aws:iam::{account}:root" for account in (ACCOUNT, OTHER)]
    statements = [
        _allow(accounts[:1], ["kms:*"]),
        _allow([*accounts[1:], *roles], [*use, "kms:CreateGrant"]),
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    key: str = kms.create_key(Policy=policy)["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName=alias, TargetKeyId=key)
    return key


def _allow(principals: list[str], actions: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": actions, "Resource": "*"}


def until(look: Callable[[], bool]) -> None:
    """Look until it is so; what is new is described as pending for a while."""
    for _ in range(20):
        if look():
            return
    raise AssertionError("it does not come to be")


def new_snapshot(ec2: Any, region: str, size: int, tags: list[dict[str, str]], **volume: Any) -> str:
    """Make a snapshot of a new volume, and wait for it; returns its id.

    Parameters
    ----------
    ec2, region:
        Where.
    size:
        In GiB.
    tags:
        Of the snapshot.
    volume:
        More of the volume: its encryption.
    """
    made = ec2.create_volume(AvailabilityZone=f"{region}a", Size=size, **volume)["VolumeId"]
    tagged = {"TagSpecifications": [{"ResourceType": "snapshot", "Tags": tags}]} if tags else {}
    found: str = ec2.create_snapshot(VolumeId=made, **tagged)["SnapshotId"]
    ec2.delete_volume(VolumeId=made)
    until(lambda: ec2.describe_snapshots(SnapshotIds=[found])["Snapshots"][0]["State"] == "completed")
    return found


def available(ec2: Any, image: str) -> None:
    """Wait for an AMI."""
    until(lambda: ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available")
