"""The module that holds packages: what is matched, what is held already, what is not there."""

from __future__ import annotations

from tests.unit.test_seal_tree import load

hold_packages = load("hold_packages")

SAID = """\
adduser\t\t\t\tinstall
libcuda1:amd64\t\t\tinstall
libnvidia-ml1:amd64\t\thold
linux-image-cloud-amd64\t\tinstall
nvidia-smi\t\t\tinstall
nvidia-kernel-dkms\t\tdeinstall
"""


def test_what_is_gone_is_not_selected() -> None:
    assert "nvidia-kernel-dkms" not in hold_packages.selections(SAID)


def test_matched_packages_are_held_but_those_that_are() -> None:
    there = hold_packages.selections(SAID)
    names, empty = hold_packages.to_hold(there, ["*nvidia*", "libcuda1"])
    assert (names, empty) == (["libcuda1:amd64", "nvidia-smi"], [])


def test_nothing_is_left_to_do_the_second_time() -> None:
    there = dict.fromkeys(hold_packages.selections(SAID), "hold")
    assert hold_packages.to_hold(there, ["*"]) == ([], [])


def test_pattern_without_a_package_is_told() -> None:
    assert hold_packages.to_hold(hold_packages.selections(SAID), ["linux-image-*", "kiln-*"]) == (
        ["linux-image-cloud-amd64"],
        ["kiln-*"],
    )
