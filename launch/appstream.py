"""Asking AppStream: which errors pass by themselves, which end a run, and what to do about each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from launch.cloud import POLL_SECONDS, Cloud
from launch.trouble import AGAIN, code, told
from launch.until import until as poll

Found = TypeVar("Found")

BUSY = ("ConcurrentModificationException", "RequestLimitExceededException")
"""Pass in a few minutes, says the service's reference: back off and try again."""

UNREADY = ("ResourceNotAvailableException",)
"""The resource is there and is not ready yet: look again, for a while."""

ABSENT = "ResourceNotFoundException"
PRESENT = "ResourceAlreadyExistsException"
IN_USE = "ResourceInUseException"
FORBIDDEN = "OperationNotPermittedException"
DRY_RUN = "DryRunOperationException"

BUSY_TRIES = 8
UNREADY_TRIES = 40
"""Ten minutes of looks, :data:`launch.cloud.POLL_SECONDS` apart."""

HINTS: dict[str, str] = {
    "ConcurrentModificationException": f"somebody else changes it; wait a few minutes, then {AGAIN}",
    "RequestLimitExceededException": f"EC2 throttles this account; wait a few minutes, then {AGAIN}",
    "ResourceNotAvailableException": f"it is not ready: look at its state in AppStream, then {AGAIN}",
    IN_USE: "something still uses it: end its sessions or move its stack first",
    FORBIDDEN: "its state or this account does not allow that: look at its state in AppStream; what a new "
    "account may not do yet is allowed by AWS Support",
    "IncompatibleImageException": "the image does not suit: an imported image runs on GeneralPurpose, "
    "ComputeOptimized, MemoryOptimized and Accelerated types only, AWS's own on stream.* only",
    "InvalidRoleException": "let the role trust appstream.amazonaws.com, with ec2:ModifyImageAttribute and "
    "ec2:DescribeImages, and let the operator pass it (iam:PassRole)",
    "InvalidParameterCombinationException": "two settings exclude each other: read what AppStream says, and "
    "correct kiln.toml",
    "InvalidAccountStatusException": "AWS has suspended the account: write to AWS Support",
    "LimitExceededException": "ask for more under Service Quotas, Amazon AppStream 2.0: every graphics size "
    "begins at 0",
    ABSENT: "make it first, or correct its name in kiln.toml",
    PRESENT: "another, which is not ours, has that name: remove it, or name ours otherwise in kiln.toml",
}
"""What to do about an error that does not pass, by its code (field notes, appstream.md)."""


def ask(
    cloud: Cloud,
    region: str,
    doing: str,
    operation: str,
    *,
    settled: Callable[[], bool] | None = None,
    hints: Mapping[str, str] | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Send a request; wait where AppStream is busy.

    Parameters
    ----------
    cloud, region:
        Whom to ask.
    doing:
        What is being done, for the message: ``stopping fleet kiln-readers``.
    operation:
        As boto3 names it: ``stop_fleet``.
    settled:
        Whether what is wanted is there already. It is asked after an error: a request whose answer was lost
        is sent again by botocore, and then meets what it has made itself.
    hints:
        More of :data:`HINTS`, which go before them.
    params:
        Of the request.

    Returns
    -------
    dict
        The answer; empty where it was an error and all is as wanted.

    Raises
    ------
    KilnError
        The request failed for good, or AppStream stayed busy.
    """
    with told(doing, {**HINTS, **(hints or {})}):
        return _sent(cloud, region, operation, params, settled)


def _sent(
    cloud: Cloud,
    region: str,
    operation: str,
    params: dict[str, Any],
    settled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Send a request until AppStream is neither busy nor unready, or what is wanted is there."""
    call = getattr(cloud.client("appstream", region), operation)
    busy = unready = 0
    while True:
        try:
            answer: dict[str, Any] = call(**params)
        except ClientError as error:
            name = code(error)
            if settled is not None and settled():
                return {}
            if name in BUSY and busy < BUSY_TRIES:
                busy += 1
                cloud.wait(2.0**busy)
            elif name in UNREADY and unready < UNREADY_TRIES:
                unready += 1
                cloud.wait()
            else:
                raise
        else:
            return answer


def listed(cloud: Cloud, region: str, doing: str, operation: str, key: str, **params: Any) -> list[Any]:
    """Ask for a list, page by page; not all of AppStream's lists have a paginator.

    Parameters
    ----------
    cloud, region, doing, operation, params:
        As of :func:`ask`.
    key:
        What the answer calls the list.

    Returns
    -------
    list
        All of it. One asked for by names that are not there is empty.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    found: list[Any] = []
    with told(doing, HINTS):
        token: dict[str, str] = {}
        while True:
            try:
                answer = _sent(cloud, region, operation, {**params, **token})
            except ClientError as error:
                if code(error) == ABSENT:
                    return []
                raise
            found += answer.get(key, [])
            if not answer.get("NextToken"):
                return found
            token = {"NextToken": answer["NextToken"]}


def until(cloud: Cloud, what: str, minutes: float, look: Callable[[], Found | None]) -> Found:
    """Look again and again until there is something to see.

    Parameters
    ----------
    cloud:
        Waits.
    what:
        What is waited for, for the message.
    minutes:
        How long at most, in looks of :data:`launch.cloud.POLL_SECONDS`.
    look:
        Returns None while there is nothing; it raises where waiting has no use.

    Returns
    -------
    object
        What ``look`` returned.

    Raises
    ------
    KilnError
        The time is up.
    """
    return poll(cloud, look, what, math.ceil(minutes * 60 / POLL_SECONDS))


def tags(cloud: Cloud, region: str, arn: str) -> dict[str, str]:
    """Return the tags of a resource of AppStream.

    Parameters
    ----------
    cloud, region:
        Whom to ask.
    arn:
        Of the resource.
    """
    answer = ask(cloud, region, f"reading the tags of {arn}", "list_tags_for_resource", ResourceArn=arn)
    return dict(answer.get("Tags") or {})
