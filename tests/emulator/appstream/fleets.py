"""AppStream's fleets: what may change while they run, and what keeps them from running."""

from __future__ import annotations

from typing import Any

from tests.emulator import control
from tests.emulator.appstream import images, limits, network, roles
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
STOP_SECONDS = 300.0
PROVISION_SECONDS = 300.0
"""From a change of the capacity or the image to instances that have it."""

LIVE = {
    "Name",
    "DisplayName",
    "ComputeCapacity",
    "ImageName",
    "ImageArn",
    "IdleDisconnectTimeoutInSeconds",
    "DisconnectTimeoutInSeconds",
}
"""What may change while a fleet is RUNNING (botocore's model, UpdateFleet)."""

DELETABLE = {
    "VPC_CONFIGURATION": "VpcConfig",
    "VPC_CONFIGURATION_SECURITY_GROUP_IDS": "VpcConfig",
    "DOMAIN_JOIN_INFO": "DomainJoinInfo",
    "IAM_ROLE_ARN": "IamRoleArn",
    "USB_DEVICE_FILTER_STRINGS": "UsbDeviceFilterStrings",
    "SESSION_SCRIPT_S3_LOCATION": "SessionScriptS3Location",
    "MAX_SESSIONS_PER_INSTANCE": "MaxSessionsPerInstance",
}
"""``AttributesToDelete`` → what goes."""

SOFT = ("SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES",)
"""Errors with which a fleet runs on, with fewer instances."""

DEFAULTS = {
    "MaxUserDurationInSeconds": 57600,
    "DisconnectTimeoutInSeconds": 900,
    "IdleDisconnectTimeoutInSeconds": 0,
    "EnableDefaultInternetAccess": False,
    "StreamView": "APP",
}


class Fleet(Resource):
    """A fleet of an account."""

    def __init__(self, backend: AppStreamBackend, name: str, data: dict[str, Any]) -> None:
        super().__init__("fleet", name, backend.arn("fleet", name), data, "STOPPED")
        self.backend = backend
        self.errors: list[dict[str, str]] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.changed = self.created
        self.instances = 0

    def wanted(self) -> int:
        """How many instances it is to have."""
        return int((self.data.get("ComputeCapacity") or {}).get("DesiredInstances") or 0)

    def running(self) -> int:
        """How many instances it has by now."""
        if self.state != "RUNNING":
            return 0
        if CLOCK.now() >= self.changed + PROVISION_SECONDS:
            short = any(each["ErrorCode"] in SOFT for each in self.errors)
            self.instances = 0 if short else self.wanted()
        return max(min(self.instances, self.wanted()), len(self.sessions))

    def resize(self) -> None:
        """The capacity or the image changed: instances follow after a while."""
        self.running()
        self.changed = CLOCK.now()
        self.errors = self.trouble()

    def trouble(self) -> list[dict[str, str]]:
        """What keeps it from having the instances that it is to have."""
        found = network.errors(self.backend, self.data.get("VpcConfig"), self.wanted())
        role = self.data.get("IamRoleArn")
        if role and roles.find(self.backend, role) is None:
            found.append(
                {"ErrorCode": "MACHINE_ROLE_IS_MISSING", "ErrorMessage": f"The role {role} is gone."}
            )
        arns = [image.arn for _, image in images.seen(self.backend) if image.state == "AVAILABLE"]
        if self.data["ImageArn"] not in arns:
            message = f"The image {self.data['ImageArn']} cannot be used."
            found.append({"ErrorCode": "IMAGE_NOT_FOUND", "ErrorMessage": message})
        return found

    def started(self) -> None:
        """The end of its start: it runs, or it does not."""
        self.changed, self.instances = CLOCK.now(), self.wanted()
        self.errors = self.trouble()
        if any(each["ErrorCode"] not in SOFT for each in self.errors):
            self.state, self.instances = "STOPPED", 0
        elif self.errors:
            self.instances = 0

    def stopped(self) -> None:
        """The end of its stop: nobody streams any more."""
        self.sessions.clear()
        self.instances = 0

    def view(self) -> dict[str, Any]:
        """As DescribeFleets answers."""
        found = {key: value for key, value in super().view().items() if key != "ComputeCapacity"}
        running, used = self.running(), len(self.sessions)
        found["ComputeCapacityStatus"] = {
            "Desired": self.wanted(),
            "Running": running,
            "InUse": used,
            "Available": running - used,
        }
        return found | {"FleetErrors": list(self.errors)}


