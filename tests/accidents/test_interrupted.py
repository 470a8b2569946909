"""Ctrl-C and kill −9 in every stage of a bake: nothing stays that the next run does not clear."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kiln import manifest, paths
from tests.accidents.bakery import NOTHING, STAGES, Bakery, stages

# The whole campaign, both signals in each stage, runs under `make bench`.
WHOLE = os.environ.get("KILN_CAMPAIGN") == "whole"
SIGNALS = (signal.SIGINT, signal.SIGKILL)
FAR = ("live", "shutdown", "second boot")
"""Each lies behind a whole boot by emulation, minutes into a proof: in the whole campaign only."""
CASES = [
    (stage, sig)
    for number, stage in enumerate(STAGES)
    if WHOLE or stage not in FAR
    for sig in (SIGNALS if WHOLE else SIGNALS[number % 2 : number % 2 + 1])
]


@pytest.fixture(scope="module")
def bakery(tmp_path_factory: pytest.TempPathFactory) -> Bakery:
    return Bakery(tmp_path_factory.mktemp("build"))


def _settled(bakery: Bakery) -> dict[str, list[str]]:
    """What is left once the children of a killed kiln have had time to end."""
    deadline = time.monotonic() + 60
    while bakery.processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    return bakery.left()


@pytest.mark.parametrize(("stage", "sig"), CASES, ids=[f"{stage}-{sig.name}" for stage, sig in CASES])
def test_interrupted(bakery: Bakery, stage: str, sig: signal.Signals) -> None:
    done = bakery.interrupt(stage, sig)
    if sig == signal.SIGINT:
        assert done.returncode == 130, done.stdout
        assert "Traceback" not in done.stdout
        assert _settled(bakery) == NOTHING
    else:
        assert done.returncode == -signal.SIGKILL, done.stdout
        bakery.remember()
        # kiln could not tidy up; its children ended with it.
        assert _settled(bakery)["processes"] == []
    assert not (bakery.folder / "latest").exists()


def test_the_next_run_clears_and_finishes(bakery: Bakery) -> None:
    done = bakery.kiln("bake", "tiny")
    assert done.returncode == 0, done.stderr
    assert bakery.left() == NOTHING
    # No stage goes without its accidents; driver, native and client are the real image's.
    assert bakery.stages | stages(done.stderr) == set(STAGES)
    # A run killed in its proof left a whole version, which is proven and not baked again.
    assert len(list(bakery.folder.glob("2*/manifest.json"))) == 1
    assert (bakery.folder / "latest/proof.json").exists()


@pytest.mark.parametrize("sig", SIGNALS if WHOLE else SIGNALS[:1])
def test_interrupted_while_the_base_is_made(tmp_path: Path, sig: signal.Signals) -> None:
    bakery = Bakery(tmp_path / "build", {"KILN_CACHE": str(tmp_path / "cache")})
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/apt").symlink_to(paths.cache_dir() / "apt")
    done = bakery.interrupt("base", sig, after=8)
    assert "mmdebstrap, " in done.stdout, done.stdout
    if sig == signal.SIGKILL:
        bakery.remember()
        assert bakery.interrupt("packer", signal.SIGINT).returncode == 130
    assert _settled(bakery) == NOTHING
    assert bool(list((tmp_path / "cache/base").glob("*.tar"))) is (sig == signal.SIGKILL)


def test_unchanged_says_so_and_bakes_nothing(bakery: Bakery) -> None:
    before = sorted(p.name for p in bakery.folder.iterdir())
    done = bakery.kiln("bake", "tiny")
    assert done.returncode == 0, done.stderr
    assert "unchanged" in done.stderr
    assert sorted(p.name for p in bakery.folder.iterdir()) == before


def test_boot_gives_an_address_and_ends_on_ctrl_c(bakery: Bakery) -> None:
    image = bakery.folder / "latest/image.qcow2"
    before = manifest.sha256_file(image)
    child = bakery.start("boot", "tiny")
    assert child.stdout is not None
    said = []
    for line in child.stdout:
        said.append(line)
        if line.startswith("ssh   "):
            command = shlex.split(line.removeprefix("ssh   ").rpartition("(")[0])
            done = subprocess.run([*command, "cat /etc/image-release"], capture_output=True, text=True)
            assert (bakery.folder / "latest").readlink().name in done.stdout, done.stderr
        if "Ctrl-C stops it" in line:
            break
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=180)
    assert child.returncode == 0, "".join(said) + rest
    assert any(line.startswith("ssh   ") for line in said)
    assert _settled(bakery) == NOTHING
    assert manifest.sha256_file(image) == before
