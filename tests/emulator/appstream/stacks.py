"""AppStream's stacks, and which fleet is in which."""

from __future__ import annotations

from typing import Any

from tests.emulator.appstream import limits
from tests.emulator.appstream.models import AppStreamBackend, Resource, named, one, page, refuse

DELETABLE = {
    "STORAGE_CONNECTORS": "StorageConnectors",
    "REDIRECT_URL": "RedirectURL",
    "FEEDBACK_URL": "FeedbackURL",
    "USER_SETTINGS": "UserSettings",
    "EMBED_HOST_DOMAINS": "EmbedHostDomains",
    "ACCESS_ENDPOINTS": "AccessEndpoints",
    "STREAMING_EXPERIENCE_SETTINGS": "StreamingExperienceSettings",
}
"""``AttributesToDelete`` → what goes."""


def create(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """CreateStack."""
    name = given.pop("Name")
    if name in backend.stacks:
        raise refuse("ResourceAlreadyExists", f"A stack with the name {name} already exists.")
    limits.one_more(backend, "stacks")
    tags = dict(given.pop("Tags", None) or {})
    stack = Resource("stack", name, backend.arn("stack", name), given, tags=tags)
    backend.stacks[name] = stack
    return {"Stack": stack.view()}


def update(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """UpdateStack."""
    stack = one(backend.stacks, "stack", given.pop("Name"))
    for each in given.pop("AttributesToDelete", None) or []:
        stack.data.pop(DELETABLE.get(each, each), None)
    if given.pop("DeleteStorageConnectors", None):
        stack.data.pop("StorageConnectors", None)
    stack.data.update(given)
    return {"Stack": stack.view()}


def delete(backend: AppStreamBackend, Name: str) -> dict[str, Any]:  # noqa: N803
    """DeleteStack: only without a fleet."""
    one(backend.stacks, "stack", Name)
    if fleets := [fleet for fleet, stack in backend.associations if stack == Name]:
        raise refuse("ResourceInUse", f"The stack {Name} is associated with the fleet {fleets[0]}.")
    del backend.stacks[Name]
    return {}


def describe(backend: AppStreamBackend, **given: Any) -> dict[str, Any]:
    """DescribeStacks."""
    found = [stack.view() for stack in named(backend.stacks, "stack", given.get("Names"))]
    return page("Stacks", found, given.get("NextToken"))


def associate(backend: AppStreamBackend, FleetName: str, StackName: str) -> dict[str, Any]:  # noqa: N803
    """AssociateFleet: a stack holds one fleet; the same one again changes nothing."""
    one(backend.fleets, "fleet", FleetName)
    one(backend.stacks, "stack", StackName)
    held = [fleet for fleet, stack in backend.associations if stack == StackName]
    if held and held != [FleetName]:
        raise refuse(
            "LimitExceeded", f"The stack {StackName} already is associated with the fleet {held[0]}."
        )
    if not held:
        backend.associations.append((FleetName, StackName))
    return {}


def disassociate(backend: AppStreamBackend, FleetName: str, StackName: str) -> dict[str, Any]:  # noqa: N803
    """DisassociateFleet: not while somebody streams."""
    fleet = one(backend.fleets, "fleet", FleetName)
    one(backend.stacks, "stack", StackName)
    if (FleetName, StackName) not in backend.associations:
        raise refuse("ResourceNotFound", f"The fleet {FleetName} is not associated with {StackName}.")
    if fleet.sessions:
        raise refuse("ResourceInUse", f"{len(fleet.sessions)} users stream from the fleet {FleetName}.")
    backend.associations.remove((FleetName, StackName))
    return {}


def fleets(backend: AppStreamBackend, StackName: str, **given: Any) -> dict[str, Any]:  # noqa: N803
    """ListAssociatedFleets."""
    found = [fleet for fleet, stack in backend.associations if stack == StackName]
    return page("Names", found, given.get("NextToken"))


def stacks(backend: AppStreamBackend, FleetName: str, **given: Any) -> dict[str, Any]:  # noqa: N803
    """ListAssociatedStacks."""
    found = [stack for fleet, stack in backend.associations if fleet == FleetName]
    return page("Names", found, given.get("NextToken"))


CALLS = {
    "CreateStack": create,
    "UpdateStack": update,
    "DeleteStack": delete,
    "DescribeStacks": describe,
    "AssociateFleet": associate,
    "DisassociateFleet": disassociate,
    "ListAssociatedFleets": fleets,
    "ListAssociatedStacks": stacks,
}
