"""Filters that judge a catalogue and session scripts by AppStream's limits, and write them as it has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from kiln import appstream
from kiln.errors import KilnError


def plain(given: Any) -> Any:
    """Without Ansible's own kinds of text and numbers, which say where a value comes from."""
    return json.loads(json.dumps(given, default=str))


def catalogue(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the applications of a catalogue, without what is not given."""
    return [
        each.model_dump(exclude_none=True) for each in judged(lambda: appstream.applications(plain(given)))
    ]


def paths(given: list[dict[str, Any]]) -> list[str]:
    """Return every file and folder that a catalogue names, once."""
    keys = ("path", "icon", "working_directory", "manifest")
    return list(dict.fromkeys(each[key] for each in catalogue(given) for key in keys if key in each))


def sessions(given: list[dict[str, Any]], seconds: int) -> dict[str, Any]:
    """Return what config.json says of session scripts."""
    found: dict[str, Any] = judged(lambda: appstream.sessions(plain(given), int(seconds)))
    return found


def becomes(given: dict[str, Any]) -> dict[str, Any]:
    """Return what an image builder becomes; empty where it is not the role that lets it."""
    if not given:
        return {}
    found: dict[str, Any] = judged(lambda: appstream.image(plain(given))).model_dump(exclude_none=True)
    return found


def judged(read: Callable[[], Any]) -> Any:
    """Tell a refusal as Ansible tells what a filter does not take."""
    try:
        return read()
    except KilnError as error:
        raise AnsibleFilterError(f"{error.what}. {error.hint}.") from error


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name in templates → function."""
        return {
            "appstream_becomes": becomes,
            "appstream_catalogue": catalogue,
            "appstream_paths": paths,
            "appstream_sessions": sessions,
        }
