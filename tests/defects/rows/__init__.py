"""The defects of every role: ``rows/<role>.py`` has STATIC, LIVE and SOUND, its piece of a sound guest."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from types import ModuleType
from typing import Any

from tests.defects.defect import Answer, Defect

ROLES: dict[str, ModuleType] = {
    name: importlib.import_module(f"{__name__}.{name}")
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__))
}
STATIC: list[Defect] = [row for module in ROLES.values() for row in getattr(module, "STATIC", [])]
LIVE: list[Answer] = [row for module in ROLES.values() for row in getattr(module, "LIVE", [])]


def _merge(into: dict[str, Any], piece: dict[str, Any]) -> None:
    for key, value in piece.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            assert key not in into, f"two roles say what a sound guest answers to {key}"
            into[key] = copy.deepcopy(value)


def sound() -> dict[str, Any]:
    """What a sound guest with every role answers; the caller may change it."""
    said: dict[str, Any] = {}
    for module in ROLES.values():
        _merge(said, getattr(module, "SOUND", {}))
    return said
