"""Regions that an account has not enabled: no credentials are valid there."""

from __future__ import annotations

from typing import Any

import botocore.session

from tests.emulator import control, ec2, faults
from tests.emulator.control import Answer
from tests.emulator.understand import Asked

control.setting("regions_disabled", [])
"""Names of regions that are not enabled; where none are named all are."""

control.setting("region_code", "AuthFailure")
"""What EC2 says there: ``AuthFailure``, or ``OptInRequired``."""

REGIONS = tuple(botocore.session.get_session().get_available_regions("ec2"))
"""Of the partition aws, as botocore knows them."""

OPT_IN = {
    *(
        "af-south-1",
        "ap-east-1",
        "ap-east-2",
        "ap-south-2",
        "ap-southeast-3",
        "ap-southeast-4",
        "ap-southeast-5",
    ),
    *("ap-southeast-6", "ap-southeast-7", "ca-west-1", "eu-central-2", "eu-south-1", "eu-south-2"),
    *("il-central-1", "me-central-1", "me-south-1", "mx-central-1"),
}
"""Those that an account has to enable
(https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html)."""


def _status(region: str) -> str:
    if region in control.SETTINGS["regions_disabled"]:
        return "not-opted-in"
    return "opted-in" if region in OPT_IN else "opt-in-not-required"


def describe_regions(self: Any) -> dict[str, Any]:
    """DescribeRegions: all, or those that are enabled."""
    self.error_on_dryrun()
    wanted, every = self._get_param("RegionNames", []) or [], self._get_param("AllRegions")
    if unknown := [name for name in wanted if name not in REGIONS]:
        raise ec2.refuse("InvalidParameterValue", f"Invalid region name(s): {', '.join(unknown)}")
    found = [name for name in REGIONS if not wanted or name in wanted]
    return {
        "Regions": [
            {"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": _status(name)}
            for name in found
            if every or _status(name) != "not-opted-in"
        ]
    }


def gate(asked: Asked, environ: dict[str, Any]) -> Answer | None:
    """Refuse what goes to a region that is not enabled."""
    if asked.region not in control.SETTINGS["regions_disabled"]:
        return None
    if asked.service == "ec2":
        code = control.SETTINGS["region_code"]
        status, message = 401, "AWS was not able to validate the provided access credentials"
        if code == "OptInRequired":
            status, message = (
                403,
                "You are not subscribed to this service. Please go to http://aws.amazon.com",
            )
    elif asked.model is not None and asked.model.service_model.resolved_protocol in ("json", "rest-json"):
        code, status = "UnrecognizedClientException", 400
        message = "The security token included in the request is invalid."
    else:
        code, status = "InvalidClientTokenId", 403
        message = "The security token included in the request is invalid"
    return faults.answer(asked, status, code, message)


def install() -> None:
    """Judge the region after the credentials."""
    control.GATES.append(gate)
    ec2.extend(describe_regions)
