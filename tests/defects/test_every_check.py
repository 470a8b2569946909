"""Every static check sees its defects, planted in layers over the real root: those fail it, no other does.

In a few groups that share a layer; KILN_CAMPAIGN=whole plants each in a layer of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import paths
from scripts import checks, layer
from tests.defects import campaign, rows
from tests.defects.campaign import Run, name_of
from tests.defects.defect import Defect, Plant, change, gone, several, write

WHOLE = os.environ.get("KILN_CAMPAIGN") == "whole"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return list(campaign.every_run(tmp_path_factory.mktemp("defects"), whole=WHOLE))


def test_every_check_has_a_row_and_every_row_its_checks() -> None:
    assert {name for row in rows.STATIC for name in row.checks} == campaign.written("static")


def test_no_two_rows_have_one_name() -> None:
    names = [row.name for row in rows.STATIC]
    assert sorted(set(names)) == sorted(names)


def test_an_image_has_every_role_that_has_rows() -> None:
    planted = {role for role, module in rows.ROLES.items() if getattr(module, "STATIC", [])}
    assert planted <= {role for roles in campaign.images().values() for role in roles}


@pytest.mark.parametrize("row", rows.STATIC, ids=lambda row: row.name)
def test_defect_is_refused_by_its_checks_alone(runs: list[Run], row: Defect) -> None:
    run = next(run for run in runs if row in run.planted)
    assert run.verdict(row) == ""


def test_every_case_of_a_parametrised_check_was_seen_to_fail(runs: list[Run]) -> None:
    cases = {check.id for run in runs for check in run.checks}
    failed = {check.id for run in runs for check in run.checks if check.outcome == "failed"}
    assert sorted(cases - failed) == []
    assert {name_of(check) for run in runs for check in run.checks} <= campaign.written("static")


# An AMI brings fstab and grub.cfg of its own: GRUB's settings name each kernel again for recovery.
PARTUUID = "0a1b2c3d-0001-4000-8000-000000000001"
AMI: dict[str, Plant] = {
    "release": change("etc/image-release", "^BASE=.*", "BASE=ami-0123456789abcdef0"),
    "settings": write("etc/default/grub", "GRUB_TIMEOUT=0\n"),
    "fstab": write("etc/fstab", f"PARTUUID={PARTUUID} / ext4 rw,discard,errors=remount-ro 0 1\n"),
    "grub.cfg": write(
        "boot/grub/grub.cfg",
        "".join(
            f"menuentry 'Debian' {{\n\tlinux\t/vmlinuz root=PARTUUID={PARTUUID} ro {mode}\n}}\n"
            for mode in ("quiet", "single")
        ),
    ),
}
BOOT = ("test_kernel_is_the_one_that_is_booted", "test_root_is_found_by_one_partuuid")
AMI_DEFECTS: dict[str, tuple[Plant, *tuple[str, ...]]] = {
    # Nothing but the name of its base says that this root is no local one.
    "claim": (gone("etc/default/grub"), "an AMI's GRUB is missing"),
    "neither": (
        several(write("boot/grub/grub.cfg", "set timeout=0\n"), write("etc/fstab", "")),
        "names 0 kernels",
        "names no root partition",
    ),
    "another": (
        several(
            change("boot/grub/grub.cfg", "/vmlinuz(.* single)", r"/vmlinuz-5.10\1"),
            change("boot/grub/grub.cfg", "PARTUUID=....(.* single)", r"PARTUUID=0000\1"),
        ),
        "boots /vmlinuz-5.10",
        "0000",
    ),
}


@pytest.mark.parametrize("defect", [None, *AMI_DEFECTS])
def test_root_of_an_ami_boots_by_its_own_settings(tmp_path: Path, defect: str | None) -> None:
    place = tmp_path / "layer"
    merged = layer.merged(place)
    plant = [
        sys.executable,
        "-m",
        "tests.defects.test_every_check",
        str(merged),
        *([defect] if defect else []),
    ]
    subprocess.run(layer.command(campaign.sealed_root(), place, plant), cwd=paths.ROOT, check=True)
    found = checks.run(
        "static", ["base"], tmp_path / "junit.xml", tmp_path / "log", options=["-k", " or ".join(BOOT)],
        env={"KILN_ROOT": str(merged)}, wrap=layer.command(campaign.sealed_root(), place, []),
    )  # fmt: skip
    assert sorted(check.id.rpartition("::")[2] for check in found) == sorted(BOOT)
    wanted = "failed" if defect else "passed"
    assert [check.message for check in found if check.outcome != wanted] == []
    said = " ".join(check.message for check in found)
    assert [words for words in (AMI_DEFECTS[defect][1:] if defect else ()) if words not in said] == []


if __name__ == "__main__":
    place, *named = sys.argv[1:]
    for each in (*AMI.values(), *(AMI_DEFECTS[name][0] for name in named)):
        each(Path(place))
