"""AppStream's image builders, and the images that Image Assistant makes on them.

Image Assistant is a program on the builder that no request reaches; here the action ``image_assistant``
stands for it, with the answers of its command line (``status``, ``message``).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from moto.moto_api._internal import mock_random

from tests.emulator import control
from tests.emulator.appstream import images, limits, network, roles
from tests.emulator.appstream.images import Image
from tests.emulator.appstream.models import (
    AppStreamBackend,
    Resource,
    appstream_backends,
    named,
    one,
    page,
    refuse,
)
from tests.emulator.clock import CLOCK

START_SECONDS = 600.0
AGENT_SECONDS = 300.0
STOP_SECONDS = 120.0
SNAPSHOT_SECONDS = 900.0
DELETE_SECONDS = 60.0

control.setting("appstream_builder_address", "")


class Builder(Resource):
    """An image builder of an account."""

    def __init__(self, backend: AppStreamBackend, name: str, data: dict[str, Any]) -> None:
        super().__init__("image-builder", name, backend.arn("image-builder", name), data)
        self.backend = backend
        self.errors: list[dict[str, Any]] = []
        self.interface: dict[str, Any] | None = None

    def wanted(self) -> int:
        """It is one instance, while it is not stopped."""
        return 0 if self.state in ("STOPPED", "STOPPING", "FAILED", "DELETING") else 1

    def run(self, update_agent: bool) -> None:
        """Start it: it runs, or fails for its network."""
        agent = [(AGENT_SECONDS, "RUNNING")] if update_agent else []
        first = "UPDATING_AGENT" if update_agent else "RUNNING"
        self.go("PENDING", (START_SECONDS, first), *agent, at_end=self.started)

    def started(self) -> None:
        """The end of its start."""
        found = network.errors(self.backend, self.data.get("VpcConfig"), 1)
        self.errors = [{**each, "ErrorTimestamp": CLOCK.date()} for each in found]
        if self.errors:
            self.state = "FAILED"
            self.data["StateChangeReason"] = {
                "Code": "INTERNAL_ERROR",
                "Message": self.errors[0]["ErrorMessage"],
            }
            return
        self.interface = {
            "EniId": f"eni-{mock_random.get_random_hex(17)}",
            "EniPrivateIpAddress": _address(self),
        }

    def view(self) -> dict[str, Any]:
        """As DescribeImageBuilders answers."""
        found = super().view() | {"ImageBuilderErrors": list(self.errors)}
        if self.interface and self.state in ("RUNNING", "SNAPSHOTTING", "REBOOTING", "UPDATING_AGENT"):
            found["NetworkAccessConfiguration"] = dict(self.interface)
        return found


def _address(builder: Builder) -> str:
    """Its address in the VPC; the setting ``appstream_builder_address`` names another."""
    from moto.ec2.models import ec2_backends

    if given := control.SETTINGS["appstream_builder_address"]:
        return str(given)
    subnets = (builder.data.get("VpcConfig") or {}).get("SubnetIds") or []
    if not subnets:
        return "198.19.0.10"
    backend = builder.backend
    subnet = ec2_backends[backend.account_id][backend.region_name].get_subnet(subnets[0])
    return str(ipaddress.ip_network(subnet.cidr_block)[10])


def create(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """CreateImageBuilder."""
    name = given.pop("Name")
    if name in backend.builders:
        raise refuse("ResourceAlreadyExists", f"An image builder with the name {name} already exists.")
    limits.one_more(backend, "builders")
    image = images.usable(backend, "allowImageBuilder", given.pop("ImageName", None), given.get("ImageArn"))
    limits.fits(image, given["InstanceType"])
    roles.check(backend, given.get("IamRoleArn"))
    limits.room(backend, "builders", given["InstanceType"], 1)
    tags = dict(given.pop("Tags", None) or {})
    # What follows has no place in the answer's model.
    for extra in ("SoftwaresToInstall", "SoftwaresToUninstall"):
        given.pop(extra, None)
    update = (
        given.get("AppstreamAgentVersion") == "LATEST" and image.data["AppstreamAgentVersion"] != images.AGENT
    )
    data = {
        "EnableDefaultInternetAccess": False,
        **given,
        "ImageArn": image.arn,
        "Platform": image.data["Platform"],
        "AppstreamAgentVersion": images.AGENT,
        "LatestAppstreamAgentVersion": "TRUE",
    }
    builder = Builder(backend, name, data)
    builder.tags = tags
    builder.run(update)
    backend.builders[name] = builder
    return {"ImageBuilder": builder.view()}


def _must_be(builder: Builder, verb: str, *states: str) -> None:
    if builder.state not in states:
        raise refuse(
            "OperationNotPermitted",
            f"The image builder {builder.name} is {builder.state}; {verb} needs {' or '.join(states)}.",
        )


def start(backend: AppStreamBackend, Name: str, **given: Any) -> dict[str, Any]:  # noqa: N803
    """StartImageBuilder."""
    builder = one(backend.builders, "image builder", Name)
    if builder.state != "STOPPED":
        # OperationNotPermitted is none of this operation's errors.
        raise refuse("ResourceNotAvailable", f"The image builder {Name} is {builder.state}.")
    builder.run(given.get("AppstreamAgentVersion") == "LATEST")
    return {"ImageBuilder": builder.view()}


def stop(backend: AppStreamBackend, Name: str) -> dict[str, Any]:  # noqa: N803
    """StopImageBuilder."""
    builder = one(backend.builders, "image builder", Name)
    _must_be(builder, "a stop", "RUNNING")
    builder.go("STOPPING", (STOP_SECONDS, "STOPPED"))
    return {"ImageBuilder": builder.view()}


def delete(backend: AppStreamBackend, Name: str) -> dict[str, Any]:  # noqa: N803
    """DeleteImageBuilder."""
    builder = one(backend.builders, "image builder", Name)
    _must_be(builder, "a deletion", "STOPPED", "FAILED")
    builder.go(
        "DELETING", (DELETE_SECONDS, "DELETED"), at_end=lambda: backend.builders.pop(Name, None) and None
    )
    return {"ImageBuilder": builder.view()}


def update(backend: AppStreamBackend, Name: str, **given: Any) -> dict[str, Any]:  # noqa: N803
    """UpdateImageBuilder."""
    builder = one(backend.builders, "image builder", Name)
    _must_be(builder, "an update", "STOPPED")
    given.pop("AttributesToDelete", None)
    builder.data.update(given)
    return {"ImageBuilder": builder.view()}


def describe(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """DescribeImageBuilders."""
    found = [each.view() for each in named(backend.builders, "image builder", given.get("Names"))]
    return page("ImageBuilders", found, given.get("NextToken"), given.get("MaxResults"))


def streaming_url(backend: AppStreamBackend, Name: str, **given: Any) -> dict[str, Any]:  # noqa: N803
    """CreateImageBuilderStreamingURL."""
    builder = one(backend.builders, "image builder", Name)
    _must_be(builder, "streaming", "RUNNING")
    seconds = int(given.get("Validity") or 3600)
    if not 1 <= seconds <= 604800:
        raise refuse("OperationNotPermitted", "Validity must be between 1 and 604800 seconds.")
    url = f"https://appstream2.{backend.region_name}.aws.amazon.com/authenticate?parameters={mock_random.uuid4()}"
    return {"StreamingURL": url, "Expires": CLOCK.date(CLOCK.now() + seconds)}


@control.action
def image_assistant(
    account: str,
    region: str,
    builder: str,
    image: str,
    applications: list[dict[str, Any]] | None = None,
    description: str | None = None,
    display_name: str | None = None,
    tags: dict[str, str] | None = None,
    use_latest_agent_version: bool = False,
    dry_run: bool = False,
    fails: str = "",
) -> dict[str, Any]:
    """Do what ``image-assistant create-image`` does on a builder.

    Parameters
    ----------
    applications:
        As :func:`imports.application` takes them: what ``add-application`` was told.
    fails:
        What the image comes to nothing by; empty where it does not.

    Returns
    -------
    dict
        ``status`` 0 and a ``message``, or 1 and why not.
    """
    from tests.emulator.appstream import imports

    backend = appstream_backends[account][region]
    found = backend.builders.get(builder)
    if found is None or found.state != "RUNNING":
        return {"status": 1, "message": f"{builder} does not run"}
    if image in backend.images:
        return {"status": 1, "message": f"an image with the name {image} already exists"}
    if len(backend.images) >= limits.resource("images"):
        return {"status": 1, "message": "the limit of images is reached"}
    if dry_run:
        return {"status": 0, "message": "Success: the parameters are valid"}
    graphics = found.data["InstanceType"].startswith(limits.GRAPHICS)
    families = [found.data["InstanceType"].rpartition(".")[0]] if graphics else list(limits.STANDARD_FAMILIES)
    made = Image(
        image,
        backend.arn("image", image),
        "PENDING",
        BaseImageArn=found.data["ImageArn"],
        ImageBuilderName=builder,
        ImageBuilderSupported=True,
        ImageType="NATIVE",
        Platform=found.data["Platform"],
        Description=description,
        DisplayName=display_name,
        AppstreamAgentVersion=images.AGENT,
        LatestAppstreamAgentVersion="TRUE" if use_latest_agent_version else "FALSE",
        SupportedInstanceFamilies=families,
        Applications=[imports.application(each) for each in applications or []],
    )
    made.tags = dict(tags or {})
    made.go(
        "PENDING",
        (60.0, "CREATING"),
        (SNAPSHOT_SECONDS, "FAILED" if fails else "AVAILABLE"),
        at_end=lambda: _made(made, fails),
    )
    backend.images[image] = made
    found.go("SNAPSHOTTING", (SNAPSHOT_SECONDS, "STOPPING"), (STOP_SECONDS, "STOPPED"))
    return {"status": 0, "message": f"Success: the image {image} is being created"}


def _made(image: Image, fails: str) -> None:
    if fails:
        told = {"ErrorCode": "INTERNAL_SERVICE_ERROR", "ErrorMessage": fails}
        image.failed("IMAGE_BUILDER_NOT_AVAILABLE", fails, [told])


CALLS = {
    "CreateImageBuilder": create,
    "StartImageBuilder": start,
    "StopImageBuilder": stop,
    "DeleteImageBuilder": delete,
    "UpdateImageBuilder": update,
    "DescribeImageBuilders": describe,
    "CreateImageBuilderStreamingURL": streaming_url,
}
