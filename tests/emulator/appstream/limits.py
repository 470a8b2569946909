"""Quotas of AppStream and the families of its instance types.

By default no account may run any graphics size
(https://docs.aws.amazon.com/appstream2/latest/developerguide/limits.html).
"""

from __future__ import annotations

from typing import Any

from tests.emulator import control
from tests.emulator.appstream.models import AppStreamBackend, refuse

RESOURCES = {"images": 10, "builders": 10, "fleets": 10, "stacks": 10, "shares": 100, "copies": 2}
"""How many of each an account may have in a region; copies are those that are made at one time."""

INSTANCES = {"fleets": 50, "builders": 10}
"""How many instances of a size that is not one of graphics."""

GRAPHICS = ("stream.graphics", "Accelerated")
CUSTOM = ("GeneralPurpose", "ComputeOptimized", "MemoryOptimized", "Accelerated")
"""Families for images that were imported: https://docs.aws.amazon.com/appstream2/latest/developerguide/import-image.html"""

NATIVE = ("stream.",)
STANDARD_FAMILIES = ("stream.standard", "stream.compute", "stream.memory")
GRAPHICS_FAMILIES = (
    "stream.graphics.g4dn",
    "stream.graphics.g5",
    "stream.graphics.g6",
    "stream.graphics.gr6",
)

control.setting("appstream_limits", {})


def resource(what: str) -> int:
    """Quota of a kind of resource; the setting ``appstream_limits`` may have another."""
    return int(control.SETTINGS["appstream_limits"].get(what, RESOURCES[what]))


def instances(kind: str, instance_type: str) -> int:
    """Quota of instances of a type, for ``fleets`` or ``builders``; ``appstream_limits`` has others as
    ``fleets:TYPE``."""
    default = 0 if instance_type.startswith(GRAPHICS) else INSTANCES[kind]
    return int(control.SETTINGS["appstream_limits"].get(f"{kind}:{instance_type}", default))


def one_more(backend: AppStreamBackend, what: str) -> None:
    """Refuse another one where the quota is used up."""
    kept: dict[str, Any] = getattr(backend, what)
    if len(kept) >= resource(what):
        raise refuse("LimitExceeded", f"The limit of {resource(what)} {what} is reached.")


def room(backend: AppStreamBackend, kind: str, instance_type: str, wanted: int, but: str = "") -> None:
    """Refuse instances that would exceed the quota of their type.

    Parameters
    ----------
    kind:
        ``fleets`` or ``builders``.
    wanted:
        How many there would be of the resource named by ``but``.
    but:
        The resource that is asked about: what it has now does not count.
    """
    counts = [
        each.wanted()
        for name, each in getattr(backend, kind).items()
        if name != but and each.data["InstanceType"] == instance_type
    ]
    quota = instances(kind, instance_type)
    if sum(counts) + wanted > quota:
        raise refuse(
            "LimitExceeded",
            f"The account may run {quota} instances of {instance_type} in {kind}, and {sum(counts) + wanted} "
            "were asked for.",
        )


def fits(image: Any, instance_type: str) -> None:
    """Refuse an instance type that an image does not run on."""
    imported = image.data.get("ImageType") == "CUSTOM"
    families = CUSTOM if imported else tuple(image.data.get("SupportedInstanceFamilies") or NATIVE)
    if not instance_type.startswith(tuple(families)):
        raise refuse(
            "IncompatibleImage",
            f"The image {image.name} of type {image.data.get('ImageType')} does not run on the instance type "
            f"{instance_type}; it supports {', '.join(families)}.",
        )
