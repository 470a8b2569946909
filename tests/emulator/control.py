"""What a test may set, ask for and look at beside AWS's own interfaces: tables that each module adds to.

Reached over HTTP under ``/kiln-api/``; :class:`tests.emulator.handle.Emulator` is its client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers and body."""

GATES: list[Callable[[Any, dict[str, Any]], Answer | None]] = []
"""Asked of a request and its WSGI environment before it is acted upon; one that answers ends it."""

OWN: dict[tuple[str, str], Callable[[Any, dict[str, Any]], Answer]] = {}
"""Service and operation → what answers in place of moto, without :data:`LOCK`."""

LOCK = threading.RLock()
"""Held while moto answers: it was not made for requests that act side by side."""

DEFAULTS: dict[str, Any] = {
    "latency": 0.0,
    "pending_describes": 1,
}
"""Name → value of each setting at the start: ``latency`` in seconds per request, ``pending_describes`` how
many times something new is described as pending."""

SETTINGS: dict[str, Any] = dict(DEFAULTS)

ACTIONS: dict[str, Callable[..., Any]] = {}
"""Name → what a test can make happen that no request of AWS does, as an instance that falls ill."""

STATES: dict[str, Callable[[], Any]] = {}
"""Kind of resource → all that there is of it, as JSON: ``account/region/name`` → what it is."""

RESETS: list[Callable[[], None]] = []
"""What else is to be forgotten when moto forgets everything."""


def setting(name: str, default: Any) -> None:
    """Add a setting.

    Parameters
    ----------
    name:
        For ``/kiln-api/settings``.
    default:
        Its value after the start and after each reset.
    """
    DEFAULTS[name] = default
    SETTINGS.setdefault(name, default)


def action(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a test call a function by ``/kiln-api/do/NAME``, with JSON's keys as its arguments."""
    ACTIONS[function.__name__] = function
    return function


def state(kind: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Add a function's answer to ``/kiln-api/state``, under a name."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        STATES[kind] = function
        return function

    return add


def reset() -> None:
    """Forget everything, settings too."""
    from moto.core.base_backend import BackendDict
    from moto.core.model_instances import reset_model_data

    with LOCK:
        BackendDict.reset()
        reset_model_data()
        SETTINGS.clear()
        SETTINGS.update(DEFAULTS)
        for function in RESETS:
            function()
