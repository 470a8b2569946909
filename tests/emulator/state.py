"""All resources in a form in which two ends can be compared: names for ids, no times, sorted.

Each module adds its kind of resource by ``control.state``; here is what moto itself keeps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.emulator import control, ec2


def backends(service: str) -> Iterator[tuple[str, str, Any]]:
    """Account, region and backend of a service, as far as they were used."""
    from moto.backends import get_backend

    found = get_backend(service)  # type: ignore[call-overload]
    for account in sorted(found):
        for region in sorted(found[account].keys()):
            yield account, region, found[account][region]


def of_ec2(attribute: str, describe: Callable[[Any, Any], tuple[str, Any] | None]) -> dict[str, Any]:
    """Describe what EC2's backends keep under an attribute.

    Parameters
    ----------
    attribute:
        Name of a mapping of the backend.
    describe:
        Of a backend and a resource: its name and what it is, None for one that is not to be seen.
    """
    found: dict[str, Any] = {}
    for account, region, backend in backends("ec2"):
        for resource in list(getattr(backend, attribute).values()):
            described = describe(backend, resource)
            if described:
                put(found, f"{account}/{region}/{described[0]}", described[1])
    return found


ID = re.compile(r"\b(ami|snap|i|vol|lt|sg|subnet|vpc|eni|rtb|igw|r|key|fleet)-[0-9a-f]{8,17}\b")
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
STAMP = re.compile(r"\b\d{8}T\d{6}Z(?!-[0-9a-f]{8}\b(?!T))")
"""A time in a key of S3; one that is a version's name is followed by eight digits of its inputs."""
MOMENT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
RUN = {"run", "run_id", "token", "seconds", "expires", "etag", "kiln:run"}
"""Keys whose values are another run's every time."""


def normal(value: Any) -> Any:
    """A value without ids, times and names of runs."""
    if isinstance(value, dict):
        return {
            normal(str(k)): "*" if str(k) in RUN else normal(v) for k, v in sorted(value.items(), key=str)
        }
    if isinstance(value, list | tuple):
        return [normal(each) for each in value]
    if not isinstance(value, str):
        return value
    for pattern, put_ in ((ID, r"\1-*"), (UUID, "uuid"), (STAMP, "time"), (MOMENT, "time")):
        value = pattern.sub(put_, value)
    return value


def all_of_it(*, raw: bool = False) -> dict[str, Any]:
    """Every kind of resource: kind → ``account/region/name`` → what it is.

    Parameters
    ----------
    raw:
        With ids and times, for a person who looks for something.
    """
    found: dict[str, Any] = {}
    for kind, function in sorted(control.STATES.items()):
        found[kind] = {}
        for name, what in function().items():
            put(found[kind], name if raw else normal(name), what if raw else normal(what))
    return found


def put(found: dict[str, Any], name: str, what: Any) -> None:
    """Add a resource; of several with one name each is kept."""
    number, key = 1, name
    while key in found:
        number += 1
        key = f"{name}#{number}"
    found[key] = what


def image_name(account: str, region: str, image_id: str) -> str:
    """Name of an image for its id; the id where it is gone."""
    from tests.emulator import images

    if image_id.startswith("resolve:ssm:"):
        return image_id
    image = images.find(account, region, image_id)
    return image.name if image else f"gone: {image_id}"


@control.state("templates")
def templates() -> dict[str, Any]:
    """Launch templates: default version, and every version's data with the image's name."""

    def describe(backend: Any, template: Any) -> tuple[str, Any]:
        return template.name, {
            "default": template.default_version_number,
            "versions": {
                str(version.number): {
                    "description": version.description,
                    "data": _named(backend, version.data),
                }
                for version in template.versions
            },
            "Tags": ec2.tags_of(backend, template.id),
        }

    return of_ec2("launch_templates", describe)


def _named(backend: Any, data: dict[str, Any]) -> dict[str, Any]:
    image = data.get("ImageId")
    named = {**data, "ImageId": image_name(backend.account_id, backend.region_name, image)} if image else data
    return {key: str(value) if key == "UserData" else value for key, value in sorted(named.items()) if value}


@control.state("instances")
def instances() -> dict[str, Any]:
    """Instances that are not terminated: by image, type, group and state, how many."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("ec2"):
        counts: Counter[str] = Counter()
        for instance in backend.all_instances():
            if instance._state.name != "terminated":
                tags = ec2.tags_of(backend, instance.id)
                group = tags.get("aws:autoscaling:groupName", "-")
                image = image_name(account, region, instance.image_id)
                version = tags.get("aws:ec2launchtemplate:version", "-")
                counts[f"{group} {image} v{version} {instance.instance_type} {instance._state.name}"] += 1
        found |= {f"{account}/{region}/{name}": count for name, count in counts.items()}
    return found


@control.state("volumes")
def volumes() -> dict[str, Any]:
    """Volumes that no instance has: what a launcher has left behind."""

    def describe(backend: Any, volume: Any) -> tuple[str, Any] | None:
        if volume.attachment:
            return None
        return f"{volume.size}GiB", {"Encrypted": volume.encrypted, "Tags": ec2.tags_of(backend, volume.id)}

    return of_ec2("volumes", describe)


@control.state("security_groups")
def security_groups() -> dict[str, Any]:
    """Security groups beside the default ones."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("ec2"):
        for group in (each for groups in backend.groups.values() for each in groups.values()):
            if group.name != "default":
                put(found, f"{account}/{region}/{group.name}", {"description": group.description})
    return found


