"""Waiting for AWS: look, sleep, look again, so many times and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kiln.errors import KilnError
from launch.cloud import Cloud
from launch.trouble import AGAIN

LOOKS = 960
"""How often we look at most: four hours at 15 s each, for a large copy between continents takes long."""

_Found = TypeVar("_Found")


def until(cloud: Cloud, look: Callable[[], _Found | None], what: str, looks: int = LOOKS) -> _Found:
    """Look until there is something.

    Parameters
    ----------
    cloud:
        Sleeps in between.
    look:
        Returns None while it is not so far; raises when it never will be.
    what:
        What is waited for, as in ``ami-1 in eu-west-1 to be available``.
    looks:
        How often at most.

    Returns
    -------
    object
        What ``look`` has found.

    Raises
    ------
    KilnError
        It was not so far in the end.
    """
    for attempt in range(looks):
        if attempt:
            cloud.wait()
        if (found := look()) is not None:
            return found
    raise KilnError(f"waited in vain for {what}", AGAIN)
