"""Service quotas: the few that kiln asks for, with values that a test can set."""

from __future__ import annotations

from typing import Any

from tests.emulator import control, own
from tests.emulator.control import Answer
from tests.emulator.own import RefusedError
from tests.emulator.understand import Asked

QUOTAS: dict[str, dict[str, tuple[str, float, str]]] = {
    "ec2": {
        "L-1216C47A": ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 1920, "None"),
        "L-DB2E81BA": ("Running On-Demand G and VT instances", 768, "None"),
        "L-417A185B": ("Running On-Demand P instances", 768, "None"),
        "L-1945791B": ("Running On-Demand Inf instances", 64, "None"),
        "L-34B43A08": ("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 640, "None"),
        "L-3819A6DF": ("All G and VT Spot Instance Requests", 64, "None"),
        "L-7212CCBC": ("All P4, P3 and P2 Spot Instance Requests", 64, "None"),
        "L-B665C33B": ("AMIs", 50_000, "None"),
        "L-0E3CBAB9": ("Public AMIs", 5, "None"),
        "L-FB451C26": ("Launch template versions", 10_000, "None"),
    },
    "ebs": {
        "L-309BACF6": ("Snapshots per Region", 100_000, "None"),
        "L-7A658B76": ("Storage for General Purpose SSD (gp3) volumes, in TiB", 50, "None"),
        "L-D18FCD1D": ("Storage for General Purpose SSD (gp2) volumes, in TiB", 50, "None"),
    },
    "autoscaling": {
        "L-CDE20ADC": ("Auto Scaling groups per region", 500, "None"),
    },
    "appstream2": {
        "L-A8B8B901": ("Stacks", 10, "None"),
        "L-3FEADC0C": ("Fleets", 10, "None"),
        "L-KILN0001": ("Accelerated.g4dn.xlarge fleet instances", 0, "None"),
        "L-KILN0002": ("stream.graphics.g4dn.xlarge image builder instances", 0, "None"),
    },
}
"""Service → code → name, value, unit. AWS's names and codes; the values are an account's that was raised, and
a new account's of G and VT instances is 0. AppStream has a quota for each size of instance: two stand here
under codes of ours, since the guide lists the sizes and not their codes."""

control.setting("quotas", {})
"""``service/code``, or ``account/region/service/code`` → value."""


def value(account: str, region: str, service: str, code: str) -> float | None:
    """What a quota allows; None where a test has set nothing and none is known."""
    said = control.SETTINGS["quotas"]
    for name in (f"{account}/{region}/{service}/{code}", f"{service}/{code}"):
        if name in said:
            return float(said[name])
    known = QUOTAS.get(service, {}).get(code)
    return float(known[1]) if known else None


def _quota(account: str, region: str, service: str, code: str, *, applied: bool) -> dict[str, Any]:
    name, default, unit = QUOTAS[service][code]
    found = value(account, region, service, code) if applied else default
    owner = account if applied else ""
    return {
        "ServiceCode": service,
        "ServiceName": service,
        "QuotaArn": f"arn:aws:servicequotas:{region}:{owner}:{service}/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": found,
        "Unit": unit,
        "Adjustable": True,
        "GlobalQuota": False,
    }


def _one(asked: Asked, account: str, *, applied: bool) -> Answer:
    service, code = asked.params["ServiceCode"], asked.params["QuotaCode"]
    if code not in QUOTAS.get(service, {}):
        raise RefusedError(
            400, "NoSuchResourceException", f"The request failed because {service} has no {code}"
        )
    return own.answer({"Quota": _quota(account, asked.region, service, code, applied=applied)})


def _all(asked: Asked, account: str, *, applied: bool) -> Answer:
    service = asked.params["ServiceCode"]
    if service not in QUOTAS:
        raise RefusedError(400, "NoSuchResourceException", f"There is no service {service}")
    found = [_quota(account, asked.region, service, code, applied=applied) for code in QUOTAS[service]]
    return own.answer({"Quotas": found})


def install() -> None:
    """Answer in place of moto, and limit what is started."""
    name = "service-quotas"
    own.operation(name, "GetServiceQuota", lambda asked, who: _one(asked, who, applied=True))
    own.operation(name, "GetAWSDefaultServiceQuota", lambda asked, who: _one(asked, who, applied=False))
    own.operation(name, "ListServiceQuotas", lambda asked, who: _all(asked, who, applied=True))
    own.operation(name, "ListAWSDefaultServiceQuotas", lambda asked, who: _all(asked, who, applied=False))
    from tests.emulator import launching

    launching.LIMITS.append(lambda ec2, code: value(ec2.account_id, ec2.region_name, "ec2", code))
