"""CreateImportedImage: an EC2 AMI becomes an AppStream image, if it is what AppStream can take.

What is checked before anything starts is what DescribeImages shows of an AMI, by the required properties in
https://docs.aws.amazon.com/appstream2/latest/developerguide/import-image.html; what is inside the AMI
comes out only while it is imported, and a test says it by the AMI's tag :data:`INSIDE_TAG`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.models import ec2_backends

from tests.emulator.appstream import images, limits, roles
from tests.emulator.appstream.images import Image
from tests.emulator.appstream.models import AppStreamBackend, refuse

INSIDE_TAG = "kiln-test:import"
"""Of an AMI: what its import stumbles over, as ``Windows updates are pending``; ``validation: ...`` comes
only with the runtime validation, ``internal`` is AWS's own failure."""

OS_TAG = "kiln-test:os"
"""Of an AMI: its system, as ``WINDOWS_SERVER_2019``; else it is told by the AMI's name."""

SYSTEMS = {"WINDOWS_SERVER_2022": "2022", "WINDOWS_SERVER_2025": "2025"}
"""Systems that can be imported → how names of AMIs tell them."""

LARGEST_GB = 500
PENDING_SECONDS = 60.0
IMPORT_SECONDS = 1800.0
VALIDATE_SECONDS = 900.0
"""Together within the 30 to 60 minutes that the page above says."""

MOST_APPLICATIONS = 50


def disks(ami: Any) -> list[dict[str, Any]]:
    """EBS volumes of an AMI, as DescribeImages has them."""
    found = ami.block_device_mappings if hasattr(ami, "mappings") else []
    return [{"DeviceName": each["DeviceName"], **each["Ebs"]} for each in found if (each.get("Ebs") or None)]


def system(ami: Any) -> str:
    """The system of an AMI, as AppStream names platforms; empty where it cannot be imported."""
    told = str(ami.ec2_backend.tags.get(ami.id, {}).get(OS_TAG, ""))
    if told:
        return told if told in SYSTEMS else ""
    text = f"{ami.name} {ami.description or ''}"
    return next((name for name, year in SYSTEMS.items() if year in text), next(iter(SYSTEMS)))


CHECKS: tuple[tuple[str, Callable[[Any, list[dict[str, Any]]], bool]], ...] = (
    ("is public", lambda ami, _: not ami.is_public),
    ("is not available", lambda ami, _: ami.state == "available"),
    ("is not of the image type machine", lambda ami, _: ami.image_type == "machine"),
    ("is not of the architecture x86_64", lambda ami, _: ami.architecture == "x86_64"),
    ("is not of the virtualization type hvm", lambda ami, _: ami.virtualization_type == "hvm"),
    ("has another boot mode than uefi", lambda ami, _: ami.boot_mode == "uefi"),
    ("has no TPM 2.0", lambda ami, _: getattr(ami, "tpm_support", None) == "v2.0"),
    ("does not support ENA", lambda ami, _: bool(getattr(ami, "ena_support", False))),
    ("is not of the platform Windows", lambda ami, _: str(ami.platform).lower() == "windows"),
    ("is not Windows Server 2022 or 2025", lambda ami, _: bool(system(ami))),
    ("has another root device than /dev/sda1", lambda ami, _: ami.root_device_name == "/dev/sda1"),
    ("has not exactly one EBS volume", lambda _, volumes: len(volumes) == 1),
    (
        f"has a volume of more than {LARGEST_GB} GB",
        lambda _, volumes: all(int(each.get("VolumeSize") or 0) <= LARGEST_GB for each in volumes),
    ),
    (
        "has a volume of another type than gp2 or gp3",
        lambda _, volumes: all(each.get("VolumeType", "gp2") in ("gp2", "gp3") for each in volumes),
    ),
    ("is encrypted", lambda _, volumes: not any(each.get("Encrypted") for each in volumes)),
)
"""What is wrong with an AMI → whether it is not so."""


def source(backend: AppStreamBackend, identity: str) -> Any:
    """The account's own AMI; refused where it is not there, is another's, or cannot be imported."""
    there = ec2_backends[backend.account_id][backend.region_name]
    ami = there.amis.get(identity)
    if ami is None:
        raise refuse("ResourceNotFound", f"The AMI {identity} does not exist or is not accessible.")
    if ami.owner_id != backend.account_id:
        raise refuse("OperationNotPermitted", f"The AMI {identity} is not owned by {backend.account_id}.")
    wrong = [message for message, holds in CHECKS if not holds(ami, disks(ami))]
    if wrong:
        raise refuse("IncompatibleImage", f"The AMI {identity} {', '.join(wrong)}.")
    return ami