@control.state("key_pairs")
def key_pairs() -> dict[str, Any]:
    """Key pairs."""
    return of_ec2("key_pairs", lambda backend, pair: (pair.name, {"Tags": ec2.tags_of(backend, pair.id)}))


@control.state("groups")
def groups() -> dict[str, Any]:
    """Auto Scaling groups: sizes, what they launch, and how many instances of which version."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("autoscaling"):
        for name, group in backend.autoscaling_groups.items():
            template = dict(group.launch_template or {})
            template.pop("LaunchTemplateId", None)
            states = Counter(
                f"{image_name(account, region, each.instance.image_id)} {each.lifecycle_state}"
                for each in group.instance_states
            )
            found[f"{account}/{region}/{name}"] = {
                "sizes": [group.min_size, group.desired_capacity, group.max_size],
                "template": template,
                "instances": dict(sorted(states.items())),
                "suspended": sorted(group.suspended_processes),
                "tags": sorted(f"{tag.get('Key')}={tag.get('Value')}" for tag in group.tags),
            }
    return found


@control.state("parameters")
def parameters() -> dict[str, Any]:
    """Parameters of SSM: value by the image's name, and how many versions."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("ssm"):
        for name, versions in backend._parameters.items():
            if not versions or name.startswith("/aws/"):
                continue
            last = versions[-1]
            value = last.value if isinstance(last.value, str) else str(last.value)
            image = last.data_type == "aws:ec2:image"
            found[f"{account}/{region}{name}"] = {
                "value": image_name(account, region, value) if image else value,
                "type": last.parameter_type,
                "data_type": last.data_type,
                "versions": len(versions),
                "history": [
                    image_name(account, region, each.value) if image else each.value for each in versions
                ],
            }
    return found


@control.state("objects")
def objects() -> dict[str, Any]:
    """Objects of S3: digest of the content, and how many versions."""
    found: dict[str, Any] = {}
    for account, _, backend in backends("s3"):
        for bucket in backend.buckets.values():
            for key in bucket.keys:
                versions = bucket.keys.getlist(key)
                last = versions[-1]
                if not hasattr(last, "value"):
                    continue
                shown = {"sha256": _digest(last.value), "versions": len(versions)}
                put(found, f"{account}/{bucket.name}/{key}", shown)
    return found


def _digest(content: bytes) -> str:
    """Digest of an object; of a JSON document without its times and ids."""
    try:
        content = json.dumps(normal(json.loads(content)), sort_keys=True).encode()
    except ValueError:
        pass
    return hashlib.sha256(content).hexdigest()


@control.state("alarms")
def alarms() -> dict[str, Any]:
    """Alarms of CloudWatch."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("cloudwatch"):
        for name, alarm in backend.alarms.items():
            found[f"{account}/{region}/{name}"] = {
                "metric": f"{alarm.namespace} {alarm.metric_name} {alarm.comparison_operator}",
                "threshold": alarm.threshold,
                "dimensions": sorted(f"{each.name}={each.value}" for each in alarm.dimensions or []),
                "actions": sorted(alarm.alarm_actions or []),
            }
    return found


@control.state("scaling")
def scaling() -> dict[str, Any]:
    """Targets of Application Auto Scaling, and what scales them."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("applicationautoscaling"):
        for dimension in backend.targets.values():
            for target in dimension.values():
                name = f"{account}/{region}/{target.service_namespace}/{target.resource_id}"
                found[name] = {"sizes": [target.min_capacity, target.max_capacity]}
        for policy in backend.policies.values():
            found[f"{account}/{region}/{policy.resource_id}/{policy.policy_name}"] = {
                "type": policy.policy_type
            }
    return found


@control.state("grants")
def grants() -> dict[str, Any]:
    """Grants of keys: who may do what."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("kms"):
        for key in backend.keys.values():
            for grant in key.grants.values():
                put(found, f"{account}/{region}/{grant.grantee_principal}", sorted(grant.operations))
    return found


@control.state("secrets")
def secrets() -> dict[str, Any]:
    """Secrets, by their names alone."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("secretsmanager"):
        for secret in backend.secrets.values():
            found[f"{account}/{region}/{secret.name}"] = {"deleted": secret.is_deleted()}
    return found


@control.state("target_groups")
def target_groups() -> dict[str, Any]:
    """Targets of load balancers: how many each group has."""
    found: dict[str, Any] = {}
    for account, region, backend in backends("elbv2"):
        for group in backend.target_groups.values():
            found[f"{account}/{region}/{group.name}"] = {"targets": len(group.targets)}
    return found


def install() -> None:
    """Nothing to extend: what is here was added where it was defined."""
