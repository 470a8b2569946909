"""The protocol of AWS's Image Assistant, by whichever way its program on an image builder is reached.

It answers ``{"status": N, "message": "..."}`` and exits with 0, 1 (it says why not) or 255 (its own fault):
administration guide, "Image Assistant CLI Operations".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kiln.appstream import Application
from kiln.errors import AGAIN, KilnError

PROGRAMS = {
    "windows": r"C:\Program Files\Amazon\Photon\ConsoleImageBuilder\image-assistant.exe",
    "linux": "/bin/AppStreamImageAssistant",
}
"""System of a builder → where the Image Assistant is (guide, "Image Assistant CLI Operations")."""

HINTS: dict[str, str] = {
    "Administrator privileges": "make the builder's account an administrator: kiln builder seed does",
    "Unable to add more than": "the catalogue takes 50 applications: take some out of kiln.toml",
    "Name is not unique": "another application has the name: rename it in kiln.toml",
    "File not found": "correct the path in kiln.toml, or let the playbook put the file there",
    "Unsupported file extension": "the path of an application ends in .exe or .bat on Windows",
    "Directory not found": "correct working_directory in kiln.toml, or let the playbook make the folder",
    "Optimization-manifest not found": "correct manifest in kiln.toml, or let the playbook write the file",
    "Unable to copy file or folder": "let the playbook close what holds the profile open",
    "Cannot copy a domain user": "use a local account: the builder is in no domain",
    "An image with the given name already exists": "delete that image in AppStream, then " + AGAIN,
    "Invalid value (tags)": "a tag of kiln.toml's names is not one of AppStream's: rename the image",
}
"""What to do about a message, by a part of it."""

TAKEN = "already exists"
"""What it says, among other words, where the name of an image is taken."""

OPTIONS = {
    "name": "--name",
    "path": "--absolute-app-path",
    "display_name": "--display-name",
    "icon": "--absolute-icon-path",
    "working_directory": "--working-directory",
    "launch_parameters": "--launch-parameters",
    "manifest": "--absolute-manifest-path",
}
"""Key of an application → option of add-application."""

LISTED = {
    "name": "Name",
    "path": "AbsoluteAppPath",
    "display_name": "DisplayName",
    "icon": "AbsoluteIconPath",
    "working_directory": "WorkingDirectory",
    "launch_parameters": "LaunchParameters",
    "manifest": "AbsoluteManifestPath",
}
"""Key of an application → what list-applications calls it; CreateImportedImage has the same words."""

BEFORE_QUOTE = re.compile(r'(\\*)("|$)')
"""Backslashes before a quote, or before the one that ends the text."""


@dataclass(frozen=True)
class Answer:
    """What a command on a builder has answered.

    Parameters
    ----------
    code:
        Its exit code; None where the builder could not be reached, so that nobody knows whether it ran.
    out, err:
        What it printed.
    """

    code: int | None
    out: str
    err: str


Call = Callable[[list[str]], Answer]
"""Runs the Image Assistant with these arguments."""


class UnreachedError(KilnError):
    """The builder did not answer: nobody knows whether the operation was carried out."""


class RefusedByAssistantError(KilnError):
    """The Image Assistant refused an operation, with status 1.

    Parameters
    ----------
    what, hint:
        As of :class:`kiln.errors.KilnError`.
    message:
        What it said itself.
    """

    def __init__(self, what: str, hint: str, message: str) -> None:
        super().__init__(what, hint)
        self.message = message


def ask(call: Call, *operation: str) -> dict[str, Any]:
    """Call the Image Assistant.

    Parameters
    ----------
    call:
        The way to it.
    operation:
        Its name, and its options.

    Returns
    -------
    dict
        What it answered.

    Raises
    ------
    UnreachedError
        The builder did not answer.
    KilnError
        The Image Assistant refused, failed, or answered something else than its protocol.
    """
    name = operation[0]
    answer = call(list(operation))
    if answer.code is None:
        raise UnreachedError(
            f"the builder did not answer to {name}: {answer.err}",
            f"look whether this machine reaches the builder's address, then {AGAIN}",
        )
    data = _parsed(answer.out)
    if data is None or data.get("status") != answer.code:
        said = " ".join((answer.out + " " + answer.err).split())[:200]
        raise KilnError(
            f"the Image Assistant ended {name} with {answer.code} and an answer that is none: {said}",
            "look at it on the builder (--keep leaves it), and that its agent is of 2019-07-26 or later",
        )
    if answer.code == 0:
        return data
    message = " ".join(str(data.get("message", "")).split())
    if answer.code == 1:
        hint = next((hint for part, hint in HINTS.items() if part in message), "correct what it names")
        raise RefusedByAssistantError(f"the Image Assistant refuses {name}: {message}", hint, message)
    raise KilnError(
        f"the Image Assistant failed at {name}: {message}", f"{AGAIN}; if it comes back, ask AWS Support"
    )


def _parsed(text: str) -> dict[str, Any] | None:
    """The last line that is an object of JSON, or the whole: a shell may print something before."""
    for each in (text, *reversed(text.splitlines())):
        try:
            data = json.loads(each)
        except ValueError:
            continue
        if isinstance(data, dict):
            return data
    return None


def catalogue(
    call: Call, applications: Iterable[Application], say: Callable[[str], None], *, only_look: bool = False
) -> bool:
    """Make the catalogue what it is to be, whatever an earlier run has left in it.

    Parameters
    ----------
    call:
        The way to the Image Assistant.
    applications:
        What is to be in it.
    say:
        Is told each change.
    only_look:
        Change nothing.

    Returns
    -------
    bool
        Whether something had to be changed.

    Raises
    ------
    KilnError
        As :func:`ask`.
    """
    wanted = {application.name: application for application in applications}
    listed = ask(call, "list-applications").get("applications") or []
    there = {str(found["name"]): found for found in map(_lower, listed)}
    stay = {name for name, found in there.items() if name in wanted and _same(found, wanted[name])}
    # An application is changed by removing and adding it; that is how the guide has it.
    for name in there:
        if name not in stay:
            say(f"taking {name} out of the catalogue")
            if not only_look:
                ask(call, "remove-application", "--name", name)
    for name, application in wanted.items():
        if name not in stay:
            say(f"adding {name} to the catalogue")
            if not only_look:
                ask(call, "add-application", *options(application))
    return bool({*there, *wanted} - stay)


def _lower(found: Mapping[str, Any]) -> dict[str, Any]:
    """The guide writes the keys of this list now in capitals and now not."""
    return {key.lower(): value for key, value in found.items()}


def _same(found: Mapping[str, Any], wanted: Application) -> bool:
    """Whether an application is as wanted; what the list does not tell of it counts as another."""
    return all((found.get(key.lower()) or None) == getattr(wanted, field) for field, key in LISTED.items())


def _escaped(found: re.Match[str]) -> str:
    return found[1] * 2 + ('\\"' if found[2] else "")


def options(application: Application) -> list[str]:
    """Return the options of add-application for an application.

    The guide asks for a command line in quotes of its own (``--launch-parameters <""-escaped value>``): it
    mostly begins with a dash, and would be taken for the next option. Inside them backslashes count only
    before a quote, as everywhere on Windows.
    """
    given = {option: getattr(application, field) for field, option in OPTIONS.items()}
    if application.launch_parameters is not None:
        quoted = BEFORE_QUOTE.sub(_escaped, application.launch_parameters)
        given[OPTIONS["launch_parameters"]] = f'"{quoted}"'
    return [part for option, value in given.items() if value is not None for part in (option, value)]


def default_profile(call: Call) -> None:
    """Give new users what the builder's template user has; Windows only, says the guide.

    Raises
    ------
    KilnError
        As :func:`ask`.
    """
    ask(call, "update-default-profile")


def create_image(
    call: Call,
    name: str,
    say: Callable[[str], None],
    *,
    description: str | None = None,
    display_name: str | None = None,
    latest_agent: bool = False,
    tags: Mapping[str, str] | None = None,
    only_look: bool = False,
) -> None:
    """Let the builder become an image: a trial first, then for real.

    Parameters
    ----------
    call:
        The way to the Image Assistant.
    name, description, display_name, tags:
        Of the image.
    say:
        Is told.
    latest_agent:
        Whether the image takes AppStream's newest agent at every start, rather than today's.
    only_look:
        Only try.

    Raises
    ------
    UnreachedError
        The connection went before the answer came, as it may: the builder shuts down. The caller looks.
    KilnError
        As :func:`ask`.
    """
    given = {"--description": description, "--display-name": display_name}
    arguments = [
        *("create-image", "--name", name),
        *(part for option, value in given.items() if value for part in (option, value)),
        "--use-latest-agent-version" if latest_agent else "--no-use-latest-agent-version",
        *(["--tags"] if tags else []),
        *(part for pair in sorted((tags or {}).items()) for part in pair),
    ]
    say(f"trying whether image {name} can be made")
    ask(call, *arguments, "--dry-run")
    if not only_look:
        say(f"making image {name}")
        ask(call, *arguments)
