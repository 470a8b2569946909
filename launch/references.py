"""What names an AMI in a region: launch templates and who uses which version, groups, fleets, instances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from launch import names, pages
from launch.cloud import Cloud
from launch.refresh import LIVE
from launch.trouble import code, told

RESOLVED = "resolve:ssm:"
"""How a template names an AMI by a parameter."""

RUNNING = ("pending", "running", "stopping", "stopped", "shutting-down")

FLEETS = ("submitted", "active", "modifying", "failed")
"""States of an EC2 fleet that may still launch; ``failed`` has errors and goes on trying."""

SPOT_FLEETS = ("submitted", "active", "modifying")
SPOT_REQUESTS = ("open", "active")

_CHUNK = 200
"""Values that a filter of EC2 takes."""


@dataclass(frozen=True)
class Reference:
    """Something that names an AMI.

    Parameters
    ----------
    ami:
        Its id.
    kind:
        ``instance``, ``template``, ``group``, ``refresh``, ``fleet`` and so on.
    what:
        In words.
    """

    ami: str
    kind: str
    what: str


class Uses:
    """Which versions of which launch templates something uses, and AMIs that it names itself."""

    def __init__(self) -> None:
        self.versions: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
        self.direct: list[Reference] = []

    def template(self, spec: dict[str, Any] | None, kind: str, who: str) -> None:
        """Note a launch template specification as AWS writes it."""
        if not spec:
            return
        key = spec.get("LaunchTemplateId") or spec.get("LaunchTemplateName") or ""
        # Left out it is the default one (API reference, LaunchTemplateSpecification).
        self.versions[key][str(spec.get("Version") or "$Default")].append((kind, who))

    def image(self, ami: str | None, kind: str, who: str) -> None:
        """Note an AMI that is named without a template."""
        if ami:
            self.direct.append(Reference(ami, kind, who))

    def configuration(self, holder: dict[str, Any], kind: str, who: str) -> None:
        """Note what a group names, or a refresh of it: a template, or a mixed policy with overrides."""
        self.template(holder.get("LaunchTemplate"), kind, who)
        mixed = (holder.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
        self.template(mixed.get("LaunchTemplateSpecification"), kind, who)
        for override in mixed.get("Overrides") or []:
            who_else = f"{who} (override for {override.get('InstanceType') or 'its requirements'})"
            self.template(override.get("LaunchTemplateSpecification"), kind, who_else)
            self.image(override.get("ImageId"), kind, who_else)


def find(cloud: Cloud, region: str, amis: list[str]) -> list[Reference]:
    """Find what names AMIs in a region, of this account.

    Parameters
    ----------
    cloud, region:
        Where.
    amis:
        Ids of those that matter.

    Returns
    -------
    list of Reference
        Only of these AMIs.

    Raises
    ------
    KilnError
        Something could not be found out; then nothing is known to be free.
    """
    uses = Uses()
    with told(f"looking for what uses the images in {region}"):
        _groups(cloud, region, uses)
        _fleets(cloud, region, uses)
        found = [*uses.direct, *_instances(cloud, region, amis), *_templates(cloud, region, uses)]
    return [each for each in found if each.ami in amis]


def _instances(cloud: Cloud, region: str, amis: list[str]) -> Iterator[Reference]:
    """Instances, those of a warm pool too, which are stopped."""
    ec2 = cloud.client("ec2", region)
    for start in range(0, len(amis), _CHUNK):
        filters = [
            {"Name": "image-id", "Values": amis[start : start + _CHUNK]},
            {"Name": "instance-state-name", "Values": list(RUNNING)},
        ]
        for each in pages.held(pages.every(ec2, "describe_instances", "Reservations", Filters=filters)):
            group = names.read(each.get("Tags")).get("aws:autoscaling:groupName")
            state = each["State"]["Name"]
            of = f" of group {group}" if group else ""
            yield Reference(each["ImageId"], "instance", f"instance {each['InstanceId']}{of}, {state}")


def _groups(cloud: Cloud, region: str, uses: Uses) -> None:
    """Groups, and both sides of a refresh: the group has the one, the refresh names the other."""
    client = cloud.client("autoscaling", region)
    wanted: dict[str, list[str]] = defaultdict(list)
    for group in pages.every(client, "describe_auto_scaling_groups", "AutoScalingGroups"):
        name = group["AutoScalingGroupName"]
        pool = " with a warm pool" if group.get("WarmPoolConfiguration") else ""
        uses.configuration(group, "group", f"group {name}{pool}")
        if configuration := group.get("LaunchConfigurationName"):
            wanted[configuration].append(name)
        for each in pages.every(
            client, "describe_instance_refreshes", "InstanceRefreshes", AutoScalingGroupName=name
        ):
            if each["Status"] in LIVE:
                who = f"refresh {each['InstanceRefreshId']} of group {name}, {each['Status']}"
                uses.configuration(each.get("DesiredConfiguration") or {}, "refresh", who)
    if wanted:
        for each in pages.every(client, "describe_launch_configurations", "LaunchConfigurations"):
            for name in wanted.get(each["LaunchConfigurationName"], []):
                who = f"launch configuration {each['LaunchConfigurationName']} of group {name}"
                uses.image(each.get("ImageId"), "group", who)


def _fleets(cloud: Cloud, region: str, uses: Uses) -> None:
    """Fleets of EC2, and what asks for spot instances."""
    ec2 = cloud.client("ec2", region)
    for each in pages.every(ec2, "describe_fleets", "Fleets"):
        if each.get("FleetState") in FLEETS:
            _configs(each.get("LaunchTemplateConfigs"), f"EC2 fleet {each['FleetId']}", uses)
    for each in pages.every(ec2, "describe_spot_fleet_requests", "SpotFleetRequestConfigs"):
        if each.get("SpotFleetRequestState") in SPOT_FLEETS:
            who = f"spot fleet {each['SpotFleetRequestId']}"
            config = each.get("SpotFleetRequestConfig") or {}
            _configs(config.get("LaunchTemplateConfigs"), who, uses)
            for spec in config.get("LaunchSpecifications") or []:
                uses.image(spec.get("ImageId"), "fleet", who)
    for each in pages.every(ec2, "describe_spot_instance_requests", "SpotInstanceRequests"):
        if each.get("State") in SPOT_REQUESTS:
            who = f"spot request {each['SpotInstanceRequestId']}"
            uses.image((each.get("LaunchSpecification") or {}).get("ImageId"), "fleet", who)


def _configs(configs: list[dict[str, Any]] | None, who: str, uses: Uses) -> None:
    for config in configs or []:
        uses.template(config.get("LaunchTemplateSpecification"), "fleet", who)
        for override in config.get("Overrides") or []:
            uses.image(override.get("ImageId"), "fleet", who)


def _templates(cloud: Cloud, region: str, uses: Uses) -> Iterator[Reference]:
    """Versions of launch templates in use: those that something names, and the default and latest of each.

    Anybody may launch from a template without naming a version, so its default and its latest are in use
    whether or not we see by whom.
    """
    ec2 = cloud.client("ec2", region)
    for template in pages.every(ec2, "describe_launch_templates", "LaunchTemplates"):
        key, name = template["LaunchTemplateId"], template["LaunchTemplateName"]
        named = uses.versions.get(key, {}), uses.versions.get(name, {})
        numbers: dict[int, list[tuple[str, str]]] = defaultdict(list)
        marks = {
            "$Default": int(template["DefaultVersionNumber"]),
            "$Latest": int(template["LatestVersionNumber"]),
        }
        for word, number in marks.items():
            numbers[number].append(("template", f"its {word.removeprefix('$').lower()} version"))
        for mapping in named:
            for version, users in mapping.items():
                if version in marks or version.isdecimal():
                    numbers[marks.get(version) or int(version)] += users
        for each in pages.every(
            ec2, "describe_launch_template_versions", "LaunchTemplateVersions", LaunchTemplateId=key
        ):
            users = numbers.get(each["VersionNumber"], [])
            ami = (each.get("LaunchTemplateData") or {}).get("ImageId") or ""
            if users and ami.startswith(RESOLVED):
                ami = _resolved(cloud, region, ami.removeprefix(RESOLVED))
            for kind, who in users:
                what = f"version {each['VersionNumber']} of launch template {name}, "
                yield Reference(ami, kind, what + (who if kind == "template" else f"which {who} names"))


def _resolved(cloud: Cloud, region: str, parameter: str) -> str:
    try:
        value: str = cloud.client("ssm", region).get_parameter(Name=parameter)["Parameter"]["Value"]
    except ClientError as error:
        if code(error) in ("ParameterNotFound", "ParameterVersionNotFound"):
            return ""
        raise
    return value
