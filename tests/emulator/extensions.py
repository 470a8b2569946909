"""Which modules extend moto, in the order in which they do. Each has ``install()``, called once, before the
first request.

A module may also use :mod:`tests.emulator.control`: settings of its own, actions that a test can ask for over
HTTP, what it adds to the state that is compared, and what it does when everything is forgotten.
"""

from __future__ import annotations

import importlib

CORE: tuple[str, ...] = (
    "credentials",
    "keys",
    "snapshots",
    "images",
    "image_making",
    "image_attributes",
    "usage",
    "blocks",
    "templates",
    "running",
    "passwords",
    "parameters",
    "quotas",
    "regions",
    "iam",
    "state",
    # Last: it remembers what the others have added.
    "speed",
)
"""Images, keys, parameters: what every command of kiln stands on."""

EXTENSIONS: tuple[str, ...] = ("lifecycle", "scaling", "appstream")
"""Auto Scaling and AppStream."""


def install() -> None:
    """Install all of them."""
    for name in (*CORE, *EXTENSIONS):
        importlib.import_module(f"tests.emulator.{name}").install()
