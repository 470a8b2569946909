"""Planted defects make ``kiln prove`` refuse, by the checks that are about them and no others.

Some of the table, each end to end; tests/defects/test_every_check.py has them all, without ``kiln prove``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import manifest, paths
from kiln.manifest import Proof
from scripts import layer
from tests.defects.campaign import Run
from tests.defects.plant import DEFECTS

KILN = Path(sys.executable).parent / "kiln"
IMAGE = "monai-label"
NAMES = (
    "ssh host key",
    "authorized_keys",
    "filled machine-id",
    "world-writable file",
    "service disabled",
    "broken venv",
    "build mirror in apt's sources",
    "wrong owner of the app",
)


@pytest.fixture(scope="module")
def proven() -> Path:
    """The image as it was baked and proven."""
    latest = paths.build_dir() / IMAGE / "latest"
    assert (latest / "proof.json").exists(), "there is no proven image: run make bake"
    return latest.resolve()


@pytest.fixture
def copy(proven: Path, tmp_path: Path) -> Path:
    """A build folder that holds the version again, with a root of its own and the real one as latest."""
    folder = tmp_path / "build" / IMAGE
    again = folder / proven.name
    again.mkdir(parents=True)
    for name in ("manifest.json", "base.lock", "sbom.cdx.json"):
        (again / name).write_bytes((proven / name).read_bytes())
    (again / "image.qcow2").symlink_to(proven / "image.qcow2")
    (again / "root").symlink_to(layer.merged(tmp_path / "layer"))
    earlier = folder / "20000101T000000Z-00000000"
    earlier.mkdir()
    (folder / "latest").symlink_to(earlier.name)
    return again


def _prove(copy: Path, proven: Path, defect: str) -> subprocess.CompletedProcess[str]:
    """Run kiln prove over a copy-on-write layer in which a defect was planted."""
    place = copy.parents[2] / "layer"
    plant = [sys.executable, "-m", "tests.defects.plant", str(layer.merged(place)), defect]
    prove = [str(KILN), "prove", f"{IMAGE}@{copy.name}"]
    inner = ["sh", "-c", f"{shlex.join(plant)} && exec {shlex.join(prove)}"]
    return subprocess.run(
        layer.command(proven / "root", place, inner),
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        env={**os.environ, "KILN_BUILD": str(copy.parents[1])},
        timeout=900,
    )


@pytest.mark.parametrize("name", NAMES)
def test_defect_is_refused_and_named(name: str, copy: Path, proven: Path) -> None:
    defect = DEFECTS[name]
    done = _prove(copy, proven, name)
    assert done.returncode == 3, done.stderr
    assert defect.named[0] in done.stderr.splitlines()[-2], done.stderr
    proof = Proof.model_validate_json((copy / "proof.json").read_bytes())
    assert proof.verdict == "refused"
    assert proof.boot is None, "a refused root was booted"
    assert Run((defect,), tuple(proof.checks)).verdict(defect) == ""
    assert (copy.parent / "latest").readlink().name == "20000101T000000Z-00000000", "latest moved"


def test_the_real_image_was_left_as_it_was(proven: Path) -> None:
    """The layers took every defect: the manifest's disk and listing are still those of the proof."""
    proof = Proof.model_validate_json((proven / "proof.json").read_bytes())
    assert proof.verdict == "passed"
    assert proof.manifest_digest == manifest.sha256_file(proven / "manifest.json")
    assert not (proven / "root/usr/local/share/anybody.conf").exists()
