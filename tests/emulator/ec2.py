"""What the modules of EC2 share: errors, tags, filters, and how an operation gets into moto."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response

from tests.emulator import control

Operation = Callable[[Any], dict[str, Any]]


def refuse(code: str, message: str) -> EC2ClientError:
    """An error as EC2 answers it."""
    return EC2ClientError(code, message)


def answer(function: Operation) -> Callable[[Any], ActionResult]:
    """Make an operation of moto from a function that returns the members of the answer."""

    def operation(self: Any) -> ActionResult:
        return ActionResult(function(self))

    operation.__name__ = function.__name__
    return operation


def extend(*functions: Operation) -> None:
    """Put operations in place of moto's of the same name."""
    for function in functions:
        setattr(EC2Response, function.__name__, answer(function))


def accounts(region: str) -> Iterator[Any]:
    """Backends of all accounts that were there, in a region."""
    for account in list(ec2_backends):
        if region in ec2_backends[account].keys():  # noqa: SIM118 - its "in" would make one
            yield ec2_backends[account][region]


def tags_of(backend: Any, resource: str) -> dict[str, str]:
    """Tags of a resource."""
    return dict(backend.tags.get(resource, {}))


def tag_list(backend: Any, resource: str) -> list[dict[str, str]]:
    """Tags of a resource, as answers have them."""
    return [{"Key": key, "Value": value} for key, value in tags_of(backend, resource).items()]


def asked_tags(response: Any, kind: str, allowed: tuple[str, ...]) -> dict[str, str]:
    """Tags that a request wants on what it makes.

    Parameters
    ----------
    response:
        Moto's, with the request in it.
    kind:
        Type of the resource.
    allowed:
        Types that the operation takes.

    Raises
    ------
    EC2ClientError
        Another type is named.
    """
    found: dict[str, str] = {}
    for spec in response._get_param("TagSpecifications", []) or []:
        if spec.get("ResourceType") not in allowed:
            raise refuse(
                "InvalidParameterValue",
                f"'{spec.get('ResourceType')}' is not a valid taggable resource type for this operation.",
            )
        if spec["ResourceType"] == kind:
            found |= {tag["Key"]: tag.get("Value", "") for tag in spec.get("Tags", [])}
    return found


def filtered(response: Any, items: list[Any], facts: Callable[[Any], dict[str, Any]]) -> list[Any]:
    """Those that all filters of a request fit.

    Parameters
    ----------
    response:
        Moto's, with the request in it.
    items:
        What there is.
    facts:
        Name of a filter → value or values of an item; ``tags`` has its tags. A filter that is not in it is
        refused, as AWS does.
    """
    filters = [(each["Name"], each.get("Values", [])) for each in response._get_param("Filters", []) or []]
    return [item for item in items if _fits(filters, facts(item) if filters else {})]


def _fits(filters: list[tuple[str, list[str]]], facts: dict[str, Any]) -> bool:
    tags = facts.get("tags", {})
    for name, wanted in filters:
        if name.startswith("tag:"):
            found: Any = [tags[name[4:]]] if name[4:] in tags else []
        elif name == "tag-key":
            found = list(tags)
        elif name in facts and name != "tags":
            found = facts[name]
        else:
            raise refuse("InvalidParameterValue", f"The filter '{name}' is invalid")
        values = found if isinstance(found, list | set | tuple) else [found]
        texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values if v is not None]
        if not any(fnmatch.fnmatchcase(text, pattern) for text in texts for pattern in wanted):
            return False
    return True


class Settling:
    """Something that is pending until it was described some times; ``pending_describes`` says how many."""

    def __init__(self, settled: str) -> None:
        self.settled = settled
        self.left = int(control.SETTINGS["pending_describes"])

    def look(self, state: str) -> tuple[str, str]:
        """Return the state to show now and the state from now on."""
        if state != "pending":
            return state, state
        if self.left > 0:
            self.left -= 1
            return state, state
        return self.settled, self.settled


def text_of(moment: datetime) -> str:
    """A moment as EC2 writes those that its model has as text."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def now() -> datetime:
    """Now, as moto keeps moments: UTC, and not saying so."""
    return datetime.now(UTC).replace(tzinfo=None)
