"""The commands of the campaign, each with the account in which it has something to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.aws import account, released, rollouts, versions
from tests.aws.released import V1, V2, V3, V4

Client = Callable[..., Any]
Kiln = Callable[..., int]
"""Runs kiln to its end, with these arguments; the exit code."""


@dataclass(frozen=True)
class Scenario:
    """A command and what was before it.

    Parameters
    ----------
    name:
        Of the command.
    arguments:
        As after ``kiln``.
    prepare:
        Brings the account, the folder of builds and the rest to where the command begins: called with a
        client's maker, the folder of builds and a way to run kiln.
    """

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Client, Path, Kiln], None]


def _publish(client: Client, build: Path, kiln: Kiln) -> None:
    account.seed(client)
    versions.put(build)


def _published(client: Client, *those: str) -> account.Seeded:
    seeded = account.seed(client)
    rollouts.settle(client)
    for version in those:
        # Facts with which the image suits the group's instances.
        released.publish(client, version, **dict(rollouts.described(version).facts))
    return seeded


def _promote(client: Client, build: Path, kiln: Kiln) -> None:
    _published(client, V1, V2)
    _must(kiln, "promote", f"monai-label@{V1}", "stable")


def _apply(client: Client, build: Path, kiln: Kiln) -> None:
    _promote(client, build, kiln)
    _must(kiln, "apply", "annotators")
    _must(kiln, "promote", f"monai-label@{V2}", "stable")


def _rollback(client: Client, build: Path, kiln: Kiln) -> None:
    _apply(client, build, kiln)
    _must(kiln, "apply", "annotators")


def _revoke(client: Client, build: Path, kiln: Kiln) -> None:
    _promote(client, build, kiln)
    _must(kiln, "promote", f"monai-label@{V2}", "stable")


def _prune(client: Client, build: Path, kiln: Kiln) -> None:
    _published(client, V1, V2, V3, V4)
    _must(kiln, "promote", f"monai-label@{V4}", "stable")


def _must(kiln: Kiln, *arguments: str) -> None:
    code = kiln(*arguments)
    assert code == 0, f"kiln {' '.join(arguments)} ended with {code} while a scenario was prepared"


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("publish", ("publish", "monai-label"), _publish),
        Scenario("promote", ("promote", f"monai-label@{V2}", "stable"), _promote),
        Scenario("apply", ("apply", "annotators"), _apply),
        Scenario("rollback", ("rollback", "annotators"), _rollback),
        Scenario("revoke", ("revoke", f"monai-label@{V2}", "--why", "it lost a label"), _revoke),
        Scenario("prune", ("prune", "monai-label", "--keep", "1"), _prune),
    )
}
"""Name → scenario; the issue of the launchers names these six commands."""
