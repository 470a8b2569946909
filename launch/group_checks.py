"""What must hold before a group is rolled over: each check adds its refusal, or a note, to the plan.

What cannot be found out is refused, or ends the command; it never passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from kiln import compat
from kiln.config import Config, GroupTarget
from kiln.manifest import Demand
from launch import group as groups
from launch import key as keys
from launch import pages
from launch import template as templates
from launch.cloud import Cloud
from launch.group import Group
from launch.plan import Plan
from launch.records import Records
from launch.release import Release
from launch.template import Version
from launch.trouble import code, told


class Quota(NamedTuple):
    """A class of instance types that share a quota of vCPUs.

    Parameters
    ----------
    families:
        Matches the instance family, the part before the dot.
    name:
        As Service Quotas calls it.
    on_demand, spot:
        Codes of the quotas.
    """

    families: re.Pattern[str]
    name: str
    on_demand: str
    spot: str


QUOTAS = (
    Quota(re.compile(r"(g|gr|vt)\d\w*"), "G and VT", "L-DB2E81BA", "L-3819A6DF"),
    Quota(re.compile(r"p\d\w*"), "P", "L-417A185B", "L-7212CCBC"),
    Quota(
        re.compile(r"(a|c|d|h|i|im|is|m|r|t|z)\d\w*"),
        "Standard (A, C, D, H, I, M, R, T, Z)",
        "L-1216C47A",
        "L-34B43A08",
    ),
)
"""Quotas of running instances, in vCPUs (EC2 user guide, Amazon EC2 service quotas)."""


def types(group: Group, base: Version, plan: Plan) -> list[str]:
    """Return the instance types that a group may launch.

    Parameters
    ----------
    group, base:
        The group, and the version of its template.
    plan:
        Is refused where AWS would choose types by requirements: nobody can say which those would be.
    """
    named = [each.get("InstanceType") for each in group.overrides] or [base.data.get("InstanceType")]
    if None in named:
        plan.refuse(
            "instance-types",
            f"{group.name} lets AWS choose instance types by requirements: what they would have is not known",
            "name instance types in the mixed instances policy, or in the launch template",
        )
    return sorted({str(each) for each in named if each})


def shape(group: Group, base: Version, plan: Plan) -> None:
    """Refuse a group that a refresh cannot roll over, and note what it waits for."""
    for process in groups.NEEDED:
        if process in group.suspended:
            plan.refuse(
                "suspended",
                f"the process {process} of {group.name} is suspended: a refresh needs it",
                f"aws autoscaling resume-processes --auto-scaling-group-name {group.name}",
            )
    for each in group.overrides:
        if each.get("LaunchTemplateSpecification"):
            plan.refuse(
                "mixed-templates",
                f"{each.get('InstanceType')} in the mixed policy of {group.name} has a template of its own",
                "take it out of the policy: one target runs one image",
            )
    if market := base.data.get("InstanceMarketOptions", {}).get("MarketType"):
        plan.notes.append(f"the launch template asks for {market} instances")
    protected = [each.id for each in group.instances if each.protected]
    if protected:
        plan.notes.append(
            f"{len(protected)} of {len(group.instances)} instances are protected from scale-in, as those that"
            f" train are: the refresh waits for them, and after an hour fails and rolls back"
            f" ({', '.join(protected)})"
        )
    standby = [each.id for each in group.instances if each.lifecycle == "Standby"]
    if standby:
        plan.notes.append(f"the refresh waits for instances in standby: {', '.join(standby)}")
    if group.warm_pool is not None:
        plan.notes.append(f"the warm pool of {len(group.warm)} is kept and refreshed too")


def image(records: Records, release: Release, plan: Plan) -> None:
    """Refuse an image that nobody should run, and note one that EC2 calls deprecated."""
    # The record is written before the AMI is marked.
    revoked = records.revocation(release.image, release.version)
    trouble = release.machine.trouble or (f"revoked: {revoked.why}" if revoked is not None else None)
    if trouble is not None:
        plan.refuse(
            "revoked" if trouble.startswith("revoked") else "image-state",
            f"{release} ({release.ami}) is {trouble}",
            "run another version: kiln status lists what the channels name",
        )
    deprecated = release.machine.deprecated
    if deprecated is not None and deprecated <= datetime.now(UTC):
        plan.notes.append(f"{release} is deprecated since {deprecated:%Y-%m-%d}: a newer bake is due")


def goes_together(
    config: Config, target: GroupTarget, release: Release, wanted: Sequence[str], plan: Plan
) -> None:
    """Judge the image's driver, CUDA and torch for the instance types that the group really has."""
    demand = Demand(instance_types=list(wanted), waivers=config.demand(target.image).waivers)
    verdicts = compat.judge(
        compat.Stack.of(release.manifest.facts), demand, datetime.now(UTC).date(), target.channel
    )
    plan.facts["compat"] = [
        {"check": each.name, "outcome": each.outcome, "says": each.sentence} for each in verdicts
    ]
    for each in verdicts:
        if each.outcome == "refused":
            what, _, remedy = each.sentence.partition(": ")
            plan.refuse(each.name, what, remedy or "bake an image that suits, or change the group's types")
        elif each.outcome != "passed":
            plan.notes.append(f"{each.name}: {each.sentence}")
    passed = sum(each.outcome == "passed" for each in verdicts)
    plan.notes.append(
        f"compat for {', '.join(wanted) or 'no instance type'}: {passed} of {len(verdicts)} passed"
    )
    if strange := sorted(set(wanted) - set(config.select(target.image).instance_types)):
        plan.notes.append(
            f"the group has instance types that kiln.toml does not name for {target.image}:"
            f" {', '.join(strange)}"
        )


