"""What differs between two versions, from their manifests."""

from __future__ import annotations

from typing import Any

from kiln.manifest import Manifest
from launch import contents
from tests.unit import contract


def _manifest(
    *, packages: dict[str, str] | None = None, files: dict[str, str] | None = None, **facts: Any
) -> Manifest:
    made = contract.made()
    update = dict(facts)
    if packages is not None:
        update["packages"] = packages
    changed = made.model_copy(update={"facts": made.facts.model_copy(update=update)})
    if files is None:
        return changed
    return changed.model_copy(update={"inputs": made.inputs.model_copy(update={"files": files})})


def test_the_same_is_said_to_be_the_same() -> None:
    found = contents.compare(_manifest(), _manifest())
    assert found.lines() == ["the same packages, files and facts"]


def test_facts_and_packages_are_told_by_name() -> None:
    before = _manifest(
        packages={"curl": "1", "nginx": "1.22", "gone": "1"}, torch="2.9.0", settings_schemas=[1]
    )
    after = _manifest(
        packages={"curl": "2", "nginx": "1.22", "fresh": "1"}, torch="2.10.0", settings_schemas=[1, 2]
    )
    lines = contents.compare(before, after).lines()
    assert "torch 2.9.0 → 2.10.0" in lines
    assert "settings schemas 1 → 1, 2" in lines
    assert "packages: 1 new (fresh), 1 gone (gone), 1 changed (curl 1 → 2)" in lines


def test_our_files_are_named_without_digests() -> None:
    before = _manifest(files={"ansible/a.yml": "a" * 64, "kiln.toml": "b" * 64})
    after = _manifest(files={"ansible/a.yml": "c" * 64, "kiln.toml": "b" * 64})
    found = contents.compare(before, after)
    assert found.lines() == ["our files: 1 changed (ansible/a.yml)"]
    assert found.as_json()["our_files"] == {"ansible/a.yml": {"before": "a" * 64, "after": "c" * 64}}


def test_a_long_list_says_how_many_more() -> None:
    after = _manifest(packages={f"p{number}": "1" for number in range(20)})
    (line,) = [each for each in contents.compare(_manifest(packages={}), after).lines() if "packages" in each]
    assert "20 new" in line and line.endswith("and 14 more)")