def _checked(backend: AppStreamBackend, name: str, data: dict[str, Any]) -> None:
    """Refuse what cannot be a fleet."""
    kind = data.get("FleetType") or "ON_DEMAND"
    if kind == "ELASTIC":
        raise refuse("OperationNotPermitted", "The emulator knows no ELASTIC fleets: they have no GPU.")
    if not (data.get("ComputeCapacity") or {}).get("DesiredInstances"):
        raise refuse(
            "InvalidParameterCombination", f"ComputeCapacity is required for a fleet of type {kind}."
        )
    if not (data.get("ImageName") or data.get("ImageArn")):
        raise refuse("InvalidParameterCombination", "ImageName or ImageArn is required.")
    subnets = (data.get("VpcConfig") or {}).get("SubnetIds") or []
    if kind == "ALWAYS_ON" and not subnets and not data.get("EnableDefaultInternetAccess"):
        raise refuse(
            "InvalidParameterCombination", "An ALWAYS_ON fleet needs a VPC or default internet access."
        )
    if data.get("EnableDefaultInternetAccess") and (data["ComputeCapacity"]["DesiredInstances"]) > 100:
        raise refuse(
            "InvalidParameterCombination", "With default internet access a fleet has at most 100 instances."
        )
    image = images.usable(backend, "allowFleet", data.get("ImageName"), data.get("ImageArn"))
    limits.fits(image, data["InstanceType"])
    roles.check(backend, data.get("IamRoleArn"))
    limits.room(backend, "fleets", data["InstanceType"], data["ComputeCapacity"]["DesiredInstances"], name)
    data.update(ImageName=image.name, ImageArn=image.arn, Platform=image.data["Platform"])


