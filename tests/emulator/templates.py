"""Launch templates as EC2 keeps them: versions made from others, client tokens, versions that are deleted."""

from __future__ import annotations

from typing import Any

from moto.ec2.exceptions import InvalidLaunchTemplateVersionNotFound
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.utils import parse_user_data

from tests.emulator import control, ec2, images, parameters, snapshots

TOKENS: dict[tuple[str, str, str, str], tuple[dict[str, Any], Any]] = {}
"""Account, region, operation and client token → what was asked and what it made."""

control.RESETS.append(TOKENS.clear)


def _once(self: Any, make: Any) -> Any:
    """What a client token has made before, else what ``make`` makes."""
    token = self._get_param("ClientToken")
    asked = {key: value for key, value in dict(self.params).items() if key != "DryRun"}
    key = (self.current_account, self.region, self._get_action(), token)
    if token and key in TOKENS:
        before, made = TOKENS[key]
        if before != asked:
            raise ec2.refuse(
                "IdempotentParameterMismatch",
                "The client token you have provided is associated with a resource with other parameters.",
            )
        return made
    made = make()
    if token:
        TOKENS[key] = (asked, made)
    return made


def find(self: Any) -> Any:
    """The launch template that a request names.

    Raises
    ------
    EC2ClientError
        There is none.
    """
    identity, name = self._get_param("LaunchTemplateId"), self._get_param("LaunchTemplateName")
    if bool(identity) == bool(name):
        raise ec2.refuse("MissingParameter", "Either the launch template's id or its name must be given")
    if identity:
        return self.ec2_backend.get_launch_template(identity)
    return self.ec2_backend.get_launch_template_by_name(name)


def _view(self: Any, template: Any) -> dict[str, Any]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": template.create_time,
        "CreatedBy": f"arn:aws:iam::{self.current_account}:root",
        "DefaultVersionNumber": template.default_version_number,
        "LatestVersionNumber": template.latest_version().number,
        "Tags": ec2.tag_list(self.ec2_backend, template.id) or None,
    }


def _version_view(self: Any, version: Any) -> dict[str, Any]:
    template, data = version.template, dict(version.data)
    if self._get_param("ResolveAlias") and str(data.get("ImageId", "")).startswith("resolve:ssm:"):
        data["ImageId"] = parameters.resolve(self.current_account, self.region, data["ImageId"])
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": version.number,
        "VersionDescription": version.description,
        "CreateTime": version.create_time,
        "CreatedBy": f"arn:aws:iam::{self.current_account}:root",
        "DefaultVersion": template.is_default(version),
        "LaunchTemplateData": {key: value for key, value in data.items() if value is not None},
    }


