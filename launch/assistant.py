"""The Image Assistant on an image builder: its catalogue, the default profile, and the image."""

from __future__ import annotations

from typing import Any

from kiln import assistant
from kiln.appstream import Application, Appstream
from kiln.assistant import Answer, Call
from kiln.assistant import UnreachedError as UnreachedError
from kiln.errors import KilnError
from launch.builder_host import Host
from launch.plan import Say

SECONDS = 600.0
"""For one operation; update-default-profile copies a whole profile."""


def _by(host: Host) -> Call:
    def call(arguments: list[str]) -> Answer:
        return host.run([*host.assistant, *arguments], SECONDS)

    return call


def ask(host: Host, *operation: str) -> dict[str, Any]:
    """Call the Image Assistant of a builder; parameters and errors as of :func:`kiln.assistant.ask`."""
    return assistant.ask(_by(host), *operation)


def catalogue(host: Host, applications: list[Application], say: Say) -> bool:
    """Make the catalogue what kiln.toml says, whatever an earlier run has left in it.

    Parameters
    ----------
    host:
        The builder.
    applications:
        What is to be in it.
    say:
        Is told each change.

    Returns
    -------
    bool
        Whether something had to be changed.

    Raises
    ------
    KilnError
        As :func:`ask`.
    """
    return assistant.catalogue(_by(host), applications, say)


def default_profile(host: Host) -> None:
    """Give new users what the builder's template user has; Windows only, says the guide."""
    if host.connect == "winrm":
        assistant.default_profile(_by(host))


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
    assistant.create_image(
        _by(host),
        name,
        say,
        description=said.description,
        display_name=said.display_name,
        latest_agent=said.agent == "ALWAYS_LATEST",
        tags=tags,
    )
