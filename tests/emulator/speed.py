"""What moto works out anew with every request and need not: a fifth to a third of its time.

A benchmark of a launcher divides by what a cloud takes, and this one shares its processors with the launcher.
"""

from __future__ import annotations

import functools

import moto.backends
import moto.core.responses
import moto.core.routing
import moto.core.utils


def install() -> None:
    """Remember service models, names of modules and names of methods."""
    modules = tuple(moto.backends.list_of_moto_modules())
    moto.backends.list_of_moto_modules = lambda: modules  # type: ignore[assignment,return-value]
    remembered = functools.cache(moto.core.utils.get_service_model)
    for module in (moto.core.utils, moto.core.responses, moto.core.routing):
        module.get_service_model = remembered  # type: ignore[attr-defined]
    names = functools.cache(moto.core.utils.method_names_from_class)
    moto.core.responses.method_names_from_class = names  # type: ignore[attr-defined]
