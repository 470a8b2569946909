"""What the channel ``stable`` refuses (house plan, The contract): judged by the contract's files alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date

from kiln.config import Config
from kiln.manifest import Built, Check, Proof, model_of
from launch.plan import Refusal
from launch.records import MANIFEST, PROOF, Records

NAME = "stable"
"""The one channel with rules of its own: what people work with names it."""

FACTS = {
    ("weights", "random"): 'bake it with weights that are pinned: kiln pins add, then weights = "pinned"',
    ("weights", "test"): "bake it with weights that are pinned; those of a test label nothing",
    ("slicer", "stand-in"): "bake it with 3D Slicer itself: its url and sha256 in kiln.toml",
}
"""Fact and its value in the manifest that stable refuses → what to do."""


def judge(records: Records, config: Config, image: str, version: str, today: date) -> list[Refusal]:
    """Judge a version for ``stable``.

    Parameters
    ----------
    records, config:
        The bucket, and kiln.toml, whose waivers count.
    image, version:
        Which.
    today:
        A waiver counts to the end of its last day.

    Returns
    -------
    list of Refusal
        Empty where nothing is against it.

    Raises
    ------
    KilnError
        A record cannot be read.
    """
    name = f"{image}@{version}"
    body = records.get(records.version_key(image, version, MANIFEST))
    if body is None:
        hint = f"publish it: kiln publish {name}"
        return [Refusal("manifest-missing", f"there is no manifest of {name} among the records", hint)]
    manifest = records.parsed(records.version_key(image, version, MANIFEST), body, model_of(body))
    found = list(_facts(name, manifest))
    if not records.has_sbom(image, version):
        hint = f"kiln bake makes it and kiln publish {name} brings it"
        found.append(Refusal("sbom-missing", f"{name} has no list of its components", hint))
    proof = records.read(records.version_key(image, version, PROOF), Proof)
    again = f"prove it and publish the proof: kiln prove {name}, kiln publish {name}"
    if proof is None:
        return [*found, Refusal("proof-missing", f"{name} has no proof", again)]
    if (proof.image, proof.version, proof.manifest_digest) != (
        image,
        version,
        hashlib.sha256(body).hexdigest(),
    ):
        return [*found, Refusal("proof-stale", f"the proof of {name} is of another manifest", again)]
    if proof.verdict != "passed":
        found.append(
            Refusal("proof-refused", f"the proof of {name} was refused", "bake it anew without that")
        )
    return [*found, *_checks(proof, config, today)]


def _facts(name: str, manifest: Built) -> Iterator[Refusal]:
    for (fact, value), hint in FACTS.items():
        if getattr(manifest.facts, fact) == value:
            yield Refusal(f"{fact}-{value}", f"{name} has {fact}: {value}", hint)


def _checks(proof: Proof, config: Config, today: date) -> Iterator[Refusal]:
    """Judge the checks; a waived one passes while kiln.toml has its waiver, and the day has not passed."""
    waivers = {waiver.check: waiver.until for waiver in config.waiver}
    for check in proof.checks:
        if check.outcome == "waived" and check.waiver is not None:
            yield from _waived(check, check.waiver.check, waivers, today)
        elif check.keeps_from_stable(today):
            text = f": {check.message}" if check.message else ""
            yield Refusal(
                "check-refused", f"{check.id} is {check.outcome}{text}", "bake it anew without that"
            )


def _waived(check: Check, rule: str, waivers: dict[str, date], today: date) -> Iterator[Refusal]:
    until = waivers.get(rule)
    if until is None:
        yield Refusal(
            "waiver-missing",
            f"{check.id} was waived, and kiln.toml has no waiver of {rule} any more",
            f'bake it without that, or add [[waiver]] with check = "{rule}", a reason and a day',
        )
    elif today > until:
        yield Refusal(
            "waiver-expired",
            f"{check.id} was waived until {until}, and that day has passed",
            f"bake it without that, or give the waiver of {rule} in kiln.toml a later day, with the reason",
        )
