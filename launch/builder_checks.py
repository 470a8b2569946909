"""Checks of an image builder before it becomes an image: what it tells of itself, against what was asked."""

from __future__ import annotations

import ast
import configparser
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kiln import appstream
from kiln.errors import KilnError
from kiln.manifest import Check
from launch.builder_facts import Told, of_slicer

Wanted = dict[str, Any]
"""Variables of the playbook."""

OFF = ("ApplicationUpdate/AutoUpdateCheck", "Extensions/AutoUpdateCheck", "Extensions/AutoUpdateInstall")
"""Settings that are false, or Slicer changes itself under the hands of its users."""

SERVER, HISTORY = "MONAILabel/serverUrl", "MONAILabel/serverUrlHistory"


@dataclass(frozen=True)
class Rule:
    """A check.

    Parameters
    ----------
    name:
        Its name.
    role:
        Role of the playbook that it is about.
    finds:
        Returns what is wrong, a line; empty where nothing is.
    """

    name: str
    role: str
    finds: Callable[[Told, Wanted], str]


def _installed(told: Told, wanted: Wanted) -> str:
    if told.slicer is None:
        return "no 3D Slicer: its role has not said that it installed one"
    pinned = {key: wanted.get(f"slicer_{key}") for key in ("kind", "version", "revision")}
    differ = {key: (told.slicer.get(key), value) for key, value in pinned.items() if value is not None}
    return "; ".join(
        f"{key} is {is_}, asked was {value}" for key, (is_, value) in differ.items() if is_ != value
    )


def _checksums(told: Told, wanted: Wanted) -> str:
    found = (told.slicer or {}).get("sha256") or {}
    pinned = {"slicer": wanted.get("slicer_sha256"), "extension": wanted.get("slicer_extension_sha256")}
    wrong = [name for name, sha256 in pinned.items() if sha256 is None or found.get(name) != sha256]
    return f"{', '.join(wrong)}: installed from another file than kiln.toml pins" if wrong else ""


def _extension(told: Told, _: Wanted) -> str:
    slicer = told.slicer or {}
    extension = slicer.get("extension") or {}
    if extension.get("revision") != slicer.get("revision"):
        return (
            f"the extension is for revision {extension.get('revision')}, Slicer is {slicer.get('revision')}"
        )
    module = of_slicer(told.slicer).get("module", "MONAILabel.py")
    return "" if told.files.get(module) else f"{module} is not there: Slicer has no module MONAI Label"


def _settings(told: Told) -> dict[str, str]:
    """Group/key → value of Slicer.ini, as its role writes it: each text in quotes."""
    path = of_slicer(told.slicer).get("settings", "")
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    try:
        parser.read_string((told.files.get(path) or b"").decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError):
        return {}
    return {
        f"{group}/{key}": value.strip('"')
        for group in parser.sections()
        for key, value in parser[group].items()
    }


def _updates(told: Told, _: Wanted) -> str:
    found = _settings(told)
    on = [key for key in OFF if found.get(key) != "false"]
    return f"automatic updates are not off: {', '.join(on)}" if on else ""


def _server(told: Told, wanted: Wanted) -> str:
    found = _settings(told)
    asked = wanted.get("slicer_server_url") or (told.slicer or {}).get("server")
    if not asked or found.get(SERVER) != asked:
        return f"{SERVER} is {found.get(SERVER)}, asked was {asked}"
    history = found.get(HISTORY, "").split(";")
    return "" if asked in history else f"{HISTORY} has no {asked}: Slicer does not offer it"


def _start_up(told: Told, _: Wanted) -> str:
    path = of_slicer(told.slicer).get("start-up file", "slicerrc.py")
    body = told.files.get(path)
    if body is None:
        return f"{path} is not there: a session's server is not found"
    try:
        ast.parse(body)
    except (SyntaxError, ValueError) as error:
        return f"{path} is no Python: {error}"
    return ""


def _catalogue(told: Told, wanted: Wanted) -> str:
    if told.catalogue is None:
        return "the role appstream has left no catalogue"
    try:
        found = appstream.applications(told.catalogue.get("applications") or [])
        asked = appstream.applications(wanted.get("appstream_applications") or [])
    except KilnError as error:
        return f"{error.what}: {error.hint}"
    names = [each.name for each in asked if each not in found]
    if not found:
        return "the catalogue is empty"
    return f"{', '.join(names)}: not in the catalogue as kiln.toml has it" if names else ""


def _sessions(told: Told, _: Wanted) -> str:
    if told.sessions is None:
        return "there is no config.json of session scripts"
    scripts = []
    for name, event in told.sessions.items():
        if int(event.get("waitingTime", 0)) > appstream.WAITING_SECONDS:
            return f"{name} waits {event['waitingTime']} s, AppStream {appstream.WAITING_SECONDS}"
        kind = name.removeprefix("Session").lower()
        scripts += [
            {"event": kind, "s3_log": each.get("s3LogEnabled"), **_plain(each)}
            for each in event["executables"]
        ]
    try:
        appstream.sessions(scripts, appstream.WAITING_SECONDS)
    except KilnError as error:
        return f"{error.what}: {error.hint}"
    gone = [each["filename"] for each in scripts if told.files.get(each["filename"], b"") is None]
    return f"{', '.join(gone)}: not there, so no session would start" if gone else ""


def _plain(executable: dict[str, Any]) -> dict[str, Any]:
    return {key: executable.get(key) for key in ("context", "filename", "arguments")}


RULES: tuple[Rule, ...] = (
    Rule("slicer_is_the_one_asked_for", "slicer", _installed),
    Rule("slicer_is_of_the_pinned_files", "slicer", _checksums),
    Rule("extension_is_there_and_of_this_revision", "slicer", _extension),
    Rule("automatic_updates_are_off", "slicer", _updates),
    Rule("settings_have_the_server", "slicer", _server),
    Rule("start_up_file_can_be_read", "slicer", _start_up),
    Rule("catalogue_is_kiln_tomls", "appstream", _catalogue),
    Rule("session_scripts_are_as_appstream_takes_them", "appstream", _sessions),
)


def judge(told: Told, roles: Iterable[str], wanted: Wanted) -> list[Check]:
    """Hold a builder against what was asked.

    Parameters
    ----------
    told:
        What it says of itself.
    roles:
        Of the playbook: only theirs is checked.
    wanted:
        Variables of the playbook.

    Returns
    -------
    list of Check
        One for each rule of these roles, and one that packages are known at all.
    """
    here = {*roles, ""}
    rules = [Rule("packages_are_known", "", _packages), *RULES]
    return [_checked(rule, told, wanted) for rule in rules if rule.role in here]


def _packages(told: Told, _: Wanted) -> str:
    return "" if told.packages else "the builder names no package: nobody would know what is in the image"


def _checked(rule: Rule, told: Told, wanted: Wanted) -> Check:
    start = time.monotonic()
    found = " ".join(rule.finds(told, wanted).split())
    return Check(
        id=f"static::builder::{rule.name}",
        stage="static",
        outcome="failed" if found else "passed",
        message=found,
        seconds=round(time.monotonic() - start, 3),
    )
