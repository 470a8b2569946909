"""Image builders: found by name, started, reached, and taken down again in whatever state they are."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from kiln.errors import KilnError
from launch import fleet
from launch.appstream import ABSENT, FORBIDDEN, IN_USE, ask, listed, until
from launch.cloud import Cloud
from launch.plan import Request, Say, requests
from launch.trouble import AGAIN, code

MINUTES = 60.0
"""How long a builder may take to any state: a start takes 15, a snapshot of a large disk half an hour."""

UNSEEN = 20

PASSING = (FORBIDDEN, IN_USE)
"""Refusals of a stop or a deletion that may pass when AppStream has ended what it is at."""

REFUSALS = 10
"""How many of them are waited through."""

STILL = frozenset({"RUNNING", "STOPPED", "FAILED"})
"""States that end only when somebody does something; in any other AppStream is at work."""

REASONS: dict[str, str] = {
    "IMAGE_UNAVAILABLE": "its base image is gone: name another base in kiln.toml",
    "INTERNAL_ERROR": f"the fault is AppStream's own: {AGAIN}; if it comes back, ask AWS Support",
}


def name_of(project: str, image: str, purpose: str = "builder") -> str:
    """Return the name of the builder of an image; there is one, so that a second run finds it."""
    return f"{project}-{image}-{purpose}"


def announced(region: str) -> tuple[Request, ...]:
    """What :func:`remove` sends; a step that may fail with a builder running announces it too."""
    return requests("appstream", region, "StopImageBuilder", "DeleteImageBuilder")


def find(cloud: Cloud, region: str, name: str) -> dict[str, Any] | None:
    """Return a builder as DescribeImageBuilders gives it, None where there is none.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    found = listed(
        cloud,
        region,
        f"looking for image builder {name}",
        "describe_image_builders",
        "ImageBuilders",
        Names=[name],
    )
    return next((builder for builder in found if builder["Name"] == name), None)


def explained(builder: dict[str, Any]) -> tuple[str, str]:
    """Return what is wrong with a failed builder and what to do about it, a line each."""
    reason = builder.get("StateChangeReason") or {}
    found = [
        (
            f"{each.get('ErrorCode')}: {each.get('ErrorMessage', '')}",
            fleet.hint_for(str(each.get("ErrorCode"))),
        )
        for each in builder.get("ImageBuilderErrors") or []
    ]
    code = str(reason.get("Code", "no reason given"))
    lines = [f"{code}: {reason.get('Message', '')}".rstrip(": "), *(what for what, _ in found)]
    hint = found[0][1] if found else REASONS.get(code, REASONS["INTERNAL_ERROR"])
    return f"image builder {builder['Name']} failed: " + " ".join("; ".join(lines).split()), hint


def create(cloud: Cloud, region: str, params: dict[str, Any], say: Say) -> None:
    """Make a builder; nothing where there is one. CreateImageBuilder must have been announced.

    Parameters
    ----------
    cloud, region:
        Where.
    params:
        Of CreateImageBuilder.
    say:
        Is told.

    Raises
    ------
    KilnError
        AppStream refuses.
    """
    name = params["Name"]
    if find(cloud, region, name) is None:
        say(f"making image builder {name}")
        ask(
            cloud,
            region,
            f"making image builder {name}",
            "create_image_builder",
            settled=lambda: find(cloud, region, name) is not None,
            hints={ABSENT: "its base image or role is not there: correct them in kiln.toml"},
            **params,
        )


def running(cloud: Cloud, region: str, name: str, say: Say) -> str:
    """Wait until a builder runs, starting one that is stopped, and return its address.

    Parameters
    ----------
    cloud, region, name:
        Which. StartImageBuilder must have been announced.
    say:
        Is told its state.

    Returns
    -------
    str
        Private address of its network interface.

    Raises
    ------
    KilnError
        It failed, with its errors explained, or it is not there.
    """
    unseen = 0

    def look() -> str | None:
        nonlocal unseen
        builder = find(cloud, region, name)
        if builder is None:
            unseen += 1
            if unseen > UNSEEN:
                raise KilnError(f"image builder {name} is not there", AGAIN)
            return None
        unseen = 0
        say(f"image builder {name}: {builder['State']}")
        if builder["State"] == "FAILED":
            raise KilnError(*explained(builder))
        if builder["State"] == "DELETING":
            raise KilnError(f"image builder {name} is being deleted", f"when it is gone, {AGAIN}")
        if builder["State"] == "STOPPED":
            ask(
                cloud,
                region,
                f"starting image builder {name}",
                "start_image_builder",
                settled=lambda: (find(cloud, region, name) or {}).get("State") not in (None, "STOPPED"),
                Name=name,
            )
            return None
        if builder["State"] != "RUNNING":
            return None
        address = (builder.get("NetworkAccessConfiguration") or {}).get("EniPrivateIpAddress")
        if not address:
            raise KilnError(
                f"image builder {name} runs and has no network interface",
                "name a subnet under builder in kiln.toml that this machine can reach",
            )
        return str(address)

    return until(cloud, f"image builder {name}", MINUTES, look)


def remove(cloud: Cloud, region: str, name: str, say: Say) -> None:
    """Delete a builder and wait until it is gone; nothing where there is none.

    Parameters
    ----------
    cloud, region, name:
        Which. What :func:`announced` returns must have been announced.
    say:
        Is told.

    Raises
    ------
    KilnError
        It does not go.
    """

    def state() -> str | None:
        return (find(cloud, region, name) or {}).get("State")

    def end(now: str) -> None:
        if now == "RUNNING":
            ask(
                cloud,
                region,
                f"stopping image builder {name}",
                "stop_image_builder",
                settled=lambda: state() != "RUNNING",
                Name=name,
            )
        elif now in STILL:
            ask(
                cloud,
                region,
                f"deleting image builder {name}",
                "delete_image_builder",
                settled=lambda: state() in (None, "DELETING"),
                Name=name,
            )

    refused = 0

    def look() -> bool | None:
        nonlocal refused
        now = state()
        if now is None:
            return True
        say(f"deleting image builder {name}: {now}")
        try:
            end(now)
        except KilnError as error:
            # Its state may change between the look and the request; a builder that is left is billed.
            cause = error.__cause__
            if not isinstance(cause, ClientError) or code(cause) not in PASSING or refused == REFUSALS:
                raise
            refused += 1
        return None

    until(cloud, f"deleting image builder {name}", MINUTES, look)