def create(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """CreateFleet."""
    name = given["Name"]
    if name in backend.fleets:
        raise refuse("ResourceAlreadyExists", f"A fleet with the name {name} already exists.")
    limits.one_more(backend, "fleets")
    tags = dict(given.pop("Tags", None) or {})
    data = {**DEFAULTS, "FleetType": "ON_DEMAND", **{k: v for k, v in given.items() if k != "Name"}}
    _checked(backend, name, data)
    fleet = Fleet(backend, name, data)
    fleet.tags = tags
    backend.fleets[name] = fleet
    return {"Fleet": fleet.view()}


def update(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """UpdateFleet: what runs changes only in what :data:`LIVE` has, and keeps its system."""
    fleet = one(backend.fleets, "fleet", given.get("Name"))
    gone = [DELETABLE[each] for each in given.pop("AttributesToDelete", None) or []]
    gone += ["VpcConfig"] if given.pop("DeleteVpcConfig", None) else []
    if fleet.state in ("STARTING", "STOPPING"):
        raise refuse("OperationNotPermitted", f"The fleet {fleet.name} is {fleet.state}.")
    fixed = sorted((set(given) - LIVE) | set(gone))
    if fleet.state == "RUNNING" and fixed:
        raise refuse(
            "OperationNotPermitted",
            f"{', '.join(fixed)} cannot be updated while the fleet {fleet.name} is RUNNING; stop it first.",
        )
    changes = {key: value for key, value in given.items() if key != "Name"}
    data = {key: value for key, value in {**fleet.data, **changes}.items() if key not in gone}
    if "ImageName" in changes and "ImageArn" not in changes:
        data["ImageArn"] = None
    before = fleet.data["Platform"]
    _checked(backend, fleet.name, data)
    if fleet.state == "RUNNING" and data["Platform"] != before:
        raise refuse(
            "OperationNotPermitted",
            f"The fleet {fleet.name} runs {before}, and the image {data['ImageName']} is {data['Platform']}; "
            "stop it first.",
        )
    fleet.data = data
    fleet.resize()
    return {"Fleet": fleet.view()}


def start(backend: AppStreamBackend, Name: str) -> dict[str, Any]:  # noqa: N803
    """StartFleet: what is missing shows in ``FleetErrors`` of a fleet that is STOPPED again."""
    fleet = one(backend.fleets, "fleet", Name)
    if fleet.state != "STOPPED":
        raise refuse("OperationNotPermitted", f"The fleet {Name} is {fleet.state}.")
    limits.room(backend, "fleets", fleet.data["InstanceType"], fleet.wanted(), Name)
    fleet.errors = []
    fleet.go("STARTING", (START_SECONDS, "RUNNING"), at_end=fleet.started)
    return {}


def stop(backend: AppStreamBackend, Name: str) -> dict[str, Any]:  # noqa: N803
    """StopFleet: sessions end with it; stopping one that is stopped changes nothing."""
    fleet = one(backend.fleets, "fleet", Name)
    if fleet.state in ("RUNNING", "STARTING"):
        fleet.go("STOPPING", (STOP_SECONDS, "STOPPED"), at_end=fleet.stopped)
    return {}


def delete(backend: AppStreamBackend, Name: str) -> dict[str, Any]:  # noqa: N803
    """DeleteFleet: only one that is stopped and in no stack."""
    fleet = one(backend.fleets, "fleet", Name)
    if fleet.state != "STOPPED":
        raise refuse("ResourceInUse", f"The fleet {Name} is {fleet.state}.")
    if stacks := [stack for name, stack in backend.associations if name == Name]:
        raise refuse("ResourceInUse", f"The fleet {Name} is associated with the stacks {', '.join(stacks)}.")
    del backend.fleets[Name]
    return {}


def describe(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """DescribeFleets."""
    found = [fleet.view() for fleet in named(backend.fleets, "fleet", given.get("Names"))]
    return page("Fleets", found, given.get("NextToken"))


def sessions(backend: AppStreamBackend, StackName: str, FleetName: str, **given: Any) -> dict[str, Any]:  # noqa: N803
    """DescribeSessions."""
    if (FleetName, StackName) not in backend.associations:
        raise refuse("InvalidParameterCombination", f"The fleet {FleetName} is not in the stack {StackName}.")
    fleet = one(backend.fleets, "fleet", FleetName)
    found = [
        {
            "StackName": StackName,
            "FleetName": FleetName,
            "AuthenticationType": "API",
            "State": "ACTIVE",
            **each,
        }
        for each in fleet.sessions.values()
        if not given.get("UserId") or each["UserId"] == given["UserId"]
    ]
    return page("Sessions", found, given.get("NextToken"), given.get("Limit"))


def expire(backend: AppStreamBackend, SessionId: str) -> dict[str, Any]:  # noqa: N803
    """ExpireSession."""
    for fleet in backend.fleets.values():
        fleet.sessions.pop(SessionId, None)
    return {}


@control.action
def appstream_session(account: str, region: str, fleet: str, user: str) -> str:
    """Let a user begin to stream from a fleet that runs; returns the session's id."""
    found = one(appstream_backends[account][region].fleets, "fleet", fleet)
    if found.running() <= len(found.sessions):
        raise ValueError(f"the fleet {fleet} has no instance left")
    identity = f"{fleet}-{user}-{len(found.sessions)}"
    found.sessions[identity] = {
        "Id": identity,
        "UserId": user,
        "StartTime": CLOCK.date(),
        "ConnectionState": "CONNECTED",
    }
    return identity


CALLS = {
    "CreateFleet": create,
    "UpdateFleet": update,
    "StartFleet": start,
    "StopFleet": stop,
    "DeleteFleet": delete,
    "DescribeFleets": describe,
    "DescribeSessions": sessions,
    "ExpireSession": expire,
}
