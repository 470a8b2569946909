"""What a group starts instances from: launch template and version, mixed instances policy, or the old launch
configuration; and what that comes to at the moment of a launch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.core.exceptions import ServiceException

Plain = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What the next instance is made from.

    Parameters
    ----------
    image_id, instance_type:
        As launched; an image named by a Systems Manager parameter is resolved.
    template:
        Id, name and number of the version, as the instance keeps it; None with a launch configuration.
    weight:
        How much of the group's capacity one instance is.
    """

    image_id: str
    instance_type: str
    template: Plain | None
    weight: int = 1


@dataclass(frozen=True)
class Configuration:
    """What a group, or the desired configuration of a refresh, names.

    Parameters
    ----------
    template:
        ``LaunchTemplateSpecification``.
    mixed:
        ``MixedInstancesPolicy``; then ``template`` is None.
    launch_config:
        Name of a launch configuration; then both are None.
    """

    template: Plain | None = None
    mixed: Plain | None = None
    launch_config: str | None = None

    @property
    def specification(self) -> Plain | None:
        """The launch template that it starts from."""
        if self.mixed:
            found: Plain = self.mixed["LaunchTemplate"]["LaunchTemplateSpecification"]
            return found
        return self.template

    @property
    def version(self) -> str:
        """Version as it was given; AWS takes ``$Default`` where none was."""
        return str((self.specification or {}).get("Version") or "$Default")


def of(group: Any) -> Configuration:
    """What a group has now."""
    if group.mixed_instances_policy:
        return Configuration(mixed=copy.deepcopy(plain(group.mixed_instances_policy)))
    if group.ec2_launch_template:
        template = group.ec2_launch_template
        version = getattr(group, "provided_launch_template_version", None)
        return Configuration({"LaunchTemplateId": template.id, **({"Version": version} if version else {})})
    return Configuration(launch_config=group.launch_config.name if group.launch_config else None)


def desired(given: Plain) -> Configuration:
    """A refresh's ``DesiredConfiguration``."""
    mixed, template = given.get("MixedInstancesPolicy"), given.get("LaunchTemplate")
    if bool(mixed) == bool(template):
        raise ValidationError(
            "The desired configuration must contain either a launch template or a mixed instances policy."
        )
    return Configuration(plain(template) if template else None, plain(mixed) if mixed else None)


def template(group: Any, specification: Plain) -> Any:
    """The launch template that a specification names."""
    identity, name = specification.get("LaunchTemplateId"), specification.get("LaunchTemplateName")
    try:
        if identity:
            return group.ec2_backend.get_launch_template(identity)
        return group.ec2_backend.get_launch_template_by_name(name)
    except (ServiceException, KeyError):
        raise ValidationError(f"Launch template {identity or name} does not exist.") from None


def version(group: Any, specification: Plain) -> Any:
    """The version that a specification names, at this moment."""
    found, number = template(group, specification), str(specification.get("Version") or "$Default")
    if number.isdigit() and not 1 <= int(number) <= len(found.versions):
        raise ValidationError(f"Launch template {found.id} has no version {number}.")
    chosen = found.get_version(number)
    if getattr(chosen, "deleted", False):
        raise ValidationError(f"Launch template {found.id} has no version {number}.")
    return chosen


def choice(group: Any, configuration: Configuration) -> Choice:
    """What an instance started now would be; of a mixed policy always the first override, as with the
    strategy ``prioritized`` while there is capacity."""
    if configuration.launch_config:
        config = group.autoscaling_backend.launch_configurations[configuration.launch_config]
        return Choice(config.image_id, config.instance_type, None)
    specification = configuration.specification
    if specification is None:
        raise ValidationError("The group has neither a launch template nor a launch configuration.")
    overrides = ((configuration.mixed or {}).get("LaunchTemplate") or {}).get("Overrides") or [{}]
    first = overrides[0]
    used = version(group, first.get("LaunchTemplateSpecification") or specification)
    named = {"LaunchTemplateId": used.template.id, "LaunchTemplateName": used.template.name}
    return Choice(
        image(group, first.get("ImageId") or used.image_id),
        first.get("InstanceType") or used.instance_type,
        {**named, "Version": str(used.number)},
        int(first.get("WeightedCapacity") or 1),
    )


def fully_formed(group: Any, configuration: Configuration) -> None:
    """Refuse a launch template whose image is not there, as AWS does before it takes one for a group."""
    from tests.emulator import launching

    if trouble := launching.missing(group, choice(group, configuration)):
        raise ValidationError(f"You must use a valid fully-formed launch template. {trouble}")


def image(group: Any, given: str) -> str:
    """Id of an image; ``resolve:ssm:NAME`` is looked up, at each launch, as on AWS."""
    if not given.startswith("resolve:ssm:"):
        return given
    from moto.ssm import ssm_backends

    name = given.removeprefix("resolve:ssm:")
    found = ssm_backends[group.account_id][group.region].get_parameter(name)
    return str(found.value) if found else given


def apply(group: Any, configuration: Configuration) -> None:
    """Make it the group's own, as a refresh does that succeeded."""
    group.mixed_instances_policy = copy.deepcopy(configuration.mixed)
    group._set_launch_configuration(None, configuration.template, configuration.mixed)


def plain(value: Any) -> Any:
    """Moto's parsed parameters as mere dicts and lists."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value
