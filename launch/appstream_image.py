"""AppStream images: found by name, imported from an AMI, waited for, and their failures explained."""

from __future__ import annotations

from typing import Any, Literal

from botocore.exceptions import ClientError

from kiln.appstream import Appstream, checked_name
from kiln.assistant import LISTED
from kiln.config import Config
from kiln.errors import KilnError, UsageError
from launch import names
from launch.appstream import DRY_RUN, HINTS, ask, listed, tags, until
from launch.cloud import Cloud
from launch.import_source import find_ami, judge, judge_role
from launch.plan import Plan, Say, requests
from launch.trouble import AGAIN, code, told

STAGE = "import"

MINUTES = 120.0
"""An import takes 30 to 60 minutes, says the administration guide; runtime validation comes on top."""

UNSEEN = 20
"""Looks until an image that was just asked for must be visible: five minutes."""

ERRORS: dict[str, str] = {
    "IMAGE_IMPORT_FAILURE": "start the AMI on EC2 and look for what AppStream names: EC2Launch v2, .NET 4.8, "
    "free ports 8000, 8300 and 8443, no Remote Desktop roles; then bake and publish again",
    "IMAGE_COPY_FAILURE": f"the copy failed inside AppStream: {AGAIN}",
    "IMAGE_UPDATE_FAILURE": "AppStream could not update its agent in the image: build the image anew",
    "IMAGE_BUILDER_NOT_AVAILABLE": "the builder was stopped or deleted while its image was made: run the "
    "builder again",
    "INTERNAL_ERROR": f"the fault is AppStream's own: {AGAIN}; if it comes back, ask AWS Support",
    "VALIDATION_ERROR": "correct in the AMI what the validation names, then bake and publish again",
    "INTERNAL_SERVICE_ERROR": f"the fault is AppStream's own: {AGAIN}; if it comes back, ask AWS Support",
}
"""What to do about a failed image, by the code of its reason or of its errors."""

Kind = Literal["CUSTOM", "NATIVE", "BYOL"]


def name_of(config: Config, image: str, version: str) -> str:
    """Return the name of the AppStream image of a version; the same as its AMI's.

    Parameters
    ----------
    config:
        kiln.toml.
    image, version:
        Which.

    Raises
    ------
    UsageError
        AppStream takes no such name.
    """
    return checked_name(names.ami(config.project.name, image, version))


def version_of(config: Config, image: str, name: str) -> str | None:
    """Return the version that an image's name has; None where it is not one of ours."""
    prefix = names.ami(config.project.name, image, "")
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def section(config: Config, image: str) -> Appstream:
    """Return ``[image.NAME.appstream]``.

    Raises
    ------
    UsageError
        There is no such image, or it has no such table.
    """
    found = config.select(image).appstream
    if found is None:
        raise UsageError(
            f"kiln.toml does not say how {image} becomes an AppStream image",
            f"add [image.{image}.appstream] with import_role, or with a table builder",
        )
    return found


def find(cloud: Cloud, region: str, name: str) -> dict[str, Any] | None:
    """Return an image by its name, None where there is none.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    found = listed(
        cloud, region, f"looking for AppStream image {name}", "describe_images", "Images", Names=[name]
    )
    # Without this a service that does not know the parameter would answer with any image.
    return next((image for image in found if image["Name"] == name), None)


def kind(image: dict[str, Any]) -> Kind:
    """Whether an image was imported (CUSTOM) or made from AWS's own (NATIVE)."""
    found: Kind = image.get("ImageType") or "NATIVE"
    return found


def suits(image: dict[str, Any], instance_type: str) -> bool:
    """Whether an instance type runs an image: ``stream.*`` only AWS's own, other families the imported."""
    return (kind(image) == "CUSTOM") != instance_type.startswith("stream.")


