"""What a request needs of IAM: its action, the resources that it names, and what conditions may ask of it.

After the service authorization reference
(https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html),
for the operations of a launcher; where a service knows resources that are not listed here, the need is for
``*``.
"""

from __future__ import annotations

from typing import Any

from moto.ec2.models import ec2_backends

from tests.emulator import ec2, keys
from tests.emulator.policies import Need
from tests.emulator.recorder import READING
from tests.emulator.understand import Asked

PREFIX = {
    "elbv2": "elasticloadbalancing",
    "elb": "elasticloadbalancing",
    "service-quotas": "servicequotas",
    "efs": "elasticfilesystem",
}
"""Service as boto3 names it → as IAM does, where the two differ."""

S3_ACTIONS = {
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "ListBuckets": "ListAllMyBuckets",
}
"""Operation of S3 → its action, where the two differ."""

EC2_ARNS = {
    "ImageId": "arn:aws:ec2:{region}::image/{id}",
    "SourceImageId": "arn:aws:ec2:{source}::image/{id}",
    "SnapshotId": "arn:aws:ec2:{region}::snapshot/{id}",
    "SourceSnapshotId": "arn:aws:ec2:{source}::snapshot/{id}",
    "InstanceId": "arn:aws:ec2:{region}:{account}:instance/{id}",
    "InstanceIds": "arn:aws:ec2:{region}:{account}:instance/{id}",
    "VolumeId": "arn:aws:ec2:{region}:{account}:volume/{id}",
    "LaunchTemplateId": "arn:aws:ec2:{region}:{account}:launch-template/{id}",
    "GroupId": "arn:aws:ec2:{region}:{account}:security-group/{id}",
    "KeyName": "arn:aws:ec2:{region}:{account}:key-pair/{id}",
    "SubnetId": "arn:aws:ec2:{region}:{account}:subnet/{id}",
    "SecurityGroupIds": "arn:aws:ec2:{region}:{account}:security-group/{id}",
}
"""Parameter of EC2 → ARN of what it names."""

EC2_KINDS = {
    "ami": "arn:aws:ec2:{region}::image/{id}",
    "snap": "arn:aws:ec2:{region}::snapshot/{id}",
    "i": "arn:aws:ec2:{region}:{account}:instance/{id}",
    "vol": "arn:aws:ec2:{region}:{account}:volume/{id}",
    "lt": "arn:aws:ec2:{region}:{account}:launch-template/{id}",
    "sg": "arn:aws:ec2:{region}:{account}:security-group/{id}",
}
"""Beginning of an id → ARN, for CreateTags and DeleteTags."""

EC2_NEW = {
    "RegisterImage": ("image",),
    "CopyImage": ("image", "snapshot"),
    "CreateImage": ("image", "snapshot"),
    "CreateSnapshot": ("snapshot",),
    "CopySnapshot": ("snapshot",),
    "CreateVolume": ("volume",),
    "CreateLaunchTemplate": ("launch-template",),
    "CreateSecurityGroup": ("security-group",),
    "CreateKeyPair": ("key-pair",),
    "RunInstances": ("instance", "volume", "network-interface"),
}
"""Operation → kinds of what it makes."""

OWNERLESS = ("image", "snapshot")
"""Kinds whose ARN has no account."""

APPSTREAM = (
    ("ImageBuilder", "image-builder"),
    ("AppBlock", "app-block"),
    ("Application", "application"),
    ("Image", "image"),
    ("Fleet", "fleet"),
    ("Stack", "stack"),
)
"""Word in the name of an operation → kind of the resource that its Name is of."""


def of(asked: Asked, account: str) -> list[Need]:
    """What a request needs, one for each resource.

    Parameters
    ----------
    asked:
        The request.
    account:
        Whose it is.
    """
    service = PREFIX.get(asked.service, asked.service)
    operation = S3_ACTIONS.get(asked.operation, asked.operation) if asked.service == "s3" else asked.operation
    found = RESOURCES.get(asked.service, lambda *_: [])(asked, account) or ["*"]
    context = _context(asked, account)
    needs = [
        Need(f"{service}:{operation}", arn, context | _tags_of(arn, account, asked.region)) for arn in found
    ]
    return (
        needs
        + _tagging(asked, account, context)
        + _passing(asked, account, context)
        + _launching(asked, account)
    )