def _judge(backend: AppStreamBackend, given: dict[str, Any]) -> Any:
    """All checks that are made before anything starts."""
    if bool(given.get("SourceAmiId")) == bool(given.get("WorkspaceImageId")):
        raise refuse(
            "InvalidParameterCombination", "Specify either SourceAmiId or WorkspaceImageId, and only one."
        )
    if given.get("WorkspaceImageId"):
        raise refuse("OperationNotPermitted", "The emulator imports AMIs only, no images of WorkSpaces.")
    if not given.get("IamRoleArn"):
        raise refuse("InvalidParameterCombination", "IamRoleArn is required with SourceAmiId.")
    catalog = [each["Name"] for each in given.get("AppCatalogConfig") or []]
    if len(catalog) > MOST_APPLICATIONS or len(set(catalog)) != len(catalog):
        raise refuse(
            "InvalidParameterCombination",
            f"The application catalog has at most {MOST_APPLICATIONS} entries, each with a name of its own.",
        )
    images.new(backend, given["Name"])
    roles.check(backend, given["IamRoleArn"], roles.TO_IMPORT)
    ami = source(backend, given["SourceAmiId"])
    if wanted := (given.get("RuntimeValidationConfig") or {}).get("IntendedInstanceType"):
        if not wanted.startswith(limits.CUSTOM):
            raise refuse(
                "InvalidParameterCombination",
                f"An imported image does not run on the instance type {wanted}.",
            )
        limits.room(backend, "fleets", wanted, 1)
    return ami


def create(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """CreateImportedImage."""
    ami = _judge(backend, given)
    if given.get("DryRun"):
        raise refuse("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
    image = Image(
        given["Name"],
        backend.arn("image", given["Name"]),
        "PENDING",
        ImageBuilderSupported=True,
        ImageType="CUSTOM",
        Platform=system(ami),
        DisplayName=given.get("DisplayName"),
        Description=given.get("Description"),
        AppstreamAgentVersion=images.AGENT,
        LatestAppstreamAgentVersion="TRUE"
        if given.get("AgentSoftwareVersion") != "CURRENT_LATEST"
        else "FALSE",
        SupportedInstanceFamilies=list(limits.CUSTOM),
        Applications=[application(each) for each in given.get("AppCatalogConfig") or []],
    )
    image.tags = dict(given.get("Tags") or {})
    trouble = str(ami.ec2_backend.tags.get(ami.id, {}).get(INSIDE_TAG, ""))
    course = [(PENDING_SECONDS, "IMPORTING")]
    validated = bool(given.get("RuntimeValidationConfig"))
    late = trouble.startswith("validation:")
    if validated and (late or not trouble):
        course.append((IMPORT_SECONDS, "VALIDATING"))
    seconds = VALIDATE_SECONDS if course[-1][1] == "VALIDATING" else IMPORT_SECONDS
    failing = trouble if not late or validated else ""
    course.append((seconds, "FAILED" if failing else "AVAILABLE"))
    image.go("PENDING", *course, at_end=lambda: _end(backend, image, ami, failing))
    backend.images[image.name] = image
    return {"Image": images.told(backend, "PRIVATE", image)}


def _end(backend: AppStreamBackend, image: Image, ami: Any, trouble: str) -> None:
    there = ec2_backends[backend.account_id][backend.region_name]
    if ami.id not in there.amis:
        image.state, trouble = "FAILED", f"The AMI {ami.id} was deregistered."
    if trouble == "internal":
        told = {"ErrorCode": "INTERNAL_SERVICE_ERROR", "ErrorMessage": "An internal error occurred."}
        image.failed("INTERNAL_ERROR", "An internal error occurred.", [told])
    elif trouble:
        message = trouble.removeprefix("validation:").strip()
        told = {"ErrorCode": "VALIDATION_ERROR", "ErrorMessage": message}
        image.failed("IMAGE_IMPORT_FAILURE", "The image could not be imported; see ImageErrors.", [told])


def application(given: dict[str, Any]) -> dict[str, Any]:
    """An entry of the catalog as DescribeImages has it."""
    found = {
        "Name": given["Name"],
        "DisplayName": given.get("DisplayName") or given["Name"],
        "LaunchPath": given["AbsoluteAppPath"],
        "LaunchParameters": given.get("LaunchParameters"),
        "WorkingDirectory": given.get("WorkingDirectory"),
        "Enabled": True,
    }
    return {key: value for key, value in found.items() if value is not None}


CALLS = {"CreateImportedImage": create}