def explained(image: dict[str, Any]) -> tuple[str, str]:
    """Return what is wrong with a failed image and what to do about it, a line each."""
    reason = image.get("StateChangeReason") or {}
    errors = image.get("ImageErrors") or []
    told_of = [f"{reason.get('Code', 'no reason given')}: {reason.get('Message', '')}".rstrip(": ")]
    told_of += [f"{each.get('ErrorCode')}: {each.get('ErrorMessage', '')}".rstrip(": ") for each in errors]
    codes = [*(each.get("ErrorCode") for each in errors), reason.get("Code")]
    # What AppStream calls internal tells least: any other code goes before it.
    known = sorted((each for each in codes if each in ERRORS), key=lambda each: each.startswith("INTERNAL"))
    hint = ERRORS[known[0]] if known else ERRORS["INTERNAL_ERROR"]
    lines = "; ".join(dict.fromkeys(" ".join(each.split()) for each in told_of))
    return f"AppStream image {image['Name']} failed: {lines}", hint


def available(cloud: Cloud, region: str, name: str, say: Say, minutes: float = MINUTES) -> dict[str, Any]:
    """Wait until an image can be used.

    Parameters
    ----------
    cloud, region, name:
        Which.
    say:
        Is told its state.
    minutes:
        How long at most.

    Returns
    -------
    dict
        As DescribeImages gives it.

    Raises
    ------
    KilnError
        It failed, with its errors explained; it is not there; or the time is up.
    """
    unseen = 0

    def look() -> dict[str, Any] | None:
        nonlocal unseen
        image = find(cloud, region, name)
        if image is None:
            unseen += 1
            if unseen > UNSEEN:
                raise KilnError(f"AppStream image {name} is not there", AGAIN)
            return None
        unseen = 0
        say(f"AppStream image {name}: {image['State']}")
        if image["State"] == "FAILED":
            raise KilnError(*explained(image))
        if image["State"] == "DELETING":
            raise KilnError(f"AppStream image {name} is being deleted", "find out who deletes it; " + AGAIN)
        return image if image["State"] == "AVAILABLE" else None

    return until(cloud, f"AppStream image {name}", minutes, look)


def catalogue(said: Appstream) -> list[dict[str, str]]:
    """Return ``AppCatalogConfig`` of CreateImportedImage from the catalogue in kiln.toml."""
    return [
        {key: value for field, key in LISTED.items() if (value := getattr(application, field)) is not None}
        for application in said.applications
    ]


def tagged(config: Config, image: str, version: str, cloud: Cloud) -> dict[str, str]:
    """Return the tags of what is made for a version in AppStream."""
    return {
        names.PROJECT: config.project.name,
        names.IMAGE: image,
        names.VERSION: version,
        names.RUN: cloud.run_id,
    }


def plan_import(plan: Plan, cloud: Cloud, config: Config, image: str, version: str, region: str) -> str:
    """Plan what is missing of the AppStream image of a version: import, or only wait.

    Parameters
    ----------
    plan:
        Gets steps and refusals.
    cloud, config:
        The account, and kiln.toml.
    image, version, region:
        Which, and where.

    Returns
    -------
    str
        Name of the AppStream image.

    Raises
    ------
    KilnError
        What is there could not be found out.
    UsageError
        kiln.toml says not enough.
    """
    name = name_of(config, image, version)
    there = find(cloud, region, name)
    state = there["State"] if there else None
    if state == "AVAILABLE":
        return name
    if there is not None and state not in ("FAILED", "DELETING"):
        plan.add(
            STAGE,
            f"wait for AppStream image {name}, which is {state}",
            (),
            lambda say: _wait(cloud, region, name, say),
        )
        return name
    ami = find_ami(cloud, region, name)
    if ami is None:
        plan.refuse(
            "appstream-image",
            f"{region} has neither an AppStream image nor an AMI {name}",
            f"publish it first: kiln publish {image}@{version}, or: kiln builder run {image}",
        )
        return name
    said = section(config, image)
    if said.import_role is None:
        plan.refuse(
            "import-role",
            f"kiln.toml names no role by which AppStream may read {ami['ImageId']}",
            f"add import_role under [image.{image}.appstream]: " + HINTS["InvalidRoleException"],
        )
        return name
    judge(plan, cloud, region, ami)
    judge_role(plan, cloud, said.import_role)
    asked = _request(said, config, image, version, cloud, ami["ImageId"], name)
    if there is not None:
        plan.notes.append(f"an earlier import did not end well: {explained(there)[0]}")
    elif not plan.refusals:
        _try(plan, cloud, region, asked)
    if said.validate_on:
        plan.notes.append(f"AppStream tries the image on a {said.validate_on}, which it bills by the hour")
    plan.add(
        STAGE,
        f"import {ami['ImageId']} as AppStream image {name} (30 to 60 minutes)"
        + (f", in place of the one that is {state}" if there else ""),
        requests("appstream", region, "CreateImportedImage", *(["DeleteImage"] if there else [])),
        lambda say: _import(cloud, region, asked, bool(there), say),
    )
    return name