def _data(self: Any) -> dict[str, Any]:
    """The data of a request, with user data as moto wants it."""
    data = dict(self._get_param("LaunchTemplateData", {}) or {})
    image = str(data.get("ImageId", ""))
    if image and not image.startswith(("ami-", "resolve:ssm:")):
        raise ec2.refuse("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
    if data.get("UserData") is not None:
        data["UserData"] = parse_user_data(str(data["UserData"]))
    return data


def _warning(self: Any, data: dict[str, Any]) -> dict[str, Any]:
    """What EC2 says of a version that nothing can be started from; it keeps it nevertheless."""
    image = str(data.get("ImageId", ""))
    if not image.startswith("ami-") or images.find(self.current_account, self.region, image):
        return {}
    error = {"Code": "InvalidAMIID.NotFound", "Message": f"The image id '[{image}]' does not exist"}
    return {"Warning": {"Errors": [error]}}


def create_launch_template(self: Any) -> dict[str, Any]:
    """CreateLaunchTemplate."""
    tags = ec2.asked_tags(self, "launch-template", ("launch-template",))
    data = _data(self)
    self.error_on_dryrun()

    def make() -> Any:
        return self.ec2_backend.create_launch_template(
            self._get_param("LaunchTemplateName"),
            self._get_param("VersionDescription"),
            data,
            {"launch-template": tags},
        )

    return {"LaunchTemplate": _view(self, _once(self, make))} | _warning(self, data)


def create_launch_template_version(self: Any) -> dict[str, Any]:
    """CreateLaunchTemplateVersion: what the source version has and the request does not say stays."""
    template, data = find(self), _data(self)
    source = self._get_param("SourceVersion")
    if source:
        data = {**template.get_version(source).data, **data}
    self.error_on_dryrun()
    version = _once(self, lambda: template.create_version(data, self._get_param("VersionDescription")))
    return {"LaunchTemplateVersion": _version_view(self, version)} | _warning(self, data)


def describe_launch_templates(self: Any) -> dict[str, Any]:
    """DescribeLaunchTemplates."""
    self.error_on_dryrun()
    backend = self.ec2_backend
    ids, names = (
        self._get_param("LaunchTemplateIds", []) or [],
        self._get_param("LaunchTemplateNames", []) or [],
    )
    found = list(backend.launch_templates.values())
    if missing := [each for each in ids if each not in backend.launch_templates]:
        raise ec2.refuse(
            "InvalidLaunchTemplateId.NotFound",
            f"The specified launch template, with template ID {missing[0]}, does not exist.",
        )
    if missing := [each for each in names if each not in backend.launch_template_name_to_ids]:
        raise ec2.refuse(
            "InvalidLaunchTemplateName.NotFoundException",
            f"At least one of the launch templates specified in the request does not exist: {missing[0]}",
        )
    if ids or names:
        found = [each for each in found if each.id in ids or each.name in names]

    def facts(template: Any) -> dict[str, Any]:
        return {
            "launch-template-name": template.name,
            "create-time": ec2.text_of(template.create_time),
            "tags": ec2.tags_of(backend, template.id),
        }

    found = ec2.filtered(self, found, facts)
    return snapshots.paged(self, [_view(self, each) for each in found], "LaunchTemplates")


def describe_launch_template_versions(self: Any) -> dict[str, Any]:
    """DescribeLaunchTemplateVersions, the newest first."""
    self.error_on_dryrun()
    wanted = [str(each) for each in self._get_param("Versions", []) or []]
    if not self._get_param("LaunchTemplateId") and not self._get_param("LaunchTemplateName"):
        if not wanted or set(wanted) - {"$Latest", "$Default"}:
            raise ec2.refuse(
                "InvalidParameterValue", "Without a template only $Latest and $Default can be named"
            )
        templates = list(self.ec2_backend.launch_templates.values())
    else:
        templates = [find(self)]
    found = []
    for template in templates:
        if wanted:
            found += [template.get_version(each) for each in wanted]
        else:
            low, high = self._get_int_param("MinVersion"), self._get_int_param("MaxVersion")
            kept = [each for each in template.versions if not getattr(each, "deleted", False)]
            found += [
                each
                for each in reversed(kept)
                if (low is None or each.number >= low) and (high is None or each.number <= high)
            ]

    def facts(version: Any) -> dict[str, Any]:
        return {
            "image-id": version.image_id,
            "instance-type": version.instance_type,
            "is-default-version": version.template.is_default(version),
            "create-time": ec2.text_of(version.create_time),
        }

    found = ec2.filtered(self, found, facts)
    return snapshots.paged(self, [_version_view(self, each) for each in found], "LaunchTemplateVersions")


def delete_launch_template_versions(self: Any) -> dict[str, Any]:
    """DeleteLaunchTemplateVersions: never the default one."""
    template = find(self)
    self.error_on_dryrun()
    done, failed = [], []
    for wanted in self._get_param("Versions", []) or []:
        entry: dict[str, Any] = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
        entry["VersionNumber"] = int(wanted)
        try:
            version = template.get_version(wanted)
        except InvalidLaunchTemplateVersionNotFound as error:
            why = {"Code": "launchTemplateVersionDoesNotExist", "Message": str(error.message)}
            failed.append(entry | {"ResponseError": why})
            continue
        if template.is_default(version):
            why = {"Code": "unexpectedError", "Message": "The default version cannot be deleted"}
            failed.append(entry | {"ResponseError": why})
            continue
        version.deleted = True
        done.append(entry)
    return {
        "SuccessfullyDeletedLaunchTemplateVersions": done,
        "UnsuccessfullyDeletedLaunchTemplateVersions": failed,
    }


def _get_version(self: Any, num: Any) -> Any:
    """Of moto's template: a version by number, ``$Latest`` or ``$Default``, if it was not deleted."""
    wanted = str(num).lower()
    if wanted == "$latest":
        return self.latest_version()
    if wanted == "$default":
        return self.default_version()
    number = int(num) if wanted.isdigit() else 0
    if not 1 <= number <= len(self.versions) or getattr(self.versions[number - 1], "deleted", False):
        raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=num)
    return self.versions[number - 1]


def _latest(self: Any) -> Any:
    return [each for each in self.versions if not getattr(each, "deleted", False)][-1]


def install() -> None:
    """Extend moto."""
    ec2.extend(
        create_launch_template,
        create_launch_template_version,
        describe_launch_templates,
        describe_launch_template_versions,
        delete_launch_template_versions,
    )
    LaunchTemplate.get_version = _get_version  # type: ignore[method-assign]
    LaunchTemplate.latest_version = _latest  # type: ignore[method-assign]
