"""What AppStream keeps for an account in a region, and how its resources change as time goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.exceptions import ServiceException

from tests.emulator import control
from tests.emulator.clock import CLOCK

control.setting("appstream_page", 25)


class AppStreamError(ServiceException):
    """An error of the service's model; the model says with which status it is answered."""


def refuse(kind: str, message: str) -> AppStreamError:
    """An error by its name without ``Exception``."""
    return AppStreamError(f"{kind}Exception", message)


@dataclass
class Resource:
    """Something with a state that changes by itself.

    Parameters
    ----------
    kind, name, arn:
        What it is: ``image``, ``fleet``, ``stack`` or ``image-builder``.
    data:
        Members of the answers that do not follow from anything else.
    state:
        Now; empty for what has none.
    tags:
        Key → value.
    created:
        On the emulator's clock.
    """

    kind: str
    name: str
    arn: str
    data: dict[str, Any]
    state: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=CLOCK.now)
    course: list[tuple[float, str, Callable[[], None] | None]] = field(default_factory=list)

    def go(self, first: str, *then: tuple[float, str], at_end: Callable[[], None] | None = None) -> None:
        """Begin a course of states.

        Parameters
        ----------
        first:
            State from now on.
        then:
            After how many seconds in the state before, which state follows.
        at_end:
            Called when the last is reached.
        """
        self.state, moment, self.course = first, CLOCK.now(), []
        for number, (seconds, state) in enumerate(then, 1):
            moment += seconds
            self.course.append((moment, state, at_end if number == len(then) else None))

    def settle(self, now: float) -> None:
        """Reach what was to be reached by now."""
        while self.course and self.course[0][0] <= now:
            _, self.state, effect = self.course.pop(0)
            if effect:
                effect()

    def view(self) -> dict[str, Any]:
        """Members of every answer about it."""
        found = {"Arn": self.arn, "Name": self.name, "CreatedTime": CLOCK.date(self.created), **self.data}
        if self.state:
            found["State"] = self.state
        return {key: value for key, value in found.items() if value is not None}


class AppStreamBackend(BaseBackend):
    """What there is in one account and region."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.images: dict[str, Any] = {}
        self.builders: dict[str, Any] = {}
        self.fleets: dict[str, Any] = {}
        self.stacks: dict[str, Any] = {}
        self.associations: list[tuple[str, str]] = []

    def arn(self, kind: str, name: str) -> str:
        """ARN of a resource of the account."""
        return f"arn:{self.partition}:appstream:{self.region_name}:{self.account_id}:{kind}/{name}"

    def resources(self) -> Iterator[Resource]:
        """All of them."""
        for kept in (self.images, self.builders, self.fleets, self.stacks):
            yield from list(kept.values())


appstream_backends = BackendDict(AppStreamBackend, "appstream")


def every_backend() -> Iterator[AppStreamBackend]:
    """Backends of all accounts and regions that were asked anything."""
    for account in list(appstream_backends.values()):
        yield from list(account.values())


def settle_all(now: float) -> None:
    """Let everything everywhere reach what it reaches by now."""
    for backend in every_backend():
        for resource in backend.resources():
            resource.settle(now)


def one(kept: dict[str, Any], kind: str, name: str | None) -> Any:
    """A resource by name."""
    if not name or name not in kept:
        raise refuse("ResourceNotFound", f"The {kind} {name} was not found.")
    return kept[name]


def named(kept: dict[str, Any], kind: str, names: Iterable[str] | None) -> list[Any]:
    """Resources by their names; all where none are given."""
    wanted = list(names or [])
    return [one(kept, kind, name) for name in wanted] if wanted else list(kept.values())


def page(member: str, found: list[Any], token: str | None, size: int | None = None) -> dict[str, Any]:
    """One page of an answer.

    Parameters
    ----------
    member:
        Of the answer.
    found:
        Everything, as views or names.
    token:
        ``NextToken`` of the request.
    size:
        How many at most; the setting ``appstream_page`` where the request does not say.
    """
    if token and not token.isdigit():
        raise refuse("InvalidParameterCombination", f"The token {token} is not one of this service's.")
    first, many = int(token or 0), size or int(control.SETTINGS["appstream_page"])
    answer: dict[str, Any] = {member: found[first : first + many]}
    if len(found) > first + many:
        answer["NextToken"] = str(first + many)
    return answer


@control.state("appstream")
def state() -> dict[str, Any]:
    """Every resource, as far as two runs can be compared by it."""
    found: dict[str, Any] = {}
    for backend in every_backend():
        place = f"{backend.account_id}/{backend.region_name}"
        for each in backend.resources():
            kept = ("ImageName", "InstanceType", "ComputeCapacity", "ImageType", "Platform", "FleetType")
            told = {key: each.data[key] for key in kept if key in each.data}
            found[f"{place}/{each.kind}/{each.name}"] = {"state": each.state, "tags": each.tags, **told}
        for fleet, stack in backend.associations:
            found[f"{place}/association/{stack}"] = {"fleet": fleet}
    return found


@control.action
def appstream_state(
    account: str,
    region: str,
    kind: str,
    resource: str,
    state: str,
    then: list[Any] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Put a resource into a state, whatever it was in.

    Parameters
    ----------
    kind:
        ``images``, ``builders`` or ``fleets``.
    then:
        Pairs of seconds and state that follow.
    data:
        Members that change too, as ``FleetErrors``.
    """
    found = getattr(appstream_backends[account][region], kind)[resource]
    found.go(state, *((float(seconds), each) for seconds, each in then or []))
    found.data.update(data or {})