def _request(
    said: Appstream, config: Config, image: str, version: str, cloud: Cloud, ami: str, name: str
) -> dict[str, Any]:
    optional = {
        "DisplayName": said.display_name,
        "Description": said.description or f"{config.project.name} {image} {version}",
        "RuntimeValidationConfig": {"IntendedInstanceType": said.validate_on} if said.validate_on else None,
        "AppCatalogConfig": catalogue(said) or None,
    }
    return {
        "Name": name,
        "SourceAmiId": ami,
        "IamRoleArn": said.import_role,
        "AgentSoftwareVersion": said.agent,
        "Tags": tagged(config, image, version, cloud),
        **{key: value for key, value in optional.items() if value is not None},
    }


def _try(plan: Plan, cloud: Cloud, region: str, asked: dict[str, Any]) -> None:
    """Let AppStream judge the request; its yes arrives as an error, 412 DryRunOperationException."""
    try:
        with told(f"trying the import of {asked['SourceAmiId']}", HINTS):
            try:
                cloud.client("appstream", region).create_imported_image(**asked, DryRun=True)
            except ClientError as error:
                if code(error) == DRY_RUN:
                    return
                raise
    except KilnError as error:
        if isinstance(error.__cause__, ClientError) and code(error.__cause__) in HINTS:
            plan.refuse("import-dry-run", error.what, error.hint)
            return
        raise
    raise KilnError(
        f"AppStream answered a dry run of {asked['Name']} as if it were none",
        "look whether the image is there now (DescribeImages), and write to AWS Support",
    )


def _import(cloud: Cloud, region: str, asked: dict[str, Any], again: bool, say: Say) -> None:
    name = asked["Name"]
    if again:
        remove(cloud, region, name, say)
    if find(cloud, region, name) is None:
        ask(
            cloud,
            region,
            f"importing {asked['SourceAmiId']} as {name}",
            "create_imported_image",
            settled=lambda: _ours(cloud, region, asked),
            **asked,
        )
    available(cloud, region, name, say)


def _ours(cloud: Cloud, region: str, asked: dict[str, Any]) -> bool:
    """Whether the image that is there was made by this run, or by one for the same version."""
    image = find(cloud, region, asked["Name"])
    if image is None or "Arn" not in image:
        return False
    found = tags(cloud, region, image["Arn"])
    return all(found.get(key) == asked["Tags"][key] for key in (names.PROJECT, names.IMAGE, names.VERSION))


def _wait(cloud: Cloud, region: str, name: str, say: Say) -> None:
    available(cloud, region, name, say)


def remove(cloud: Cloud, region: str, name: str, say: Say) -> None:
    """Delete an image, and wait until it is gone; nothing where there is none.

    Parameters
    ----------
    cloud, region, name:
        Which. The step must have announced DeleteImage.
    say:
        Is told.

    Raises
    ------
    KilnError
        Something uses it, or it does not go.
    """

    def gone() -> bool:
        image = find(cloud, region, name)
        return image is None or image["State"] == "DELETING"

    if not gone():
        say(f"deleting AppStream image {name}")
        ask(cloud, region, f"deleting AppStream image {name}", "delete_image", settled=gone, Name=name)
    until(
        cloud,
        f"deleting AppStream image {name}",
        10,
        lambda: True if find(cloud, region, name) is None else None,
    )
