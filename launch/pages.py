"""Lists of AWS that come in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def held(reservations: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the instances of reservations, by which EC2 lists them.

    Parameters
    ----------
    reservations:
        As ``describe_instances`` gives them.

    Yields
    ------
    dict
        An instance.
    """
    for reservation in reservations:
        yield from reservation["Instances"]
