"""How often somebody may try to log in, in memory that does not grow with who tries."""

from __future__ import annotations

import ipaddress
import time
from array import array
from collections.abc import Callable


class Limit:
    """At most so many attempts at once, which come back evenly over a time.

    A key shares its slot with others of the same hash. Python's hash of a string is keyed anew in each
    process, so nobody can aim at the slot of another.

    Parameters
    ----------
    attempts:
        That are free at once.
    seconds:
        After which all of them are back.
    slots:
        That are kept, 8 bytes each.
    clock:
        Seconds that only grow.
    """

    def __init__(
        self, attempts: int, seconds: float, slots: int = 1 << 14, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._each, self._seconds, self._clock = seconds / attempts, seconds, clock
        self._free_at = array("d", bytes(8 * slots))

    def take(self, key: str) -> float:
        """Take an attempt.

        Returns
        -------
        float
            0 where there was one; else seconds until there will be.
        """
        slot, now = hash(key) % len(self._free_at), self._clock()
        later = max(now, self._free_at[slot]) + self._each
        # As much as a rounding error may be missing of the last attempt.
        if later - now > self._seconds + 1e-6:
            return later - now - self._seconds
        self._free_at[slot] = later
        return 0.0

    def give_back(self, key: str) -> None:
        """Give back an attempt that succeeded."""
        self._free_at[hash(key) % len(self._free_at)] -= self._each


def network(address: str) -> str:
    """Key of a client's address: an IPv6 client has 2**64 of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