def _context(asked: Asked, account: str) -> dict[str, tuple[str, ...]]:
    context = {
        "aws:requestedregion": (asked.region,),
        "aws:principalaccount": (account,),
        "aws:securetransport": ("true",),
    }
    tags = asked_tags(asked.params)
    context |= {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    if tags:
        context["aws:tagkeys"] = tuple(tags)
    if asked.service == "s3" and asked.params.get("Prefix") is not None:
        context["s3:prefix"] = (asked.params["Prefix"],)
    if asked.service == "cloudwatch" and asked.params.get("Namespace"):
        context["cloudwatch:namespace"] = (asked.params["Namespace"],)
    return context


def asked_tags(params: dict[str, Any]) -> dict[str, str]:
    """Tags that a request gives, whichever way its service takes them."""
    listed = list(params.get("Tags") or []) if isinstance(params.get("Tags"), list) else []
    for spec in params.get("TagSpecifications") or []:
        listed += spec.get("Tags", [])
    tags = {tag["Key"]: tag.get("Value") or "" for tag in listed if isinstance(tag, dict) and "Key" in tag}
    return tags | params["Tags"] if isinstance(params.get("Tags"), dict) else tags


def _tags_of(arn: str, account: str, region: str) -> dict[str, tuple[str, ...]]:
    """Tags of an existing resource of EC2 or an Auto Scaling group, as conditions name them."""
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[2] not in ("ec2", "autoscaling"):
        return {}
    if parts[2] == "autoscaling":
        from moto.autoscaling.models import autoscaling_backends

        group = autoscaling_backends[account][region].autoscaling_groups.get(arn.rpartition("/")[2])
        given = {str(tag.get("Key")): str(tag.get("Value")) for tag in group.tags} if group else {}
        names = ("aws:resourcetag", "autoscaling:resourcetag")
    else:
        given = ec2.tags_of(ec2_backends[account][parts[3] or region], arn.rpartition("/")[2])
        names = ("aws:resourcetag", "ec2:resourcetag")
    return {f"{name}/{key.lower()}": (value,) for name in names for key, value in given.items()}


def _tagging(asked: Asked, account: str, context: dict[str, tuple[str, ...]]) -> list[Need]:
    """Who makes something with tags needs to be let to tag it."""
    more = context | {"ec2:createaction": (asked.operation,)}
    if asked.service == "ebs" and asked.params.get("Tags"):
        return [Need("ec2:CreateTags", f"arn:aws:ec2:{asked.region}::snapshot/*", more)]
    if asked.service != "ec2" or asked.operation in ("CreateTags", "DeleteTags"):
        return []
    kinds = {spec.get("ResourceType") for spec in asked.params.get("TagSpecifications") or []}
    return [
        Need("ec2:CreateTags", _new(kind, asked.region, account), more)
        for kind in sorted(filter(None, kinds))
    ]


def _passing(asked: Asked, account: str, context: dict[str, tuple[str, ...]]) -> list[Need]:
    """Who gives a role to something needs to be let to pass it."""
    params = asked.params
    if asked.service == "appstream":
        role = params.get("IamRoleArn") or params.get("RoleArn")
        more = context | {"iam:passedtoservice": ("appstream.amazonaws.com",)}
        return [Need("iam:PassRole", role, more)] if role else []
    profile = params.get("IamInstanceProfile") if asked.operation == "RunInstances" else None
    if not profile:
        return []
    name = profile.get("Name") or profile.get("Arn", "").rpartition("/")[2]
    from moto.iam.models import iam_backends

    found = next((p for p in iam_backends[account]["aws"].instance_profiles.values() if p.name == name), None)
    more = context | {"iam:passedtoservice": ("ec2.amazonaws.com",)}
    return [Need("iam:PassRole", role.arn, more) for role in (found.roles if found else [])]


def _launching(asked: Asked, account: str) -> list[Need]:
    """Auto Scaling asks whether who gives a group a launch template may start instances from it."""
    template = asked.params.get("LaunchTemplate") if asked.service == "autoscaling" else None
    if asked.operation not in ("CreateAutoScalingGroup", "UpdateAutoScalingGroup") or not template:
        return []
    identity = template.get("LaunchTemplateId")
    if not identity:
        known = ec2_backends[account][asked.region].launch_template_name_to_ids
        identity = known.get(template.get("LaunchTemplateName"), "*")
    arn = f"arn:aws:ec2:{asked.region}:{account}:launch-template/{identity}"
    return [Need("ec2:RunInstances", arn, {"aws:requestedregion": (asked.region,)})]


def _new(kind: str, region: str, account: str) -> str:
    return f"arn:aws:ec2:{region}:{'' if kind in OWNERLESS else account}:{kind}/*"


def _ec2(asked: Asked, account: str) -> list[str]:
    if asked.operation.startswith(READING):
        return []
    params, region = asked.params, asked.region
    given = {"region": region, "account": account, "source": params.get("SourceRegion", region)}
    found = [_new(kind, region, account) for kind in EC2_NEW.get(asked.operation, ())]
    for resource in params.get("Resources") or []:
        pattern = EC2_KINDS.get(resource.split("-", 1)[0])
        found.append(pattern.format(id=resource, **given) if pattern else "*")
    for name, pattern in EC2_ARNS.items():
        value = params.get(name)
        for each in value if isinstance(value, list) else [value] if isinstance(value, str) else []:
            found.append(pattern.format(id=each, **given))
    if params.get("LaunchTemplateName") and asked.operation != "CreateLaunchTemplate":
        known = ec2_backends[account][region].launch_template_name_to_ids
        identity = known.get(params["LaunchTemplateName"], "*")
        found.append(EC2_ARNS["LaunchTemplateId"].format(id=identity, **given))
    for mapping in params.get("BlockDeviceMappings") or []:
        if snapshot := (mapping.get("Ebs") or {}).get("SnapshotId"):
            found.append(EC2_ARNS["SnapshotId"].format(id=snapshot, **given))
    return found


def _s3(asked: Asked, _: str) -> list[str]:
    bucket, key = asked.params.get("Bucket"), asked.params.get("Key")
    if not bucket:
        return []
    return [f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"]


def _ssm(asked: Asked, account: str) -> list[str]:
    params = asked.params
    names = params.get("Names") or [params.get("Name") or params.get("Path") or params.get("ResourceId")]
    start = f"arn:aws:ssm:{asked.region}:{account}:parameter/"
    return [start + str(name).lstrip("/") for name in names if name and "/" in str(name)]


def _autoscaling(asked: Asked, account: str) -> list[str]:
    if asked.operation.startswith(READING):
        return []
    name = asked.params.get("AutoScalingGroupName") or _group_of(asked, account)
    if not name:
        return []
    return [f"arn:aws:autoscaling:{asked.region}:{account}:autoScalingGroup:*:autoScalingGroupName/{name}"]


def _group_of(asked: Asked, account: str) -> str:
    """SetInstanceHealth and its like name an instance, and are allowed by its group."""
    from moto.autoscaling.models import autoscaling_backends

    wanted = asked.params.get("InstanceId")
    groups = autoscaling_backends[account][asked.region].autoscaling_groups.values()
    found = (group for group in groups for state in group.instance_states if state.instance.id == wanted)
    return next((str(group.name) for group in found), "")


def _ebs(asked: Asked, _: str) -> list[str]:
    return [f"arn:aws:ec2:{asked.region}::snapshot/{asked.params.get('SnapshotId', '*')}"]


def _kms(asked: Asked, account: str) -> list[str]:
    wanted = asked.params.get("KeyId")
    key = keys.find(account, asked.region, wanted) if wanted else None
    return [key.arn] if key else []


def _appstream(asked: Asked, account: str) -> list[str]:
    params = asked.params
    if asked.operation.startswith(READING):
        return []
    kind = next((kind for word, kind in APPSTREAM if word in asked.operation), "")
    named = {
        kind: params.get("Name"),
        "fleet": params.get("FleetName") or (params.get("Name") if kind == "fleet" else None),
        "stack": params.get("StackName") or (params.get("Name") if kind == "stack" else None),
        "image": params.get("ImageName") or (params.get("Name") if kind == "image" else None),
    }
    start = f"arn:aws:appstream:{asked.region}:{account}"
    found = [f"{start}:{what}/{name}" for what, name in sorted(named.items()) if what and name]
    return found or ([params["ResourceArn"]] if params.get("ResourceArn") else [])


def _iam(asked: Asked, account: str) -> list[str]:
    params = asked.params
    for parameter, kind in (("RoleName", "role"), ("InstanceProfileName", "instance-profile")):
        if params.get(parameter):
            return [f"arn:aws:iam::{account}:{kind}/{params[parameter]}"]
    return []


def _secrets(asked: Asked, account: str) -> list[str]:
    wanted = asked.params.get("SecretId") or asked.params.get("Name")
    if not wanted or wanted.startswith("arn:"):
        return [wanted] if wanted else []
    return [f"arn:aws:secretsmanager:{asked.region}:{account}:secret:{wanted}-AbCdEf"]


RESOURCES: dict[str, Any] = {
    "ec2": _ec2,
    "s3": _s3,
    "ssm": _ssm,
    "autoscaling": _autoscaling,
    "ebs": _ebs,
    "kms": _kms,
    "appstream": _appstream,
    "iam": _iam,
    "secretsmanager": _secrets,
}
"""Service → ARNs of what a request names."""
