"""AppStream 2.0 (WorkSpaces Applications), of which moto has nothing: images, imports, image builders,
fleets, stacks. It stands where moto would look for its own, as ``moto.appstream``."""

from __future__ import annotations

import re
import sys

from tests.emulator.appstream.models import appstream_backends as appstream_backends

PATTERN = re.compile(r"https?://appstream2?\.(.+)\.amazonaws\.com")


def install() -> None:
    """Extend moto, once for the process."""
    from moto import backend_index

    from tests.emulator.appstream.models import settle_all
    from tests.emulator.clock import CLOCK

    if "moto.appstream" in sys.modules:
        return
    sys.modules["moto.appstream"] = sys.modules[__name__]
    backend_index.backend_url_patterns.append(("appstream", PATTERN))
    CLOCK.virtual = True
    CLOCK.listeners.append(settle_all)
