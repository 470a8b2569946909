"""Parameters of the type ``aws:ec2:image``: PutParameter answers at once, the image is looked for later.

What names an image that the account may launch appears after some looks (``pending_describes``); what does
not is never seen, and nothing says so but its absence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from moto.ssm.exceptions import ParameterAlreadyExists, ValidationException
from moto.ssm.models import Parameter, SimpleSystemManagerBackend, ssm_backends

from tests.emulator import control, credentials, ec2, images, recorder
from tests.emulator.control import Answer
from tests.emulator.understand import Asked

IMAGE = "aws:ec2:image"
IMAGE_ID = re.compile(r"ami-[0-9a-f]{8,17}")

PUBLIC = {
    "/aws/service/ami-windows-latest/TPM-Windows_Server-2022-English-Full-Base": "ami-0717200000000003",
    "/aws/service/debian/release/12/latest/amd64": "ami-0deb1200000000001",
    "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64": "ami-0a12300000000002",
}
"""AWS's and Debian's public parameters, by the images of ``amis.json``."""


@dataclass
class Pending:
    """A parameter that is looked at.

    Parameters
    ----------
    account, region, given:
        Of the request.
    left:
        How many looks until it is decided.
    """

    account: str
    region: str
    given: dict[str, Any]
    left: int


PENDING: list[Pending] = []
control.RESETS.append(PENDING.clear)

NAMES = ("name", "description", "value", "parameter_type", "allowed_pattern", "keyid", "overwrite", "tags")
ORIGINAL: list[Any] = []


@dataclass(frozen=True)
class Accepted:
    """What PutParameter answers before it knows."""

    version: int
    tier: str


def put_parameter(self: Any, *given: Any, **more: Any) -> Any:
    """PutParameter of moto's backend; of an image it is only noted."""
    kwargs = {**dict(zip((*NAMES, "data_type", "tier", "policies"), given, strict=False)), **more}
    if kwargs.get("data_type") != IMAGE:
        return ORIGINAL[0](self, **kwargs)
    name, known = kwargs["name"], self._parameters.get(kwargs["name"], [])
    if not IMAGE_ID.fullmatch(kwargs["value"]):
        raise ValidationException(
            f"Invalid value for data type {IMAGE}: {kwargs['value']} does not match ami-[0-9a-f]{{8,17}}"
        )
    if kwargs.get("parameter_type") not in (None, "String"):
        raise ValidationException(f"The data type {IMAGE} needs the type String")
    if known and not kwargs["overwrite"]:
        raise ParameterAlreadyExists
    if kwargs["overwrite"] and kwargs.get("tags"):
        raise ValidationException("Invalid request: tags and overwrite can't be used together.")
    waiting = [each for each in PENDING if each.given["name"] == name and _same(each, self)]
    PENDING.append(
        Pending(self.account_id, self.region_name, kwargs, int(control.SETTINGS["pending_describes"]))
    )
    last = known[-1].version if known else 0
    return Accepted(last + len(waiting) + 1, kwargs.get("tier") or "Standard")


def _same(pending: Pending, backend: Any) -> bool:
    return (pending.account, pending.region) == (backend.account_id, backend.region_name)


def gate(asked: Asked, environ: dict[str, Any]) -> Answer | None:
    """Let what is looked at come nearer to its end with each request that reads parameters."""
    if asked.service != "ssm" or recorder.mutating(asked):
        return None
    account = credentials.account_of(asked.access_key)
    for each in [each for each in PENDING if (each.account, each.region) == (account, asked.region)]:
        each.left -= 1
        if each.left < 0:
            PENDING.remove(each)
            _decide(each)
    return None


def _decide(pending: Pending) -> None:
    image = images.find(pending.account, pending.region, pending.given["value"])
    if image is None or image.state not in ("available", "pending"):
        return
    ORIGINAL[0](ssm_backends[pending.account][pending.region], **pending.given)


def resolve(account: str, region: str, name: str) -> str | None:
    """The image of a parameter, as ``resolve:ssm:NAME`` or ``NAME:VERSION`` asks; None where none is."""
    found = ssm_backends[account][region].get_parameter(name.removeprefix("resolve:ssm:"))
    return str(found.value) if found else None


def _public(account: str, name: str, value: str) -> Parameter:
    return Parameter(
        account_id=account,
        name=name,
        value=value,
        parameter_type="String",
        description=None,
        allowed_pattern=None,
        keyid=None,
        last_modified_date=ec2.now(),
        version=1,
        data_type=IMAGE,
    )


def install() -> None:
    """Extend moto's backend, and give it the public parameters."""
    ORIGINAL.append(SimpleSystemManagerBackend.put_parameter)
    SimpleSystemManagerBackend.put_parameter = put_parameter  # type: ignore[method-assign]
    control.GATES.append(gate)
    original = SimpleSystemManagerBackend.__init__

    def __init__(  # noqa: N807 - takes the place of the class's own
        self: Any, region_name: str, account_id: str
    ) -> None:
        original(self, region_name, account_id)
        # moto's own list names images that are not here, and takes its time to load.
        self._parameters.latest_amis_loaded = True
        for name, value in PUBLIC.items():
            self._parameters[name] = [_public(account_id, name, value)]

    SimpleSystemManagerBackend.__init__ = __init__  # type: ignore[method-assign]
