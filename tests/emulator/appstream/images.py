"""AppStream's images: those of AWS, those of the account, those that others share with it."""

from __future__ import annotations

from typing import Any

from tests.emulator.appstream import limits
from tests.emulator.appstream.models import (
    AppStreamBackend,
    Resource,
    appstream_backends,
    every_backend,
    one,
    page,
    refuse,
)
from tests.emulator.clock import CLOCK

BASES = {
    "AppStream-WinServer2022-06-18-2026": ("WINDOWS_SERVER_2022", limits.STANDARD_FAMILIES),
    "AppStream-WinServer2025-06-18-2026": ("WINDOWS_SERVER_2025", limits.STANDARD_FAMILIES),
    "AppStream-Graphics-NV-WinServer2022-06-18-2026": ("WINDOWS_SERVER_2022", limits.GRAPHICS_FAMILIES),
    "AppStream-Graphics-NV-WinServer2025-06-18-2026": ("WINDOWS_SERVER_2025", limits.GRAPHICS_FAMILIES),
    "AppStream-RockyLinux8-06-18-2026": ("ROCKY_LINUX8", limits.STANDARD_FAMILIES),
}
"""Public base images: name → platform and families of instance types."""

AGENT = "06-18-2026"
DELETE_SECONDS = 15.0
COPY_SECONDS = 900.0
LARGEST_PAGE = 25


