"""Tags of AppStream's resources."""

from __future__ import annotations

from typing import Any

from tests.emulator.appstream.models import AppStreamBackend, Resource, refuse

MOST = 50


def _resource(backend: AppStreamBackend, arn: str) -> Resource:
    for resource in backend.resources():
        if resource.arn == arn:
            return resource
    raise refuse("ResourceNotFound", f"The resource {arn} was not found.")


def add(backend: AppStreamBackend, ResourceArn: str, Tags: dict[str, str]) -> dict[str, Any]:  # noqa: N803
    """TagResource."""
    resource = _resource(backend, ResourceArn)
    if len(resource.tags | dict(Tags)) > MOST:
        raise refuse("LimitExceeded", f"A resource has at most {MOST} tags.")
    resource.tags |= dict(Tags)
    return {}


def remove(backend: AppStreamBackend, ResourceArn: str, TagKeys: list[str]) -> dict[str, Any]:  # noqa: N803
    """UntagResource."""
    resource = _resource(backend, ResourceArn)
    resource.tags = {key: value for key, value in resource.tags.items() if key not in TagKeys}
    return {}


def told(backend: AppStreamBackend, ResourceArn: str) -> dict[str, Any]:  # noqa: N803
    """ListTagsForResource: the model has no empty map, so a resource without tags has none in the answer."""
    found = dict(_resource(backend, ResourceArn).tags)
    return {"Tags": found} if found else {}


CALLS = {"TagResource": add, "UntagResource": remove, "ListTagsForResource": told}
