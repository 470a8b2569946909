"""Requests that AWS would carry out twice: sent once, and looked at before they are sent again.

Botocore sends a request again whose answer was lost. Where AWS takes a client token, or refuses a name twice,
that does no harm; of what has neither, a second one is made, as a second version of a parameter.
"""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from launch.cloud import Cloud
from launch.trouble import code

TRIES = 6
"""As often as botocore's standard mode is told to try."""

BUSY = ("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown")
"""Codes with which AWS says that it did nothing, for now."""


def settled(cloud: Cloud, act: Callable[[], object], done: Callable[[], bool]) -> None:
    """Send a request until it has acted.

    Parameters
    ----------
    cloud:
        Waits between two tries.
    act:
        Sends it, by a client of :meth:`Cloud.once`.
    done:
        Tells whether it has acted, and waits for it where that shows late; asked after each try whose answer
        was lost, before the next.

    Raises
    ------
    ClientError, HTTPClientError, ConnectionError
        Of botocore: what AWS refuses for good at once, what does not pass after :data:`TRIES` tries.
    """
    for number in range(1, TRIES + 1):
        try:
            act()
        except (ClientError, HTTPClientError, BotoConnectionError) as error:
            refused = code(error) in BUSY
            if not refused and not _may_have_acted(error):
                raise
            cloud.wait(2.0 ** (number - 1))
            if not refused and done():
                return
            if number == TRIES:
                raise
        else:
            return


def _may_have_acted(error: Exception) -> bool:
    """Whether AWS failed, or its answer was lost."""
    if not isinstance(error, ClientError):
        return True
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500
