"""Lists of AWS that come in pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def every(client: Any, operation: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
    """Ask for a list, page by page as it is read.

    Parameters
    ----------
    client:
        Of boto3.
    operation:
        As boto3 names it: ``describe_images``.
    key:
        What the answer calls the list.
    params:
        Of the request; ``PaginationConfig`` too.

    Yields
    ------
    dict
        What stands in the list.

    Raises
    ------
    ClientError
        AWS did not tell, as the list is read.
    """
    if client.can_paginate(operation):
        for page in client.get_paginator(operation).paginate(**params):
            yield from page.get(key, [])
        return
    # Botocore pages no refreshes; their answers have a token all the same.
    more: dict[str, Any] = {}
    while True:
        page = getattr(client, operation)(**params, **more)
        yield from page.get(key, [])
        if not page.get("NextToken"):
            return
        more = {"NextToken": page["NextToken"]}


def instances(ec2: Any, **params: Any) -> Iterator[dict[str, Any]]:
    """Ask for instances, which EC2 lists by reservation; parameters and errors as of :func:`every`."""
    for reservation in every(ec2, "describe_instances", "Reservations", **params):
        yield from reservation["Instances"]