def alarms(cloud: Cloud, target: GroupTarget, plan: Plan) -> None:
    """Refuse alarms that are not there, or that would roll the refresh back at once."""
    if not target.alarms:
        return
    with told("reading the alarms"):
        answer = cloud.client("cloudwatch", target.region).describe_alarms(
            AlarmNames=target.alarms, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
    states = {
        each["AlarmName"]: each["StateValue"]
        for each in [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
    }
    plan.facts["alarms"] = {name: states.get(name) for name in target.alarms}
    for name in target.alarms:
        if name not in states:
            plan.refuse(
                "alarm",
                f"there is no alarm {name} in {target.region}",
                f"make it, or take it out of alarms of [target] {target.group}",
            )
        elif states[name] == "ALARM":
            plan.refuse(
                "alarm",
                f"the alarm {name} is in ALARM now: the refresh would roll back at once",
                "see to what it says first",
            )


def quota(cloud: Cloud, group: Group, target: GroupTarget, wanted: Sequence[str], plan: Plan) -> None:
    """Refuse where the account may not run as many vCPUs as the refresh needs for a while.

    New instances start before old ones end: up to ``max_healthy`` percent of the group run at once. Each is
    counted with the vCPUs of the largest type that the group may launch.
    """
    most = math.ceil(group.desired * target.max_healthy / 100)
    more = max(0, most - len(group.instances))
    if not wanted or not more:
        return
    spot = _spot_share(group)
    sizes = _vcpus(cloud, target.region, wanted)
    counted: list[dict[str, Any]] = []
    for kind in QUOTAS:
        mine = [each for each in wanted if kind.families.fullmatch(each.partition(".")[0])]
        if not mine:
            continue
        largest = max(sizes[each] for each in mine)
        shares = ((False, kind.on_demand, 1 - spot), (True, kind.spot, spot))
        for is_spot, number, share in shares:
            needs = math.ceil(more * share) * largest
            if not needs:
                continue
            limit = _limit(cloud, target.region, number)
            used = _used(cloud, target.region, kind, is_spot)
            name = f"{'Spot' if is_spot else 'On-Demand'} {kind.name}"
            counted.append({"quota": number, "name": name, "limit": limit, "used": used, "needs_more": needs})
            if used + needs > limit:
                plan.refuse(
                    "vcpu-quota",
                    f"{math.ceil(more * share)} instances more at once need {needs} vCPUs of {name} in "
                    f"{target.region}: {used} of {limit:.0f} are in use",
                    f"ask for more (Service Quotas, EC2, {number}), or lower max_healthy of the target",
                )
    plan.facts["quota"] = counted
    if unknown := [each for each in wanted if not any(_of(kind, each) for kind in QUOTAS)]:
        plan.refuse(
            "vcpu-quota",
            f"no quota of vCPUs is known for {', '.join(unknown)}",
            "add its class to QUOTAS of launch/group_checks.py with AWS's code",
        )


def _of(kind: Quota, name: str) -> bool:
    return kind.families.fullmatch(name.partition(".")[0]) is not None


def _spot_share(group: Group) -> float:
    """Share of new instances that are spot, by the mixed policy; on demand where it does not say."""
    spread = (group.mixed or {}).get("InstancesDistribution") or {}
    above = spread.get("OnDemandPercentageAboveBaseCapacity")
    return 1 - (100 if above is None else above) / 100


def _vcpus(cloud: Cloud, region: str, names: Iterable[str]) -> dict[str, int]:
    wanted = sorted(set(names))
    unknown = {"InvalidInstanceType": f"{region} has no such type: correct the group's instance types"}
    with told(f"asking for the vCPUs of {', '.join(wanted)}", unknown):
        ec2 = cloud.client("ec2", region)
        types = pages.every(ec2, "describe_instance_types", "InstanceTypes", InstanceTypes=wanted)
        return {each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"] for each in types}


def _used(cloud: Cloud, region: str, kind: Quota, spot: bool) -> int:
    """VCPUs that the account runs now of a class."""
    with told(f"counting the instances in {region}"):
        live = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        found = [
            each
            for each in pages.held(
                pages.every(cloud.client("ec2", region), "describe_instances", "Reservations", Filters=live)
            )
            if _of(kind, each["InstanceType"]) and (each.get("InstanceLifecycle") == "spot") == spot
        ]
    bare = [each["InstanceType"] for each in found if not each.get("CpuOptions", {}).get("CoreCount")]
    sizes = _vcpus(cloud, region, bare) if bare else {}
    total = 0
    for each in found:
        options = each.get("CpuOptions", {})
        cores = options.get("CoreCount", 0) * options.get("ThreadsPerCore", 1)
        total += cores or sizes[each["InstanceType"]]
    return total


def _limit(cloud: Cloud, region: str, number: str) -> float:
    client = cloud.client("service-quotas", region)
    with told(f"asking for the quota {number} in {region}"):
        try:
            answer = client.get_service_quota(ServiceCode="ec2", QuotaCode=number)
        except ClientError as error:
            if code(error) != "NoSuchResourceException":
                raise
            # Never raised for this account: AWS's default counts.
            answer = client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=number)
    return float(answer["Quota"]["Value"])


def may_launch(
    cloud: Cloud, region: str, base: Version, release: Release, wanted: Sequence[str], plan: Plan
) -> None:
    """Ask EC2 by DryRun whether this operator may launch the image from the template.

    Auto Scaling asks the same of whoever names a launch template (Auto Scaling user guide, Control EC2 launch
    template usage).
    """
    arguments: dict[str, Any] = {
        "LaunchTemplate": {"LaunchTemplateId": base.template, "Version": str(base.number)},
        "ImageId": release.ami,
        "MinCount": 1,
        "MaxCount": 1,
    }
    if wanted:
        arguments["InstanceType"] = wanted[0]
    with told(f"asking whether {release.ami} may be launched"):
        refused = templates.dry_run(cloud.client("ec2", region).run_instances, **arguments)
    if refused:
        plan.refuse(
            "may-launch",
            f"EC2 would not launch {release.ami} from {base.name} version {base.number}: {refused}",
            "let the operator's role do it (launch/policies/), or correct the launch template",
        )


def may_make(
    cloud: Cloud, region: str, base: Version, wanted: dict[str, Any], description: str, plan: Plan
) -> None:
    """Ask EC2 by DryRun whether this operator may make the version of the template."""
    if refused := templates.may_make(cloud, region, base, wanted, description):
        plan.refuse(
            "may-make-version",
            f"EC2 would not make a version of {base.name}: {refused}",
            "let the operator's role do it: launch/policies/ has what kiln needs",
        )


@dataclass(frozen=True)
class _GroupKey(keys.Key):
    """A key, judged for the role of one group, which may be another than Auto Scaling's usual one."""

    service_role: str | None

    def role(self, account: str) -> str:
        return self.service_role or super().role(account)


def key(cloud: Cloud, group: Group, release: Release, plan: Plan) -> None:
    """Refuse where Auto Scaling may not use a key of the image: the group could launch nothing."""
    if not release.machine.encrypted:
        return
    with told(f"reading the snapshots of {release.ami}"):
        found = cloud.client("ec2", group.region).describe_snapshots(
            SnapshotIds=sorted(release.machine.snapshots.values())
        )["Snapshots"]
    for name in sorted(
        {each["KmsKeyId"] for each in found if each.get("Encrypted") and each.get("KmsKeyId")}
    ):
        there, refusal = keys.find(cloud, group.region, name)
        refusals = [refusal] if refusal is not None else []
        if there is not None and there.customer:
            mine = _GroupKey(there.arn, there.region, there.customer, group.service_role)
            refusals += keys.judge(cloud, mine, [cloud.account])
        for each in refusals:
            plan.refuse(each.check, each.what, each.hint)
