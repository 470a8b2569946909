"""The Image Assistant on an image builder: its catalogue, the default profile, and the image.

It answers ``{"status": N, "message": "..."}`` and exits with 0, 1 (it says why not) or 255 (its own fault):
administration guide, "Image Assistant CLI Operations".
"""

from __future__ import annotations

import json
import re
from typing import Any

from kiln.appstream import Application, Appstream
from kiln.errors import KilnError
from launch.builder_host import Host
from launch.plan import Say
from launch.trouble import AGAIN

SECONDS = 600.0
"""For one operation; update-default-profile copies a whole profile."""

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

OPTIONS = {
    "name": "--name",
    "path": "--absolute-app-path",
    "display_name": "--display-name",
    "icon": "--absolute-icon-path",
    "working_directory": "--working-directory",
    "parameters": "--launch-parameters",
    "manifest": "--absolute-manifest-path",
}
"""Key of an application in kiln.toml → option of add-application."""


BEFORE_QUOTE = re.compile(r'(\\*)("|$)')
"""Backslashes before a quote, or before the one that ends the text."""


class UnreachedError(KilnError):
    """The builder did not answer: nobody knows whether the operation was carried out."""


def ask(host: Host, *operation: str) -> dict[str, Any]:
    """Call the Image Assistant.

    Parameters
    ----------
    host:
        The builder.
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
    answer = host.run([*host.assistant, *operation], SECONDS)
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
        raise KilnError(f"the Image Assistant refuses {name}: {message}", hint)
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


def catalogue(host: Host, applications: list[Application], say: Say) -> None:
    """Make the catalogue what kiln.toml says, whatever an earlier run has left in it.

    Parameters
    ----------
    host:
        The builder.
    applications:
        What is to be in it.
    say:
        Is told each.

    Raises
    ------
    KilnError
        As :func:`ask`.
    """
    # An application is changed by removing and adding it; that is how the guide has it.
    for there in ask(host, "list-applications").get("applications") or []:
        name = str(there.get("Name") or there.get("name"))
        say(f"taking {name} out of the catalogue")
        ask(host, "remove-application", "--name", name)
    for application in applications:
        say(f"adding {application.name} to the catalogue")
        ask(host, "add-application", *options(application))


def _escaped(found: re.Match[str]) -> str:
    return found[1] * 2 + ('\\"' if found[2] else "")


def options(application: Application) -> list[str]:
    """Return the options of add-application for an application.

    The guide asks for a command line in quotes of its own (``--launch-parameters <""-escaped value>``): it
    mostly begins with a dash, and would be taken for the next option. Inside them backslashes count only
    before a quote, as everywhere on Windows.
    """
    given = {option: getattr(application, field) for field, option in OPTIONS.items()}
    if application.parameters is not None:
        given[OPTIONS["parameters"]] = f'"{BEFORE_QUOTE.sub(_escaped, application.parameters)}"'
    return [part for option, value in given.items() if value is not None for part in (option, value)]


def default_profile(host: Host) -> None:
    """Give new users what the builder's template user has; Windows only, says the guide."""
    if host.connect == "winrm":
        ask(host, "update-default-profile")


def leave(host: Host) -> None:
    """Let the account that we come in by be gone when the image starts for the first time.

    Raises
    ------
    KilnError
        The builder did not do it: its image would open a door to whoever knows the secret.
    """
    answer = host.run(host.leave, SECONDS)
    if answer.code != 0:
        said = " ".join((answer.out + " " + answer.err).split())[:200]
        raise KilnError(
            f"Ansible's account would stay in the image: {said or 'no answer'}",
            "the base image was seeded by another kiln: kiln builder seed makes it anew",
        )


def create_image(host: Host, name: str, said: Appstream, tags: dict[str, str], say: Say) -> None:
    """Let the builder become an image: a trial first, then for real.

    Parameters
    ----------
    host:
        The builder.
    name:
        Of the image.
    said:
        What kiln.toml says of it.
    tags:
        Of the image.
    say:
        Is told.

    Raises
    ------
    UnreachedError
        The connection went before the answer came, as it may: the builder shuts down. The caller looks.
    KilnError
        As :func:`ask`.
    """
    given = {"--description": said.description, "--display-name": said.display_name}
    pinned = (
        "--use-latest-agent-version" if said.agent == "ALWAYS_LATEST" else "--no-use-latest-agent-version"
    )
    arguments = [
        *("create-image", "--name", name),
        *(part for option, value in given.items() if value for part in (option, value)),
        pinned,
        *("--tags", *(part for pair in sorted(tags.items()) for part in pair)),
    ]
    say(f"trying whether image {name} can be made")
    ask(host, *arguments, "--dry-run")
    say(f"making image {name}")
    ask(host, *arguments)