class Image(Resource):
    """An image of an account, or of AWS."""

    def __init__(self, name: str, arn: str, state: str, **data: Any) -> None:
        super().__init__("image", name, arn, data, state)
        self.permissions: dict[str, dict[str, bool]] = {}

    def failed(self, code: str, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        """It came to nothing: why, in the service's words."""
        self.data["StateChangeReason"] = {"Code": code, "Message": message}
        told = [{**each, "ErrorTimestamp": CLOCK.date()} for each in errors or []]
        self.data["ImageErrors"] = told


def bases(region: str) -> dict[str, Image]:
    """Images of AWS in a region."""
    return {
        name: Image(
            name,
            f"arn:aws:appstream:{region}::image/{name}",
            "AVAILABLE",
            Visibility="PUBLIC",
            ImageBuilderSupported=True,
            Platform=platform,
            ImageType="NATIVE",
            AppstreamAgentVersion=AGENT,
            LatestAppstreamAgentVersion="TRUE",
            SupportedInstanceFamilies=list(families),
        )
        for name, (platform, families) in BASES.items()
    }


def shared(backend: AppStreamBackend) -> dict[str, Image]:
    """Images that other accounts share with this one, in its region."""
    return {
        image.name: image
        for other in every_backend()
        if other.region_name == backend.region_name and other is not backend
        for image in other.images.values()
        if backend.account_id in image.permissions
    }


def seen(backend: AppStreamBackend) -> list[tuple[str, Image]]:
    """All that the account sees, each with ``PUBLIC``, ``PRIVATE`` or ``SHARED``."""
    return [
        *(("PUBLIC", each) for each in bases(backend.region_name).values()),
        *(("PRIVATE", each) for each in backend.images.values()),
        *(("SHARED", each) for each in shared(backend).values()),
    ]


def usable(backend: AppStreamBackend, purpose: str, name: str | None = None, arn: str | None = None) -> Image:
    """An image that a fleet or a builder can be made from now.

    Parameters
    ----------
    purpose:
        ``allowFleet`` or ``allowImageBuilder``, which whoever shares it may withhold.
    name, arn:
        One of them; an image of another account goes by its ARN only where the account has one of that name.
    """
    for visibility, image in seen(backend):
        if (arn and image.arn != arn) or (not arn and image.name != name):
            continue
        if visibility == "SHARED" and not image.permissions[backend.account_id].get(purpose):
            raise refuse("OperationNotPermitted", f"The image {image.name} is not shared for this use.")
        if image.state != "AVAILABLE":
            raise refuse("ResourceNotAvailable", f"The image {image.name} is in state {image.state}.")
        return image
    raise refuse("ResourceNotFound", f"The image {arn or name} was not found.")


def told(backend: AppStreamBackend, visibility: str, image: Image) -> dict[str, Any]:
    """An image as an account sees it."""
    view = image.view() | {"Visibility": visibility}
    if visibility == "PRIVATE":
        view["ImageSharedWithOthers"] = "TRUE" if image.permissions else "FALSE"
    elif visibility == "SHARED":
        view["ImagePermissions"] = dict(image.permissions[backend.account_id])
    return view


def describe(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """DescribeImages."""
    names, arns, kind = given.get("Names") or [], given.get("Arns") or [], given.get("Type")
    if names and arns:
        raise refuse("InvalidParameterCombination", "Specify image names or image ARNs, not both.")
    found = [
        (visibility, image)
        for visibility, image in seen(backend)
        if (not names or image.name in names)
        and (not arns or image.arn in arns)
        and (not kind or visibility == kind)
    ]
    missing = {*names, *arns} - {image.name for _, image in found} - {image.arn for _, image in found}
    if missing:
        raise refuse("ResourceNotFound", f"These images were not found: {', '.join(sorted(missing))}.")
    views = [told(backend, visibility, image) for visibility, image in found]
    size = min(int(given.get("MaxResults") or LARGEST_PAGE), LARGEST_PAGE)
    return page("Images", views, given.get("NextToken"), size)


def delete(backend: AppStreamBackend, Name: str) -> dict[str, Any]:  # noqa: N803
    """DeleteImage: not while a fleet, here or where it is shared, uses it, nor while it is shared
    (https://docs.aws.amazon.com/appstream2/latest/developerguide/administer-images.html)."""
    image = one(backend.images, "image", Name)
    if image.state not in ("AVAILABLE", "FAILED"):
        raise refuse("OperationNotPermitted", f"The image {Name} is in state {image.state}.")
    if image.permissions:
        accounts = ", ".join(sorted(image.permissions))
        raise refuse("ResourceInUse", f"The image {Name} is shared with {accounts}.")
    fleets = [
        fleet.name
        for other in every_backend()
        for fleet in other.fleets.values()
        if fleet.data.get("ImageArn") == image.arn
    ]
    if fleets:
        raise refuse(
            "ResourceInUse", f"The image {Name} is in use by the fleets {', '.join(sorted(fleets))}."
        )
    image.go("DELETING", (DELETE_SECONDS, "DELETED"), at_end=lambda: _gone(backend, Name))
    return {"Image": told(backend, "PRIVATE", image)}


def _gone(backend: AppStreamBackend, name: str) -> None:
    backend.images.pop(name, None)


def permit(
    backend: AppStreamBackend,
    Name: str,  # noqa: N803
    SharedAccountId: str,  # noqa: N803
    ImagePermissions: dict[str, bool],  # noqa: N803
) -> dict[str, Any]:
    """UpdateImagePermissions."""
    image = one(backend.images, "image", Name)
    if image.state != "AVAILABLE":
        raise refuse("ResourceNotAvailable", f"The image {Name} is in state {image.state}.")
    if len({*image.permissions, SharedAccountId}) > limits.resource("shares"):
        raise refuse("LimitExceeded", f"The image {Name} is shared with as many accounts as it may be.")
    kept = dict(ImagePermissions)
    image.permissions[SharedAccountId] = {
        each: bool(kept.get(each)) for each in ("allowFleet", "allowImageBuilder")
    }
    return {}


def forbid(backend: AppStreamBackend, Name: str, SharedAccountId: str) -> dict[str, Any]:  # noqa: N803
    """DeleteImagePermissions."""
    image = one(backend.images, "image", Name)
    if SharedAccountId not in image.permissions:
        raise refuse("ResourceNotFound", f"The image {Name} is not shared with {SharedAccountId}.")
    del image.permissions[SharedAccountId]
    return {}


def permissions(backend: AppStreamBackend, Name: str, **given: Any) -> dict[str, Any]:  # noqa: N803
    """DescribeImagePermissions."""
    image, wanted = one(backend.images, "image", Name), given.get("SharedAwsAccountIds")
    found = [
        {"sharedAccountId": account, "imagePermissions": dict(kept)}
        for account, kept in image.permissions.items()
        if not wanted or account in wanted
    ]
    token, size = given.get("NextToken"), given.get("MaxResults")
    return {"Name": Name, **page("SharedImagePermissionsList", found, token, size)}


def copy(
    backend: AppStreamBackend,
    SourceImageName: str,  # noqa: N803
    DestinationImageName: str,  # noqa: N803
    DestinationRegion: str,  # noqa: N803
    **given: Any,
) -> dict[str, Any]:
    """CopyImage: tags are not copied (botocore's model)."""
    source = one(backend.images, "image", SourceImageName)
    if source.state != "AVAILABLE":
        raise refuse("ResourceNotAvailable", f"The image {SourceImageName} is in state {source.state}.")
    there = appstream_backends[backend.account_id][DestinationRegion]
    new(there, DestinationImageName)
    if sum(each.state == "COPYING" for each in there.images.values()) >= limits.resource("copies"):
        raise refuse("LimitExceeded", f"As many images are being copied to {DestinationRegion} as may be.")
    kept = {key: value for key, value in source.data.items() if key not in ("Visibility", "ImageErrors")}
    kept["Description"] = given.get("DestinationImageDescription")
    image = Image(DestinationImageName, there.arn("image", DestinationImageName), "PENDING", **kept)
    image.go("COPYING", (COPY_SECONDS, "AVAILABLE"))
    there.images[DestinationImageName] = image
    return {"DestinationImageName": DestinationImageName}


def new(backend: AppStreamBackend, name: str) -> None:
    """Refuse a name that is taken, and an image too many."""
    if name in backend.images:
        raise refuse("ResourceAlreadyExists", f"An image with the name {name} already exists.")
    limits.one_more(backend, "images")


CALLS = {
    "DescribeImages": describe,
    "DeleteImage": delete,
    "UpdateImagePermissions": permit,
    "DeleteImagePermissions": forbid,
    "DescribeImagePermissions": permissions,
    "CopyImage": copy,
}
